//! A row: one tensor of a step, its arrays as pointers and the order in which their elements are visited.
#![allow(unsafe_code)]

use std::ptr;

use super::{
    bits::Mask,
    coded::{Coded, STATE_BLOCK, StateCodec},
    tensors::Tensor,
};
use crate::{
    array::{
        Array,
        buffer::{Buffer, STAGE},
        is_in_place,
        operand::Operand,
    },
    dispatch,
    dtype::{DType, Values},
    layout::Walk,
    simd::Isa,
};

/// State arrays a rule may have.
pub const MAX_STATE: usize = 4;

/// Places of a row's operands; the state's slots are in between.
pub(super) const PARAM: usize = 0;
pub(super) const GRAD: usize = 1;
pub(super) const STATE: usize = 2;
pub(super) const EMA: usize = STATE + MAX_STATE;
pub(super) const SHADOW: usize = EMA + 1;
pub(super) const OPERANDS: usize = SHADOW + 1;

/// Where the codes and the scales of a state array lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct CodedAt {
    pub(super) codec: StateCodec,
    codes: *mut u8,
    scales: *mut f32,
}

impl CodedAt {
    fn new(coded: &Coded) -> Self {
        Self {
            codec: coded.codec,
            codes: ptr::with_exposed_provenance_mut(coded.codes.address),
            scales: ptr::with_exposed_provenance_mut(coded.scales.address),
        }
    }

    /// The codes of elements `start..start + len`, and the scales of their blocks.
    ///
    /// # Safety
    /// The arrays have them in C order, `start` begins a block, and nobody else uses them for `'a`.
    #[inline(always)]
    pub(super) unsafe fn slices<'a>(self, start: usize, len: usize) -> (&'a mut [u8], &'a mut [f32]) {
        let (first, blocks) = (start / STATE_BLOCK, len.div_ceil(STATE_BLOCK));
        // SAFETY: as the caller promises.
        unsafe {
            let codes = std::slice::from_raw_parts_mut(self.codes.add(start), len);
            (codes, std::slice::from_raw_parts_mut(self.scales.add(first), blocks))
        }
    }

    /// Where those lie.
    pub(super) fn addresses(self, start: usize, len: usize) -> [std::ops::Range<usize>; 2] {
        let codes = self.codes.addr() + start;
        let scales = self.scales.addr() + start / STATE_BLOCK * size_of::<f32>();
        [codes..codes + len, scales..scales + len.div_ceil(STATE_BLOCK) * size_of::<f32>()]
    }
}

/// One tensor of a step.
#[derive(Debug)]
pub struct Row {
    /// Index of the tensor in its optimizer.
    pub tensor: usize,
    /// Elements.
    pub len: usize,
    /// Elements of a unit: what belongs to one index of the first axis; all of them below two axes.
    pub unit: usize,
    /// The type in which it is computed.
    pub compute: DType,
    pub(super) operands: [Operand; OPERANDS],
    pub(super) coded: [Option<CodedAt>; MAX_STATE],
    pub(super) factors: Option<Factors>,
    pub(super) mask: Option<Mask>,
    /// The gradient from its first element on, whatever the common order starts with.
    pub(super) grad_base: Operand,
    /// The common order of all arrays; `None` if they all are dense and aligned in it.
    pub(super) walk: Option<Box<Walk>>,
    /// C order of the gradient; `None` if it is dense and aligned in it.
    pub(super) grad_walk: Option<Box<Walk>>,
}

// SAFETY: a row's pointers are followed only through `Rows`, whose maker promises that the arrays are the rows' alone.
unsafe impl Send for Row {}
// SAFETY: as above; `Rows` hands out each chunk once, and chunks do not meet.
unsafe impl Sync for Row {}

impl Row {
    /// Every array in C order without gaps, each element on its boundary.
    #[must_use]
    pub fn plain(tensor: usize, arrays: &Tensor, address: usize, dtype: DType) -> Self {
        let grad = Operand::at(address, dtype);
        let mut row = Self::of(tensor, arrays);
        for (operand, array) in row.operands.iter_mut().zip(arrays.present(None)) {
            *operand = array.map_or(Operand::ABSENT, |array| Operand::new(array, 0));
        }
        row.operands[GRAD] = grad;
        row.grad_base = grad;
        row
    }

    /// Any layouts: the arrays are visited in C order if elements are counted, else in the order of the parameter's memory;
    /// the gradient's sums in C order.
    #[must_use]
    pub fn walked(tensor: usize, arrays: &Tensor, grad: Option<&Array>, counted: bool) -> Self {
        let present = arrays.present(grad);
        let strides = present.map(|array| &array.unwrap_or(&arrays.param).layout.strides[..]);
        let shape = &arrays.param.layout.shape;
        let walk = if counted { Walk::logical(shape, &strides) } else { Walk::by_memory(shape, &strides) };
        let dense = present.iter().enumerate().all(|(k, array)| array.is_none_or(|array| is_in_place(&walk, k, array)));
        let mut row = Self::of(tensor, arrays);
        for (k, array) in present.into_iter().enumerate() {
            let start = if dense { walk.start(k) } else { 0 };
            row.operands[k] = array.map_or(Operand::ABSENT, |array| Operand::new(array, start));
        }
        row.walk = (!dense).then(|| Box::new(walk));
        if let Some(reading) = grad.map(|grad| Self::reading(tensor, grad)) {
            (row.grad_base, row.grad_walk) = (reading.grad_base, reading.grad_walk);
        }
        row
    }

