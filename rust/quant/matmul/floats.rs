//! float32 activations. The sum of a row has one tree at every CPU level: of elements that share a scale, number i goes to
//! lane i mod 16, each lane a sum in order of products code · x; the lanes times the scale are added to the row's lanes, in
//! order; these fold by halves at last: lane i + lane i + 8, then 4, 2, 1.
//!
//! The lanes are those of the widest vector. One row's sum would wait for each addition, so that several rows are summed
//! side by side; they share the activations, which are loaded once.

use fearless_simd::prelude::*;

use super::{Matrix, Products, matrix::Step, weights::Weights};
use crate::{
    prefetch::prefetch_these,
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
    fn are_whole<S: Simd>(&self) -> bool {
        let least = if S::f32s::LEN == LANES { LANES } else { tile_len::<S, f32>() };
        self.matrix.rows_share_steps() && self.matrix.steps_are_multiples_of(least)
    }

    #[inline(always)]
    fn rows<S: Simd, const R: usize, const B: usize, const REST: bool>(
        &self,
        simd: S,
        row: usize,
        first: usize,
    ) -> [[f32; B]; R] {
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
            let sums = self.sums::<S, R, B, REST>(simd, starts, step, x);
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
    /// Sums of the elements of a step in rows whose codes begin at `starts`. The rest that is no whole vector, of one
    /// row only, takes calls, for which sums are kept in memory: the loops are fast where there is none.
    #[inline(always)]
    fn sums<S: Simd, const R: usize, const B: usize, const REST: bool>(
        &self,
        simd: S,
        starts: [usize; R],
        step: Step,
        x: [&[f32]; B],
    ) -> Sums<S, R, B> {
        let (mut at, end, wide) = (step.at, step.end, tile_len::<S, f32>());
        let mut sums = [[[S::f32s::splat(simd, 0.0); TILE_VECTORS]; B]; R];
        let begins_byte = !REST || ((starts[0] + at) * W::BITS).is_multiple_of(8);
        while begins_byte && at + wide <= end {
            // The rows that come next: each of those side by side is too short for a processor to see a stream.
            for r in 0..R {
                let next = (starts[r] + at + R * self.matrix.len) * W::BITS / 8;
                prefetch_these(self.matrix.codes, next, wide * W::BITS / 8);
            }
            self.add::<S, R, B, TILE_VECTORS>(simd, &mut sums, starts, at, x);
            at += wide;
        }
        while begins_byte && S::f32s::LEN == LANES && at + LANES <= end {
            self.add::<S, R, B, 1>(simd, &mut sums, starts, at, x);
            at += LANES;
        }
        while REST && at < end {
            let numbers = self.weights.numbers_anywhere(simd, self.matrix.codes, starts[0] + at);
            for b in 0..B {
                add_products::<S, TILE_VECTORS>(&mut sums[0][b], numbers, load(simd, &x[b][..end], at));
            }
            at += wide;
        }
        sums
    }

    /// Adds the products of `V` vectors of elements from number `at` on.
    #[inline(always)]
    fn add<S: Simd, const R: usize, const B: usize, const V: usize>(
        &self,
        simd: S,
        sums: &mut Sums<S, R, B>,
        starts: [usize; R],
        at: usize,
        x: [&[f32]; B],
    ) {
        let wide = S::f32s::LEN;
        let mut vectors = [[S::f32s::splat(simd, 0.0); V]; B];
        for b in 0..B {
            let x = &x[b][at..at + V * wide];
            for k in 0..V {
                vectors[b][k] = S::f32s::from_slice(simd, &x[k * wide..(k + 1) * wide]);
            }
        }
        for r in 0..R {
            let numbers = self.weights.numbers::<S, V>(simd, self.matrix.codes, starts[r] + at);
            for b in 0..B {
                add_products::<S, V>(&mut sums[r][b], numbers, vectors[b]);
            }
        }
    }
}

#[inline(always)]
fn add_products<S: Simd, const V: usize>(sums: &mut Lanes<S>, numbers: Tile<S, f32>, x: [S::f32s; V]) {
    for k in 0..V {
        sums[k % (LANES / S::f32s::LEN)] += numbers[k] * x[k];
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
