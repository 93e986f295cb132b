//! An array that is written in C order, whatever its layout, in parts that different threads own.
#![allow(unsafe_code)]

use std::{marker::PhantomData, ops::Range};

use fearless_simd::prelude::*;

use super::{
    Array,
    buffer::{Buffer, STAGE},
    is_in_place,
    operand::Operand,
    reading::encode_all,
};
use crate::{
    dtype::{Compute, DType},
    layout::Walk,
};

/// An array to write.
#[derive(Debug)]
pub struct Output {
    operand: Operand,
    walk: Walk,
    len: usize,
    dtype: DType,
    is_slice: bool,
}

// SAFETY: the pointer is followed only through parts, which belong to one thread each.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

impl Output {
    /// The array.
    ///
    /// # Safety
    /// As long as this lives the array must be valid and used by nobody else, but for [`super::Input`]s that know that they
    /// are rewritten; no two indices of it share memory.
    #[must_use]
    pub unsafe fn new(array: &Array) -> Self {
        let walk = Walk::logical(&array.layout.shape, &[&array.layout.strides]);
        Self {
            operand: Operand::new(array, 0),
            is_slice: is_in_place(&walk, 0, array),
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

    /// A part for each end: from the end before it (from the start) to this one.
    pub fn parts(&mut self, ends: impl Iterator<Item = usize>) -> Vec<Part<'_>> {
        let mut start = 0;
        let part = |end: usize| {
            assert!(start <= end && end <= self.len, "parts follow each other");
            let range = std::mem::replace(&mut start, end)..end;
            Part { output: self, range, only: PhantomData }
        };
        ends.map(part).collect()
    }
}

/// Elements of an output that belong to the holder of this.
#[derive(Debug)]
pub struct Part<'a> {
    output: &'a Output,
    range: Range<usize>,
    only: PhantomData<&'a mut ()>,
}

impl Part<'_> {
    /// Elements `start..start + len` of the array as the compute type, if they are stored so; their old values may be there.
    #[inline(always)]
    pub fn slice<T: Compute>(&mut self, start: usize, len: usize) -> Option<&mut [T]> {
        self.check(start, len);
        if !self.output.is_slice {
            return None;
        }
        // SAFETY: dense and aligned in C order, inside the part, which is borrowed as a whole.
        T::into_slice_mut(unsafe { self.output.operand.values_mut(start, len) })
    }

    /// Lets `work` fill elements `start..start + len`: themselves, or `room`, which grows as needed and is then written, each
    /// element rounded once.
    #[inline(always)]
    pub fn fill<S: Simd, T: Compute>(
        &mut self,
        simd: S,
        start: usize,
        len: usize,
        room: &mut Vec<T>,
        work: impl FnOnce(&mut [T]),
    ) {
        let is_staged = self.slice::<T>(start, len).is_none();
        if is_staged && room.len() < len {
            room.resize(len, T::default());
        }
        let staged = if is_staged { &mut room[..len] } else { &mut [] };
        work(self.slice(start, len).unwrap_or(staged));
        if is_staged {
            self.put(simd, start, &room[..len]);
        }
    }

    /// Writes `x` from element `start` on, each element rounded once.
    #[inline(never)]
    pub fn put<S: Simd, T: Compute>(&mut self, simd: S, start: usize, x: &[T]) {
        self.check(start, x.len());
        let mut done = 0;
        if self.output.is_slice {
            done = x.len() - x.len() % STAGE;
            // SAFETY: dense and aligned in C order, inside the part, which is borrowed as a whole.
            encode_all(simd, &x[..done], &mut unsafe { self.output.operand.values_mut(start, done) });
        }
        let (mut stage, mut padded) = (Buffer::default(), [T::default(); STAGE]);
        stage.set_dtype(Some(self.output.dtype));
        for at in (done..x.len()).step_by(STAGE) {
            let count = STAGE.min(x.len() - at);
            padded[..count].copy_from_slice(&x[at..at + count]);
            encode_all(simd, &padded, &mut stage.values_mut());
            // SAFETY: inside the part, which is borrowed as a whole.
            unsafe { self.output.operand.write(Some((&self.output.walk, 0)), start + at, count, &stage) };
        }
    }

    fn check(&self, start: usize, len: usize) {
        assert!(self.range.start <= start && start + len <= self.range.end, "a block ends inside its part");
    }
}
