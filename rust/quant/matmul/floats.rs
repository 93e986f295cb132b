//! float32 activations. The sum of a row has one tree at every CPU level: of elements that share a scale, number i goes to
//! lane i mod 16, each lane a sum in order of products code · x; the lanes times the scale are added to the row's lanes, in
//! order; these fold by halves at last: lane i + lane i + 8, then 4, 2, 1.
//!
//! The lanes are those of the widest vector. One row's sum would wait for each addition, so that several rows are summed
//! side by side; they share the activations, which are loaded once.

use fearless_simd::prelude::*;

use super::{Matrix, Products, matrix::Step, weights::Weights};
use crate::{
    dtype::load_native,
    quant::tile::load,
    simd::{TILE_VECTORS, Tile, tile_len},
};

/// Lanes of a sum.
const LANES: usize = 16;

pub(super) struct Floats<'a, W> {
    pub(super) weights: W,
    pub(super) matrix: &'a Matrix<'a>,
    pub(super) x: &'a [f32],
}

/// The lanes of a sum, in as many vectors as they take.
type Lanes<S> = Tile<S, f32>;

/// Sums of rows and activations.
type Sums<S, const R: usize, const B: usize> = [[Lanes<S>; B]; R];

impl<W: Weights> Products for Floats<'_, W> {
    #[inline(always)]
    fn matrix(&self) -> &Matrix<'_> {
        self.matrix
    }

    #[inline(always)]
    fn rows<S: Simd, const R: usize, const B: usize>(&self, simd: S, row: usize, first: usize) -> [[f32; B]; R] {
        let (matrix, len) = (self.matrix, self.matrix.len);
        let (mut x, mut starts, mut steps) = ([self.x; B], [0; R], [matrix.first_step(row); R]);
        for b in 0..B {
            x[b] = &self.x[(first + b) * len..(first + b + 1) * len];
        }
        for r in 0..R {
            starts[r] = matrix.row_start(W::BITS, row + r);
            steps[r] = matrix.first_step(row + r);
        }
        let mut total = [[[S::f32s::splat(simd, 0.0); TILE_VECTORS]; B]; R];
        while steps[0].at < len {
            let sums = self.sums::<S, R, B>(simd, starts, steps[0], x);
            for r in 0..R {
                for b in 0..B {
                    add_scaled::<S>(&mut total[r][b], sums[r][b], matrix.scales[steps[r].scale]);
                }
                steps[r] = steps[r].next(len);
            }
        }
        let mut found = [[0.0; B]; R];
        for r in 0..R {
            for b in 0..B {
                found[r][b] = fold::<S>(total[r][b]);
            }
        }
        found
    }
}

impl<W: Weights> Floats<'_, W> {
    /// Sums of the elements of a step in rows whose codes begin at `starts`.
    #[inline(always)]
    fn sums<S: Simd, const R: usize, const B: usize>(
        &self,
        simd: S,
        starts: [usize; R],
        step: Step,
        x: [&[f32]; B],
    ) -> Sums<S, R, B> {
        let (mut at, end, wide) = (step.at, step.end, tile_len::<S, f32>());
        let mut sums = [[[S::f32s::splat(simd, 0.0); TILE_VECTORS]; B]; R];
        let mut numbers = [[S::f32s::splat(simd, 0.0); TILE_VECTORS]; R];
        let mut tiles = [[S::f32s::splat(simd, 0.0); TILE_VECTORS]; B];
        let whole = if begin_bytes(W::BITS, starts, at) { end - (end - at) % wide } else { at };
        while at < whole {
            for b in 0..B {
                tiles[b] = load_native(simd, x[b], at);
            }
            for r in 0..R {
                let byte = (starts[r] + at) * W::BITS / 8;
                numbers[r] = self.weights.numbers(simd, &self.matrix.codes[byte..byte + wide * W::BITS / 8]);
            }
            add_products::<S, R, B>(&mut sums, numbers, tiles);
            at += wide;
        }
        while at < end {
            for b in 0..B {
                tiles[b] = load(simd, &x[b][..end], at);
            }
            for r in 0..R {
                numbers[r] = self.weights.numbers_anywhere(simd, self.matrix.codes, starts[r] + at);
            }
            add_products::<S, R, B>(&mut sums, numbers, tiles);
            at += wide;
        }
        sums
    }
}

/// Do the codes begin with a byte, element `at` of each row?
#[inline(always)]
fn begin_bytes<const R: usize>(bits: usize, starts: [usize; R], at: usize) -> bool {
    let mut rest = 0;
    for r in 0..R {
        rest |= (starts[r] + at) * bits % 8;
    }
    rest == 0
}

#[inline(always)]
fn add_products<S: Simd, const R: usize, const B: usize>(
    sums: &mut Sums<S, R, B>,
    numbers: [Tile<S, f32>; R],
    x: [Tile<S, f32>; B],
) {
    for r in 0..R {
        for b in 0..B {
            for k in 0..TILE_VECTORS {
                sums[r][b][k % (LANES / S::f32s::LEN)] += numbers[r][k] * x[b][k];
            }
        }
    }
}

#[inline(always)]
fn add_scaled<S: Simd>(total: &mut Lanes<S>, sums: Lanes<S>, scale: f32) {
    for k in 0..LANES / S::f32s::LEN {
        total[k] += sums[k] * scale;
    }
}

#[inline(always)]
fn fold<S: Simd>(total: Lanes<S>) -> f32 {
    let (count, mut lanes) = (S::f32s::LEN, [0.0; LANES]);
    for k in 0..LANES / count {
        total[k].store_slice(&mut lanes[k * count..(k + 1) * count]);
    }
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}
