//! The walk over the planes of an output, some of them a piece of work.

use fearless_simd::prelude::*;

use super::Windows;
use crate::{
    array::{Output, Part},
    dispatch,
    dtype::Compute,
    parallel,
    simd::Isa,
};

/// Elements of a piece of work, at least.
const PIECE: usize = 4096;

/// Pieces of a large pass for each thread: each has room of its own, so they are not many.
const PIECES: usize = 8;

/// Taps of all windows that are worth more than one thread.
const LARGE: usize = 64 * 1024;

/// Room for what is staged of a plane, and for what is made of it on the way.
#[derive(Default)]
pub(crate) struct Room<T> {
    pub(crate) inputs: [Vec<T>; 2],
    pub(crate) values: Vec<T>,
    pub(crate) columns: Vec<T>,
    pub(crate) taps: Vec<T>,
}

/// What fills the planes of an output.
pub(crate) trait Fill<T>: Sync {
    /// Fills plane `index` of all.
    fn fill<S: Simd>(&self, simd: S, index: usize, plane: &mut [T], room: &mut Room<T>);
}

struct Piece<'a> {
    first: usize,
    count: usize,
    out: Part<'a>,
}

impl Windows {
    /// Is it worth more than one thread?
    pub(super) const fn is_large(&self) -> bool {
        self.planes() * self.windows() * self.taps() >= LARGE
    }
}

/// Fills an output with `count` planes of `len` elements.
pub(crate) fn run<T: Compute>(
    isa: Isa,
    is_large: bool,
    [count, len]: [usize; 2],
    out: &mut Output,
    work: &impl Fill<T>,
) {
    // Planes do not depend on each other: however they are cut, the result is the same.
    let each = (PIECE / len.max(1)).max(count.div_ceil(PIECES * parallel::threads())).max(1);
    let starts = (0..count).step_by(each);
    let ends = starts.clone().map(|first| len * (first + each).min(count));
    let parts = out.parts(ends);
    let mut pieces: Vec<_> =
        starts.zip(parts).map(|(first, out)| Piece { first, count: each.min(count - first), out }).collect();
    parallel::for_each_mut(&mut pieces, is_large, &|_, piece| {
        dispatch!(isa, simd => fill(simd, len, piece, work));
    });
}

#[inline(always)]
fn fill<S: Simd, T: Compute>(simd: S, len: usize, piece: &mut Piece<'_>, work: &impl Fill<T>) {
    let (mut room, mut staged) = (Room::default(), vec![]);
    for index in piece.first..piece.first + piece.count {
        piece.out.fill(
            simd,
            index * len,
            len,
            &mut staged,
            #[inline(always)]
            |plane| work.fill(simd, index, plane, &mut room),
        );
    }
}
