//! Mean and centred sum of squares: two passes over a row that stays in cache, longer rows merged segment by segment.

use fearless_simd::prelude::*;

use crate::{
    dtype::Compute,
    row_sums::{OfRows, ROWS, Rows, Terms, Value, sum_rows},
    simd::{TILE_VECTORS, Tile},
};

/// (x - mean)²
#[derive(Clone, Copy)]
struct Deviation {
    mean: f64,
}

impl Terms<1, 1> for Deviation {
    #[inline(always)]
    fn of<S: Simd>(self, _simd: S, [mut x]: [Tile<S, f64>; 1]) -> [Tile<S, f64>; 1] {
        for i in 0..TILE_VECTORS {
            let deviation = x[i] - self.mean;
            x[i] = deviation * deviation;
        }
        [x]
    }
}

/// Count, mean and centred sum of squares of some elements; around 0 where nothing is centred.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moments {
    pub(super) count: f64,
    pub(super) mean: f64,
    pub(super) squares: f64,
}

impl Moments {
    /// These elements and others, in this order.
    #[inline(always)]
    pub(super) fn and(self, other: Self) -> Self {
        Merge::default().of(self, other)
    }
}

/// How moments of two counts merge. Channels have the same counts one after another: what they share is computed once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Merge {
    counts: [f64; 2],
    /// The second count's part of both.
    share: f64,
    /// The product of both by their sum.
    between: f64,
}

impl Merge {
    #[inline(always)]
    pub(super) fn of(&mut self, first: Moments, second: Moments) -> Moments {
        if first.count == 0.0 {
            return second;
        }
        let count = first.count + second.count;
        if self.counts != [first.count, second.count] {
            let (share, between) = (second.count / count, first.count * second.count / count);
            *self = Self { counts: [first.count, second.count], share, between };
        }
        let delta = second.mean - first.mean;
        Moments {
            count,
            mean: first.mean + delta * self.share,
            squares: first.squares + second.squares + delta * delta * self.between,
        }
    }
}

/// Means and sums of squares of rows of `x`, each at most a segment; around 0 unless `centred`.
#[inline(always)]
pub(super) fn of_rows<S: Simd, T: Compute>(
    simd: S,
    x: &[T],
    len: usize,
    count: usize,
    centred: bool,
) -> (OfRows, OfRows) {
    let rows = Rows { inputs: [x], strides: [len], len, count };
    let mut means = [0.0; ROWS];
    if centred {
        [means] = sum_rows(simd, &rows, &[Value; ROWS]);
        for mean in &mut means {
            *mean /= len as f64;
        }
    }
    let mut deviations = [Deviation { mean: 0.0 }; ROWS];
    for i in 0..ROWS {
        deviations[i].mean = means[i];
    }
    let [squares] = sum_rows(simd, &rows, &deviations);
    (means, squares)
}
