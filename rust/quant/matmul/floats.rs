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
    fn may_be_side_by_side<S: Simd>(&self) -> bool {
        self.matrix.rows_share_steps() && self.matrix.steps_are_multiples_of(tile_len::<S, f32>())
    }

    #[inline(always)]
    fn rows<S: Simd, const R: usize, const B: usize>(&self, simd: S, row: usize, first: usize) -> [[f32; B]; R] {
        let (matrix, len) = (self.matrix, self.matrix.len);
        let (mut x, mut starts, mut scales, mut step) = ([self.x; B], [0; R], [0; R], matrix.first_step(row));
        for b in 0..B {
            x[b] = &self.x[(first + b) * len..(first + b + 1) * len];
        }
        for r in 0..R {
            starts[r] = matrix.row_start(W::BITS, row + r);
            scales[r] = matrix.first_step(row + r).scale;
        }
        let mut total = [[[S::f32s::splat(simd, 0.0); TILE_VECTORS]; B]; R];
        while step.at < len {
            let sums = self.sums::<S, R, B>(simd, starts, step, x);
            let mut scale = [0.0; R];
            for r in 0..R {
                scale[r] = matrix.scales[scales[r]];
                scales[r] += 1;
            }
            for r in 0..R {
                for b in 0..B {
                    add_scaled::<S>(&mut total[r][b], sums[r][b], scale[r]);
                }
            }
            step = step.next(len);
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
    /// Sums of the elements of a step in rows whose codes begin at `starts`. The rest that is no whole tile takes calls, for
    /// which all sums would be kept in memory: rows side by side have none.
    #[inline(always)]
    fn sums<S: Simd, const R: usize, const B: usize>(
        &self,
        simd: S,
        starts: [usize; R],
        step: Step,
        x: [&[f32]; B],
    ) -> Sums<S, R, B> {
        let (codes, mut at, end, wide) = (self.matrix.codes, step.at, step.end, tile_len::<S, f32>());
        let zero = S::f32s::splat(simd, 0.0);
        let (mut sums, mut tiles) = ([[[zero; TILE_VECTORS]; B]; R], [[zero; TILE_VECTORS]; B]);
        let begins_byte = (starts[0] + at) * W::BITS % 8 == 0;
        while at + wide <= end && (R > 1 || begins_byte) {
            for b in 0..B {
                tiles[b] = load_native(simd, x[b], at);
            }
            for r in 0..R {
                let byte = (starts[r] + at) * W::BITS / 8;
                let numbers = self.weights.numbers(simd, &codes[byte..byte + wide * W::BITS / 8]);
                add_products::<S, B>(&mut sums[r], numbers, tiles);
            }
            at += wide;
        }
        while at < end && R == 1 {
            for b in 0..B {
                tiles[b] = load(simd, &x[b][..end], at);
            }
            let numbers = self.weights.numbers_anywhere(simd, codes, starts[0] + at);
            add_products::<S, B>(&mut sums[0], numbers, tiles);
            at += wide;
        }
        sums
    }
}

#[inline(always)]
fn add_products<S: Simd, const B: usize>(sums: &mut [Lanes<S>; B], numbers: Tile<S, f32>, x: [Tile<S, f32>; B]) {
    for b in 0..B {
        for k in 0..TILE_VECTORS {
            sums[b][k % (LANES / S::f32s::LEN)] += numbers[k] * x[b][k];
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
