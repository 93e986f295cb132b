//! The arrays that a step writes, checked once, and the gradients, checked as they come.

use super::table::Row;
use crate::{
    dtype::DType,
    error::Error,
    layout::{Conflict, Layout, Territory, Walk},
};

/// An array of the caller.
#[derive(Clone, Debug)]
pub struct Array {
    /// Where its elements are.
    pub layout: Layout,
    /// How they are stored.
    pub dtype: DType,
}

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

/// The arrays that a step writes.
#[derive(Debug)]
pub struct Tensor {
    /// The parameter.
    pub param: Array,
    /// Its state; `None` where a rule does without.
    pub state: Vec<Option<Array>>,
}

impl Tensor {
    /// All arrays lie in C order without gaps, each element on its boundary.
    fn is_plain(&self) -> bool {
        let plain = |array: &Array| {
            let walk = Walk::logical(&array.layout.shape, &array.layout.strides);
            walk.is_dense(0, array.dtype.size()) && is_aligned(array.layout.address, array.dtype)
        };
        plain(&self.param) && self.state.iter().flatten().all(plain)
    }
}

/// Is the address a multiple of the element's size?
#[must_use]
pub const fn is_aligned(address: usize, dtype: DType) -> bool {
    address.is_multiple_of(dtype.size())
}

/// Tensors of one optimizer, checked once.
#[derive(Debug)]
pub struct Tensors {
    arrays: Vec<Tensor>,
    plain: Vec<bool>,
    /// Name of each array in the territory.
    names: Vec<String>,
    territory: Territory,
}

impl Tensors {
    /// Checks that no element is written twice; `names` are those of each tensor's parameter and state, one after another.
    pub fn new(tensors: Vec<Tensor>, names: Vec<String>) -> Result<Self, Error> {
        let written = |tensor: &Tensor| -> Vec<Layout> {
            std::iter::once(&tensor.param)
                .chain(tensor.state.iter().flatten())
                .map(|array| array.layout.clone())
                .collect()
        };
        let territory =
            Territory::new(tensors.iter().flat_map(written).collect()).map_err(|conflict| match conflict {
                Conflict::Within(i) => Error::SelfOverlap(names[i].clone()),
                Conflict::Between(i, j) => Error::Overlap { first: names[i].clone(), second: names[j].clone() },
            })?;
        let plain = tensors.iter().map(Tensor::is_plain).collect();
        Ok(Self { arrays: tensors, plain, names, territory })
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
                    Row::walked(tensor, arrays, Some(&array()))
                })
            }
            Gradient::Any(array) => {
                self.refuse_shared(tensor, array)?;
                Ok(Row::walked(tensor, arrays, Some(array)))
            }
        }
    }

    /// The row of a tensor that is changed without a gradient.
    #[must_use]
    pub fn row_without_grad(&self, tensor: usize) -> Row {
        Row::walked(tensor, &self.arrays[tensor], None)
    }

    fn plain_array(&self, tensor: usize, address: usize, dtype: DType) -> Array {
        let shape = self.arrays[tensor].param.layout.shape.clone();
        let mut strides = vec![0; shape.len()];
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
