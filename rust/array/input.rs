//! An array that is read in C order, whatever its layout.
#![allow(unsafe_code)]

use fearless_simd::prelude::*;

use super::{
    Array,
    buffer::{Buffer, STAGE},
    is_in_place,
    operand::Operand,
    reading::{Read, read},
};
use crate::{
    dtype::{Compute, DType, Values},
    layout::Walk,
};

/// An array to read.
#[derive(Debug)]
pub struct Input {
    operand: Operand,
    walk: Walk,
    len: usize,
    dtype: DType,
    is_slice: bool,
    is_rewritten: bool,
}

// SAFETY: the pointer is only read through, and the maker promises that nobody writes there meanwhile.
unsafe impl Send for Input {}
// SAFETY: as above.
unsafe impl Sync for Input {}

impl Input {
    /// The array; `is_rewritten` if a kernel replaces its elements, each after it was read: then they are copied out and
    /// never borrowed.
    ///
    /// # Safety
    /// Whenever a method runs the array must be valid, and nobody writes it but such a kernel.
    #[must_use]
    pub unsafe fn new(array: &Array, is_rewritten: bool) -> Self {
        let walk = Walk::logical(&array.layout.shape, &[&array.layout.strides]);
        Self {
            operand: Operand::new(array, 0),
            is_slice: is_in_place(&walk, 0, array),
            is_rewritten,
            walk,
            len: array.layout.len(),
            dtype: array.dtype,
        }
    }

    /// Elements.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// How its elements are stored.
    #[must_use]
    pub const fn dtype(&self) -> DType {
        self.dtype
    }

    /// Elements `start..start + len` as the compute type: themselves, or copied to `room`.
    #[inline(always)]
    pub fn block<'a, S: Simd, T: Compute>(
        &'a self,
        simd: S,
        start: usize,
        len: usize,
        room: &'a mut Vec<T>,
    ) -> &'a [T] {
        if let Some(values) = self.slice(start, len) {
            return values;
        }
        self.copy(simd, start, len, room);
        &room[..len]
    }

    /// Elements `start..start + len` themselves, if they are stored as the compute type and may be borrowed.
    #[inline(always)]
    #[must_use]
    pub fn slice<T: Compute>(&self, start: usize, len: usize) -> Option<&[T]> {
        if self.is_rewritten { None } else { self.values(start, len).and_then(T::slice) }
    }

    /// Elements `start..start + len` as they are stored, if they are a slice. What is rewritten may only be copied out.
    #[inline(always)]
    fn values(&self, start: usize, len: usize) -> Option<Values<'_>> {
        assert!(start + len <= self.len, "a block ends inside its array");
        // SAFETY: dense and aligned in C order, inside the array, and nobody writes these elements before they were read.
        self.is_slice.then(|| unsafe { self.operand.values(start, len) })
    }

    /// Elements `start..start + len` as the compute type in `room`, which grows as needed.
    #[inline(never)]
    pub fn copy<S: Simd, T: Compute>(&self, simd: S, start: usize, len: usize, room: &mut Vec<T>) {
        let padded = len.next_multiple_of(STAGE);
        if room.len() < padded {
            room.resize(padded, T::default());
        }
        read(simd, self, start, len, room, &mut Buffer::default());
    }
}

impl Input {
    /// All elements of a short array as the compute type.
    pub fn to_vec<S: Simd, T: Compute>(&self, simd: S) -> Vec<T> {
        let mut all = vec![];
        self.copy(simd, 0, self.len, &mut all);
        all.truncate(self.len);
        all
    }
}

impl Read for &Input {
    #[inline(always)]
    fn in_place(&self, start: usize, len: usize) -> Option<Values<'_>> {
        self.values(start, len)
    }

    fn gathered(&self, start: usize, len: usize, stage: &mut Buffer) {
        assert!(start + len <= self.len && len <= STAGE, "a staged block ends inside its array");
        stage.clear();
        // SAFETY: the elements are inside the array; they are copied before anybody writes them.
        unsafe { self.operand.read(Some((&self.walk, 0)), start, len, stage) };
    }
}
