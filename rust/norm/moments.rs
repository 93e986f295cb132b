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
        let (mut mean, mut squares) = ([self.mean], [self.squares]);
        Merge::new(self.count, other.count).add([&mut mean, &mut squares], [&[other.mean], &[other.squares]]);
        Self { count: self.count + other.count, mean: mean[0], squares: squares[0] }
    }
}

/// How moments of two counts merge. Channels have the same counts one after another: what they share is computed once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Merge {
    is_first: bool,
    /// The second count's part of both.
    share: f64,
    /// The product of both by their sum.
    between: f64,
}

impl Merge {
    #[inline(always)]
    pub(super) fn new(first: f64, second: f64) -> Self {
        let count = first + second;
        Self { is_first: first == 0.0, share: second / count, between: first * second / count }
    }

    /// Means and sums of squares of each channel, and as many that join them.
    #[inline(always)]
    pub(super) fn add(self, [means, squares]: [&mut [f64]; 2], others: [&[f64]; 2]) {
        if self.is_first {
            means.copy_from_slice(others[0]);
            squares.copy_from_slice(others[1]);
            return;
        }
        let others = others[0].iter().zip(others[1]);
        for ((mean, squares), (other_mean, other_squares)) in means.iter_mut().zip(squares).zip(others) {
            let delta = other_mean - *mean;
            *mean += delta * self.share;
            *squares = *squares + other_squares + delta * delta * self.between;
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
