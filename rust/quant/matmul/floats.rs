//! float32 activations. The sum of a row has one tree at every CPU level: of elements that share a scale, number i goes to
//! lane i mod 64, each lane a sum in order of products code · x; the lanes times the scale are added to the row's lanes, in
//! order; these fold by halves at last: lane i + lane i + 32, then 16, ... 1.

use fearless_simd::prelude::*;

use super::{Matrix, Products, weights::Weights};
use crate::{
    prefetch::prefetch,
    quant::tile::load,
    simd::{TILE_VECTORS, Tile, tile_len},
};

/// Lanes of a sum.
const LANES: usize = 64;

/// Tiles that have so many lanes where vectors are smallest.
const TILES: usize = 4;

pub(super) struct Floats<'a, W> {
    pub(super) weights: W,
    pub(super) matrix: &'a Matrix<'a>,
    pub(super) x: &'a [f32],
}

/// The lanes of a sum.
type Lanes<S> = [Tile<S, f32>; TILES];

impl<W: Weights> Products for Floats<'_, W> {
    #[inline(always)]
    fn row<S: Simd, const B: usize>(&self, simd: S, row: usize, first: usize) -> [f32; B] {
        let len = self.matrix.len;
        let mut x = [self.x; B];
        for b in 0..B {
            x[b] = &self.x[(first + b) * len..(first + b + 1) * len];
        }
        let zero = S::f32s::splat(simd, 0.0);
        let mut total = [[[zero; TILE_VECTORS]; TILES]; B];
        let (start, mut step) = (self.matrix.row_start(W::BITS, row), self.matrix.first_step(row));
        while step.at < len {
            let sums = self.sums::<S, B>(simd, start, step.at, step.end, x);
            for b in 0..B {
                add::<S>(&mut total[b], &sums[b], self.matrix.scales[step.scale]);
            }
            step = step.next(len);
        }
        let mut found = [0.0; B];
        for b in 0..B {
            found[b] = fold::<S>(total[b]);
        }
        found
    }
}

impl<W: Weights> Floats<'_, W> {
    /// Sums of elements `at..end` of the row whose codes begin at `start`.
    #[inline(always)]
    fn sums<S: Simd, const B: usize>(
        &self,
        simd: S,
        start: usize,
        mut at: usize,
        end: usize,
        x: [&[f32]; B],
    ) -> [Lanes<S>; B] {
        let (codes, wide) = (self.matrix.codes, tile_len::<S, f32>());
        let mut sums = [[[S::f32s::splat(simd, 0.0); TILE_VECTORS]; TILES]; B];
        while at + LANES <= end {
            prefetch(codes, (start + at) * W::BITS / 8, LANES * W::BITS / 8);
            for t in 0..LANES / wide {
                let here = at + t * wide;
                let numbers = self.weights.numbers(simd, codes, start + here);
                for b in 0..B {
                    multiply::<S>(&mut sums[b][t], numbers, crate::dtype::load_native(simd, x[b], here));
                }
            }
            at += LANES;
        }
        for t in 0..LANES / wide {
            let here = at + t * wide;
            if here < end {
                let numbers = self.weights.numbers(simd, codes, start + here);
                for b in 0..B {
                    multiply::<S>(&mut sums[b][t], numbers, load(simd, &x[b][..end], here));
                }
            }
        }
        sums
    }
}

#[inline(always)]
fn multiply<S: Simd>(sum: &mut Tile<S, f32>, codes: Tile<S, f32>, x: Tile<S, f32>) {
    for k in 0..TILE_VECTORS {
        sum[k] += codes[k] * x[k];
    }
}

#[inline(always)]
fn add<S: Simd>(total: &mut Lanes<S>, sums: &Lanes<S>, scale: f32) {
    for t in 0..LANES / tile_len::<S, f32>() {
        for k in 0..TILE_VECTORS {
            total[t][k] += sums[t][k] * scale;
        }
    }
}

#[inline(always)]
fn fold<S: Simd>(total: Lanes<S>) -> f32 {
    let (wide, mut lanes) = (tile_len::<S, f32>(), [0.0; LANES]);
    for t in 0..LANES / wide {
        crate::dtype::store_native::<S, f32>(total[t], &mut lanes, t * wide);
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
