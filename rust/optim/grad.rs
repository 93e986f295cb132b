//! Gradients and parameters of a step, to read in C order.

use super::{bits::Bits, row::Row};
use crate::{
    array::{buffer::Buffer, reading::Read},
    dtype::{DType, Values},
};

/// A gradient of a step, to read.
#[derive(Clone, Copy, Debug)]
pub struct Grad<'a> {
    pub(super) row: &'a Row,
}

impl<'a> Grad<'a> {
    /// Index of the tensor in its optimizer.
    #[must_use]
    pub const fn tensor(self) -> usize {
        self.row.tensor
    }

    /// Elements.
    #[must_use]
    pub const fn len(self) -> usize {
        self.row.len
    }

    /// The type in which it is computed.
    #[must_use]
    pub const fn compute(self) -> DType {
        self.row.compute
    }

    /// Elements in C order, in place; `None` if they must be staged.
    #[inline(always)]
    #[must_use]
    pub fn values(self, start: usize, len: usize) -> Option<Values<'a>> {
        self.row.grad_values(start, len)
    }

    /// Elements of a unit.
    #[must_use]
    pub const fn unit(self) -> usize {
        self.row.unit
    }

    /// Which elements are kept, from `start` on; `None` if all are.
    #[inline(always)]
    #[must_use]
    pub fn kept(self, start: usize) -> Option<Bits<'a>> {
        self.row.mask.as_ref().map(|mask| mask.from(start))
    }

    /// The gradient's parameter in place of the gradient, for rows whose elements are counted.
    #[must_use]
    pub const fn param(self) -> Param<'a> {
        Param { row: self.row }
    }

    /// Gathers elements in C order, zeros behind them.
    pub fn gather(self, start: usize, len: usize, stage: &mut Buffer) {
        self.row.gather_grad(start, len, stage);
    }
}

impl Read for Grad<'_> {
    #[inline(always)]
    fn in_place(&self, start: usize, len: usize) -> Option<Values<'_>> {
        self.values(start, len)
    }

    fn gathered(&self, start: usize, len: usize, stage: &mut Buffer) {
        self.gather(start, len, stage);
    }
}

/// The parameter of a row whose elements are counted, to read.
#[derive(Clone, Copy, Debug)]
pub struct Param<'a> {
    row: &'a Row,
}

impl Read for Param<'_> {
    #[inline(always)]
    fn in_place(&self, start: usize, len: usize) -> Option<Values<'_>> {
        self.row.param_values(start, len)
    }

    fn gathered(&self, start: usize, len: usize, stage: &mut Buffer) {
        self.row.gather_param(start, len, stage);
    }
}
