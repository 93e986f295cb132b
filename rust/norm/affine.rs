//! Weight and bias of the elements of a row.

use std::borrow::Cow;

use crate::{array::Input, dispatch, dtype::Compute, simd::Isa};

/// Which weight belongs to an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// That of its place in the row.
    Element,
    /// That of its channel: rows go over `groups` of channels in turn, a channel having `run` elements in a row.
    Channel {
        /// Rows a sample.
        groups: usize,
        /// Elements of a channel in a row.
        run: usize,
    },
}

/// Some elements of a row, or rows side by side from their first elements on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    pub(super) row: usize,
    pub(super) at: usize,
    /// Elements of each row.
    pub(super) len: usize,
    /// Rows.
    pub(super) count: usize,
}

impl Block {
    /// The elements of row `i` of the block.
    #[inline(always)]
    pub(super) fn row_of<T>(self, i: usize, all: &[T]) -> &[T] {
        &all[i * self.len..(i + 1) * self.len]
    }
}

/// Weights of a block: of each row its own, or the same for all.
#[derive(Clone, Copy, Debug)]
pub(super) struct OfBlock<'a, T> {
    pub(super) all: &'a [T],
    pub(super) stride: usize,
    pub(super) len: usize,
}

impl<'a, T> OfBlock<'a, T> {
    #[inline(always)]
    pub(super) fn of_row(self, i: usize) -> &'a [T] {
        &self.all[i * self.stride..i * self.stride + self.len]
    }
}

/// Weights of the compute type, one for each place: the caller's own where they can be read as they are, since what one thread
/// has written another one has to fetch from its cache.
#[derive(Debug)]
pub(super) struct Weights<'a, T: Compute> {
    place: Place,
    /// Elements of a row.
    width: usize,
    all: Cow<'a, [T]>,
}

impl<'i, T: Compute> Weights<'i, T> {
    pub(super) fn new(isa: Isa, place: Place, width: usize, input: &'i Input) -> Self {
        let copy = || Cow::Owned(dispatch!(isa, simd => input.to_vec(simd)));
        let all = input.slice(0, input.len()).map_or_else(copy, Cow::Borrowed);
        Self { place, width, all }
    }

    /// The weights of a block: themselves, or spread in `room`.
    pub(super) fn of_block<'a>(&'a self, block: Block, room: &'a mut Vec<T>) -> OfBlock<'a, T> {
        let Block { row, at, len, count } = block;
        match self.place {
            Place::Element => OfBlock { all: &self.all[at..at + len], stride: 0, len },
            Place::Channel { groups, run } => {
                room.resize(room.len().max(len * count), T::default());
                for i in 0..count {
                    let first = (row + i) % groups * (self.width / run);
                    spread(&self.all[first..], run, at, &mut room[i * len..(i + 1) * len]);
                }
                OfBlock { all: &room[..len * count], stride: len, len }
            }
        }
    }
}

/// Each number for `run` elements, from element `at` on.
fn spread<T: Copy>(numbers: &[T], run: usize, at: usize, out: &mut [T]) {
    let mut done = 0;
    while done < out.len() {
        let place = at + done;
        let count = (run - place % run).min(out.len() - done);
        out[done..done + count].fill(numbers[place / run]);
        done += count;
    }
}
