//! The arrays that a step writes, checked once, and the gradients, checked as they come.

use super::{
    bits::Mask,
    coded::Coded,
    row::{MAX_STATE, Row},
};
use crate::{
    array::{Array, is_aligned},
    dtype::DType,
    error::Error,
    layout::{Axes, Conflict, Layout, Territory, Walk},
};

/// A gradient: the plain case without shape and strides, which the caller has compared with the parameter's.
#[derive(Clone, Debug)]
pub enum Gradient {
    /// C-contiguous and aligned.
    Plain {
        /// Address of the first element.
        address: usize,
        /// How elements are stored.
        dtype: DType,
    },
    /// Anything else.
    Any(Array),
}

/// What a step does to one parameter.
#[derive(Debug)]
pub struct Tensor {
    /// The parameter, or its copy of full precision.
    pub param: Array,
    /// Its state; `None` where a rule does without.
    pub state: Vec<Option<Array>>,
    /// State that is kept as codes, in the places of the arrays that are not there; empty if there is none.
    pub coded: Vec<Option<Coded>>,
    /// Means of squared gradients over rows and columns instead of the first two states; C order without gaps.
    pub factors: Option<[Array; 2]>,
    /// Moving average of the parameter.
    pub ema: Option<Array>,
    /// The parameter in another storage type.
    pub shadow: Option<Array>,
    /// Which elements are kept.
    pub mask: Option<Mask>,
}

impl Tensor {
    /// A parameter and nothing else.
    #[must_use]
    pub const fn alone(param: Array) -> Self {
        Self { param, state: vec![], coded: vec![], factors: None, ema: None, shadow: None, mask: None }
    }

    /// The arrays in the order of a row's operands: parameter, gradient, state, moving average, shadow copy.
    #[must_use]
    pub fn present<'a>(&'a self, grad: Option<&'a Array>) -> [Option<&'a Array>; MAX_STATE + 4] {
        let slot = |k: usize| self.state.get(k).and_then(Option::as_ref);
        let [a, b, c, d] = [slot(0), slot(1), slot(2), slot(3)];
        [Some(&self.param), grad, a, b, c, d, self.ema.as_ref(), self.shadow.as_ref()]
    }

    /// Where the arrays that are written lie, in the same order, the means last but for codes and scales.
    pub fn written(&self) -> impl Iterator<Item = &Layout> {
        let arrays = self.present(None).into_iter().flatten().chain(self.factors.iter().flatten());
        let coded = self.coded.iter().flatten().flat_map(|coded| [&coded.codes, &coded.scales]);
        arrays.map(|array| &array.layout).chain(coded)
    }

    /// All arrays lie in C order without gaps, each element on its boundary.
    fn is_plain(&self) -> bool {
        self.present(None).into_iter().flatten().all(|array| {
            let walk = Walk::logical(&array.layout.shape, &[&array.layout.strides]);
            walk.is_dense(0, array.dtype.size()) && is_aligned(array.layout.address, array.dtype)
        })
    }
}

/// Tensors of one optimizer, checked once.
#[derive(Debug)]
pub struct Tensors {
    arrays: Vec<Tensor>,
    plain: Vec<bool>,
    /// Name of each array in the territory.
    names: Vec<String>,
    territory: Territory,
    /// Is each element known by its place in C order?
    counted: bool,
}

impl Tensors {
    /// Checks that no element is written twice; `names` are those of all arrays that are written, tensor by tensor in the
    /// order of [`Tensor::written`]. `counted`: something depends on the elements' places in C order.
    pub fn new(tensors: Vec<Tensor>, names: Vec<String>, counted: bool) -> Result<Self, Error> {
        let layouts = tensors.iter().flat_map(Tensor::written).cloned().collect();
        let territory = territory(layouts, &names)?;
        let plain = tensors.iter().map(Tensor::is_plain).collect();
        Ok(Self { arrays: tensors, plain, names, territory, counted })
    }

    /// Replaces the masks, one a tensor.
    pub fn set_masks(&mut self, masks: Vec<Option<Mask>>) {
        for (tensor, mask) in self.arrays.iter_mut().zip(masks) {
            tensor.mask = mask;
        }
    }

    /// Number of tensors.
    #[must_use]
    pub fn len(&self) -> usize {
        self.arrays.len()
    }

    /// No tensors?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.arrays.is_empty()
    }

    /// The row of a tensor and its gradient, which must not share an element with anything that the step writes.
    pub fn row(&self, tensor: usize, gradient: &Gradient) -> Result<Row, Error> {
        let arrays = &self.arrays[tensor];
        let len = arrays.param.layout.len();
        match gradient {
            Gradient::Plain { address, dtype } => {
                let shared = !self.territory.is_clear(*address, address + len * dtype.size());
                let array = || self.plain_array(tensor, *address, *dtype);
                if shared {
                    self.refuse_shared(tensor, &array())?;
                }
                Ok(if self.plain[tensor] {
                    Row::plain(tensor, arrays, *address, *dtype)
                } else {
                    Row::walked(tensor, arrays, Some(&array()), self.counts(tensor))
                })
            }
            Gradient::Any(array) => {
                self.refuse_shared(tensor, array)?;
                Ok(Row::walked(tensor, arrays, Some(array), self.counts(tensor)))
            }
        }
    }

    /// The row of a tensor that is changed without a gradient.
    #[must_use]
    pub fn row_without_grad(&self, tensor: usize) -> Row {
        Row::walked(tensor, &self.arrays[tensor], None, self.counts(tensor))
    }

    fn counts(&self, tensor: usize) -> bool {
        self.counted || self.arrays[tensor].mask.is_some() || !self.arrays[tensor].coded.is_empty()
    }

    fn plain_array(&self, tensor: usize, address: usize, dtype: DType) -> Array {
        let shape = self.arrays[tensor].param.layout.shape.clone();
        let mut strides = Axes::from_elem(0, shape.len());
        let mut step = dtype.size() as isize;
        for axis in (0..shape.len()).rev() {
            strides[axis] = step;
            step *= shape[axis] as isize;
        }
        Array { layout: Layout { address, item: dtype.size(), shape, strides }, dtype }
    }

    fn refuse_shared(&self, tensor: usize, gradient: &Array) -> Result<(), Error> {
        self.territory
            .find(&gradient.layout)
            .map_or(Ok(()), |other| Err(Error::GradOverlap { tensor, other: self.names[other].clone() }))
    }
}

/// Gradients that are written too must not share elements among themselves; `names` are theirs.
pub fn check_apart(gradients: &[Array], names: &[String]) -> Result<(), Error> {
    territory(gradients.iter().map(|array| array.layout.clone()).collect(), names).map(|_| ())
}

/// Arrays that are written, of these names; an error if an element is written twice.
pub fn territory(layouts: Vec<Layout>, names: &[String]) -> Result<Territory, Error> {
    Territory::new(layouts).map_err(|conflict| match conflict {
        Conflict::Within(i) => Error::SelfOverlap(names[i].clone()),
        Conflict::Between(i, j) => Error::Overlap { first: names[i].clone(), second: names[j].clone() },
    })
}
