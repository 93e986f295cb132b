//! Elements gathered on the stack.

use bytemuck::Pod;
use fearless_simd::prelude::*;

use crate::{
    dtype::{Compute, DType, Values, ValuesMut, load_native, store_native},
    simd::tile_len,
};

/// Elements that are gathered at a time where an array cannot be read in place.
pub const STAGE: usize = 128;

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

    /// Everything as float64.
    #[inline(always)]
    pub fn numbers<S: Simd>(&self, simd: S) -> [f64; STAGE] {
        let mut numbers = [0.0; STAGE];
        for at in (0..STAGE).step_by(tile_len::<S, f64>()) {
            store_native::<S, f64>(f64::load(simd, self.values(), at), &mut numbers, at);
        }
        numbers
    }

    /// Stores numbers, each rounded to the stored type.
    #[inline(always)]
    pub fn set_numbers<S: Simd>(&mut self, simd: S, numbers: &[f64; STAGE]) {
        for at in (0..STAGE).step_by(tile_len::<S, f64>()) {
            f64::store(simd, load_native(simd, numbers, at), &mut self.values_mut(), at);
        }
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

    /// The same to write.
    #[inline(always)]
    #[must_use]
    pub fn values_mut(&mut self) -> ValuesMut<'_> {
        match self.dtype {
            None => ValuesMut::Absent,
            Some(DType::F32) => ValuesMut::F32(self.elements_mut()),
            Some(DType::F64) => ValuesMut::F64(self.elements_mut()),
            Some(DType::Bf16) => ValuesMut::Bf16(self.elements_mut()),
            Some(DType::F16) => ValuesMut::F16(self.elements_mut()),
        }
    }
}