    /// A row without operands.
    fn of(tensor: usize, arrays: &Tensor) -> Self {
        let (shape, len) = (&arrays.param.layout.shape, arrays.param.layout.len());
        Self {
            tensor,
            len,
            unit: if shape.len() > 1 { len / shape[0].max(1) } else { len },
            compute: arrays.param.dtype.compute(),
            operands: [Operand::ABSENT; OPERANDS],
            coded: std::array::from_fn(|k| arrays.coded.get(k)?.as_ref().map(CodedAt::new)),
            factors: arrays.factors.as_ref().map(|factors| Factors::new(shape, factors)),
            mask: arrays.mask.clone(),
            grad_base: Operand::ABSENT,
            walk: None,
            grad_walk: None,
        }
    }

    /// A gradient alone, computed in its own type.
    #[must_use]
    pub fn reading(tensor: usize, grad: &Array) -> Self {
        let walk = Walk::logical(&grad.layout.shape, &[&grad.layout.strides]);
        Self {
            tensor,
            len: grad.layout.len(),
            unit: grad.layout.len(),
            compute: grad.dtype.compute(),
            operands: [Operand::ABSENT; OPERANDS],
            coded: [None; MAX_STATE],
            factors: None,
            mask: None,
            walk: None,
            grad_base: Operand::new(grad, 0),
            grad_walk: (!is_in_place(&walk, 0, grad)).then(|| Box::new(walk)),
        }
    }

    /// Elements of the gradient in C order, in place; `None` if they must be staged.
    #[inline(always)]
    pub(super) fn grad_values(&self, start: usize, len: usize) -> Option<Values<'_>> {
        assert!(start + len <= self.len, "a piece ends inside its row");
        // SAFETY: dense and aligned in C order, inside the array, and a step writes no gradient.
        self.grad_walk.is_none().then(|| unsafe { self.grad_base.values(start, len) })
    }

    /// Elements of the parameter in C order, in place; `None` if they must be staged. The row's elements are counted.
    #[inline(always)]
    pub(super) fn param_values(&self, start: usize, len: usize) -> Option<Values<'_>> {
        assert!(start + len <= self.len, "a piece ends inside its row");
        // SAFETY: dense and aligned in C order, inside the array, and nobody writes it while gradients are read.
        self.walk.is_none().then(|| unsafe { self.operands[PARAM].values(start, len) })
    }

    /// Gathers elements of the parameter in C order, zeros behind them. The row's elements are counted.
    pub(super) fn gather_param(&self, start: usize, len: usize, stage: &mut Buffer) {
        assert!(start + len <= self.len && len <= STAGE, "a staged piece ends inside its row");
        stage.clear();
        // SAFETY: the elements are inside the array, and nobody writes it while gradients are read.
        unsafe { self.operands[PARAM].read(self.walk.as_deref().map(|walk| (walk, PARAM)), start, len, stage) };
    }

    /// Gathers elements of the gradient in C order, zeros behind them.
    pub(super) fn gather_grad(&self, start: usize, len: usize, stage: &mut Buffer) {
        assert!(start + len <= self.len && len <= STAGE, "a staged piece ends inside its row");
        stage.clear();
        // SAFETY: the elements are inside the array, and a step writes no gradient.
        unsafe { self.grad_base.read(self.grad_walk.as_deref().map(|walk| (walk, 0)), start, len, stage) };
    }
}

/// Means of squared gradients over the rows and the columns of a tensor's last two axes.
#[derive(Clone, Debug)]
pub struct Factors {
    /// Rows of a matrix.
    pub height: usize,
    /// Columns of a matrix.
    pub width: usize,
    /// Matrices.
    pub count: usize,
    means: [(Operand, Walk); 2],
}

impl Factors {
    /// The means of a tensor of two or more axes.
    fn new(shape: &[usize], [rows, columns]: &[Array; 2]) -> Self {
        let (outer, matrix) = shape.split_at(shape.len().saturating_sub(2));
        let axis = |k: usize| matrix.get(k).copied().unwrap_or(1);
        let of = |array: &Array| {
            let walk = Walk::logical(&array.layout.shape, &[&array.layout.strides]);
            (Operand::new(array, 0), walk)
        };
        Self { height: axis(0), width: axis(1), count: outer.iter().product(), means: [of(rows), of(columns)] }
    }

    /// Replaces each stored mean (0: of rows, 1: of columns) by `new(number, old)`; returns these before they are stored.
    pub fn average(&mut self, isa: Isa, which: usize, numbers: &[f64], new: impl Fn(f64, f64) -> f64) -> Vec<f64> {
        let mut results = Vec::with_capacity(numbers.len());
        let ((operand, walk), mut stage) = (&self.means[which], Buffer::default());
        for (k, numbers) in numbers.chunks(STAGE).enumerate() {
            // SAFETY: the array has these elements, and the rows that lent `self` own it.
            unsafe { operand.read(Some((walk, 0)), k * STAGE, numbers.len(), &mut stage) };
            let mut stored = dispatch!(isa, simd => stage.numbers(simd));
            for (old, &number) in stored.iter_mut().zip(numbers) {
                *old = new(number, *old);
                results.push(*old);
            }
            dispatch!(isa, simd => stage.set_numbers(simd, &stored));
            // SAFETY: as above.
            unsafe { operand.write(Some((walk, 0)), k * STAGE, numbers.len(), &stage) };
        }
        results
    }
}
