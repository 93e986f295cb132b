//! Pieces of a row that the pipeline works on: slices in place, or elements gathered on the stack.

use bytemuck::Pod;

use crate::dtype::{DType, Values, ValuesMut};

/// Elements that are gathered at a time where an array cannot be read in place.
pub const STAGE: usize = 128;

/// The slices of a piece of a row.
#[derive(Debug)]
pub struct Piece<'a, const N: usize> {
    /// Parameter.
    pub param: ValuesMut<'a>,
    /// Gradient.
    pub grad: Values<'a>,
    /// State.
    pub state: [ValuesMut<'a>; N],
}

/// Room for [`STAGE`] elements on the stack, stored as in the array that they come from.
#[derive(Debug)]
pub struct Buffer {
    dtype: Option<DType>,
    words: [u64; STAGE],
}

impl Default for Buffer {
    fn default() -> Self {
        Self { dtype: None, words: [0; STAGE] }
    }
}

impl Buffer {
    /// From now on room for elements of that type, or for nothing; what is in it stays, as bits.
    #[inline(always)]
    pub const fn set_dtype(&mut self, dtype: Option<DType>) {
        self.dtype = dtype;
    }

    /// Zeros everywhere.
    #[inline(always)]
    pub fn clear(&mut self) {
        self.words.fill(0);
    }

    /// The room as elements of a plain type of the stored width.
    #[inline(always)]
    pub fn elements_mut<E: Pod>(&mut self) -> &mut [E] {
        bytemuck::cast_slice_mut(&mut self.words)
    }

    /// The same to read.
    #[inline(always)]
    #[must_use]
    pub fn elements<E: Pod>(&self) -> &[E] {
        bytemuck::cast_slice(&self.words)
    }

    /// All of it, to read.
    #[inline(always)]
    #[must_use]
    pub fn values(&self) -> Values<'_> {
        match self.dtype {
            None => Values::Absent,
            Some(DType::F32) => Values::F32(self.elements()),
            Some(DType::F64) => Values::F64(self.elements()),
            Some(DType::Bf16) => Values::Bf16(self.elements()),
            Some(DType::F16) => Values::F16(self.elements()),
        }
    }

    #[inline(always)]
    fn values_mut(&mut self) -> ValuesMut<'_> {
        match self.dtype {
            None => ValuesMut::Absent,
            Some(DType::F32) => ValuesMut::F32(self.elements_mut()),
            Some(DType::F64) => ValuesMut::F64(self.elements_mut()),
            Some(DType::Bf16) => ValuesMut::Bf16(self.elements_mut()),
            Some(DType::F16) => ValuesMut::F16(self.elements_mut()),
        }
    }
}

/// A [`Buffer`] for every array of a row.
#[derive(Debug)]
pub struct Staged<const N: usize> {
    /// Parameter.
    pub param: Buffer,
    /// Gradient.
    pub grad: Buffer,
    /// State.
    pub state: [Buffer; N],
}

impl<const N: usize> Default for Staged<N> {
    fn default() -> Self {
        Self { param: Buffer::default(), grad: Buffer::default(), state: std::array::from_fn(|_| Buffer::default()) }
    }
}

impl<const N: usize> Staged<N> {
    /// The staged elements as a piece.
    #[inline(always)]
    pub fn piece(&mut self) -> Piece<'_, N> {
        let mut state = [const { ValuesMut::Absent }; N];
        for (values, buffer) in state.iter_mut().zip(&mut self.state) {
            *values = buffer.values_mut();
        }
        Piece { param: self.param.values_mut(), grad: self.grad.values(), state }
    }
}
