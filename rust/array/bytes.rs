//! Arrays of bytes in any layout: codes that are read or written in C order.
#![allow(unsafe_code)]

use std::{marker::PhantomData, ops::Range, slice};

use super::operand::{read_elements, write_elements};
use crate::layout::{Layout, Walk};

/// Bytes and their order.
#[derive(Debug)]
struct Place {
    data: *mut u8,
    walk: Walk,
    len: usize,
    is_slice: bool,
}

impl Place {
    fn new(layout: &Layout) -> Self {
        assert!(layout.item == 1, "elements are bytes");
        let walk = Walk::logical(&layout.shape, &[&layout.strides]);
        let is_slice = walk.is_dense(0, 1);
        Self { data: std::ptr::with_exposed_provenance_mut(layout.address), walk, len: layout.len(), is_slice }
    }
}

/// An array of bytes to read.
#[derive(Debug)]
pub struct Bytes(Place);

// SAFETY: the pointer is only read through, and the maker promises that nobody writes there meanwhile.
unsafe impl Send for Bytes {}
// SAFETY: as above.
unsafe impl Sync for Bytes {}

impl Bytes {
    /// The array.
    ///
    /// # Safety
    /// Whenever a method runs, and as long as what it returns lives, the array must be valid and nobody writes there.
    #[must_use]
    pub unsafe fn new(layout: &Layout) -> Self {
        Self(Place::new(layout))
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len
    }

    /// Bytes `start..start + len`: themselves, or copied to `room`.
    pub fn block<'a>(&'a self, start: usize, len: usize, room: &'a mut Vec<u8>) -> &'a [u8] {
        let Place { data, walk, is_slice, .. } = &self.0;
        assert!(start + len <= self.0.len, "a block ends inside its array");
        if *is_slice {
            // SAFETY: dense and inside the array, and nobody writes there.
            return unsafe { slice::from_raw_parts(data.add(start), len) };
        }
        room.resize(len, 0);
        // SAFETY: inside the array, and nobody writes there.
        unsafe { read_elements(*data, Some((walk, 0)), start, room) };
        room
    }
}

/// An array of bytes to write.
#[derive(Debug)]
pub struct BytesMut(Place);

// SAFETY: the pointer is followed only through parts, which belong to one thread each.
unsafe impl Send for BytesMut {}
// SAFETY: as above.
unsafe impl Sync for BytesMut {}

impl BytesMut {
    /// The array.
    ///
    /// # Safety
    /// Whenever a part is filled the array must be valid and used by nobody else; no two indices of it share memory.
    #[must_use]
    pub unsafe fn new(layout: &Layout) -> Self {
        Self(Place::new(layout))
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len
    }

    /// A part for each end: from the end before it (from the start) to this one.
    pub fn parts(&mut self, ends: impl Iterator<Item = usize>) -> Vec<BytesPart<'_>> {
        let (mut start, place) = (0, &self.0);
        let part = |end: usize| {
            assert!(start <= end && end <= place.len, "parts follow each other");
            BytesPart { place, range: std::mem::replace(&mut start, end)..end, only: PhantomData }
        };
        ends.map(part).collect()
    }
}

/// Bytes that belong to the holder of this.
#[derive(Debug)]
pub struct BytesPart<'a> {
    place: &'a Place,
    range: Range<usize>,
    only: PhantomData<&'a mut [u8]>,
}

// SAFETY: parts of one array do not meet.
unsafe impl Send for BytesPart<'_> {}

impl BytesPart<'_> {
    /// Lets `work` fill bytes `start..start + len`: themselves, or `room`, which is then written.
    #[inline(always)]
    pub fn fill(&mut self, start: usize, len: usize, room: &mut Vec<u8>, work: impl FnOnce(&mut [u8])) {
        let Place { data, walk, is_slice, .. } = self.place;
        assert!(self.range.start <= start && start + len <= self.range.end, "a block ends inside its part");
        if *is_slice {
            // SAFETY: dense and inside the part, which is borrowed as a whole.
            return work(unsafe { slice::from_raw_parts_mut(data.add(start), len) });
        }
        room.resize(len, 0);
        work(room);
        // SAFETY: inside the part, which is borrowed as a whole.
        unsafe { write_elements(room, *data, Some((walk, 0)), start) };
    }
}
