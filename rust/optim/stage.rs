//! Pieces of a row that the pipeline works on: slices in place, or elements gathered on the stack.

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

/// Up to [`STAGE`] elements on the stack, stored as in their array.
#[derive(Debug)]
pub enum Buffer {
    /// No array.
    Absent,
    /// float32.
    F32([f32; STAGE]),
    /// float64.
    F64([f64; STAGE]),
    /// bfloat16.
    Bf16([u16; STAGE]),
    /// float16.
    F16([u16; STAGE]),
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

impl<const N: usize> Staged<N> {
    /// The staged elements as a piece.
    pub fn piece(&mut self) -> Piece<'_, N> {
        let mut state = [const { ValuesMut::Absent }; N];
        for (values, buffer) in state.iter_mut().zip(&mut self.state) {
            *values = buffer.values_mut();
        }
        Piece { param: self.param.values_mut(), grad: self.grad.values(), state }
    }
}

impl Buffer {
    /// Zeros of that type, or nothing for no array.
    #[must_use]
    pub const fn new(dtype: Option<DType>) -> Self {
        match dtype {
            None => Self::Absent,
            Some(DType::F32) => Self::F32([0.0; STAGE]),
            Some(DType::F64) => Self::F64([0.0; STAGE]),
            Some(DType::Bf16) => Self::Bf16([0; STAGE]),
            Some(DType::F16) => Self::F16([0; STAGE]),
        }
    }

    /// Zeros everywhere.
    pub fn clear(&mut self) {
        match self {
            Self::Absent => {}
            Self::F32(x) => x.fill(0.0),
            Self::F64(x) => x.fill(0.0),
            Self::Bf16(x) | Self::F16(x) => x.fill(0),
        }
    }

    /// All of it, to read.
    #[must_use]
    pub fn values(&self) -> Values<'_> {
        match self {
            Self::Absent => Values::Absent,
            Self::F32(x) => Values::F32(x),
            Self::F64(x) => Values::F64(x),
            Self::Bf16(x) => Values::Bf16(x),
            Self::F16(x) => Values::F16(x),
        }
    }

    fn values_mut(&mut self) -> ValuesMut<'_> {
        match self {
            Self::Absent => ValuesMut::Absent,
            Self::F32(x) => ValuesMut::F32(x),
            Self::F64(x) => ValuesMut::F64(x),
            Self::Bf16(x) => ValuesMut::Bf16(x),
            Self::F16(x) => ValuesMut::F16(x),
        }
    }
}
