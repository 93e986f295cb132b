//! Activations of eight bits, each row with a scale of its own: sums of whole numbers are exact.

use fearless_simd::prelude::*;

use super::{Matrix, Products, matrix::Step, weights::Integers};
use crate::quant::tile::load_bytes;

/// A sum of so many products has 32 bits.
const EXACT: usize = 64 * 1024;

pub(super) struct Sums<'a, W> {
    pub(super) weights: W,
    pub(super) matrix: &'a Matrix<'a>,
    pub(super) codes: &'a [u8],
    pub(super) scales: &'a [f32],
}

impl<W: Integers> Products for Sums<'_, W> {
    #[inline(always)]
    fn matrix(&self) -> &Matrix<'_> {
        self.matrix
    }

    #[inline(always)]
    fn may_be_side_by_side(&self) -> bool {
        self.matrix.rows_share_steps()
    }

    #[inline(always)]
    fn rows<S: Simd, const R: usize, const B: usize>(&self, simd: S, row: usize, first: usize) -> [[f32; B]; R] {
        let (matrix, len, mut total) = (self.matrix, self.matrix.len, [[0.0; B]; R]);
        let (mut x, mut starts, mut scales, mut step) = ([self.codes; B], [0; R], [0; R], matrix.first_step(row));
        for b in 0..B {
            x[b] = &self.codes[(first + b) * len..(first + b + 1) * len];
        }
        for r in 0..R {
            starts[r] = matrix.row_start(W::BITS, row + r);
            scales[r] = matrix.first_step(row + r).scale;
        }
        while step.at < len {
            let sums = self.step::<S, R, B>(simd, starts, step, x);
            for r in 0..R {
                for b in 0..B {
                    total[r][b] += sums[r][b] as f32 * matrix.scales[scales[r]];
                }
                scales[r] += 1;
            }
            step = step.next(len);
        }
        for r in 0..R {
            for b in 0..B {
                total[r][b] *= self.scales.get(first + b).copied().unwrap_or(1.0);
            }
        }
        total
    }
}

impl<W: Integers> Sums<'_, W> {
    /// Sums of the elements of a step in rows whose codes begin at `starts`.
    #[inline(always)]
    fn step<S: Simd, const R: usize, const B: usize>(
        &self,
        simd: S,
        starts: [usize; R],
        step: Step,
        x: [&[u8]; B],
    ) -> [[i64; B]; R] {
        let mut sums = [[0; B]; R];
        for at in (step.at..step.end).step_by(EXACT) {
            let found = self.exact::<S, R, B>(simd, starts, at, step.end.min(at + EXACT), x);
            for r in 0..R {
                for b in 0..B {
                    sums[r][b] += i64::from(found[r][b]);
                }
            }
        }
        sums
    }

    /// Sums of elements `at..end`.
    #[inline(always)]
    fn exact<S: Simd, const R: usize, const B: usize>(
        &self,
        simd: S,
        starts: [usize; R],
        at: usize,
        end: usize,
        x: [&[u8]; B],
    ) -> [[i32; B]; R] {
        let zero = S::i32s::splat(simd, 0);
        let mut sums = [[zero; B]; R];
        let mut halves = [[S::i16s::splat(simd, 0); 2]; B];
        for here in (at..end).step_by(S::u8s::LEN) {
            for b in 0..B {
                let x: S::i8s = load_bytes(simd, &x[b][..end], here).bitcast();
                let (low, high) = x.widen();
                halves[b] = [low, high];
            }
            for r in 0..R {
                let (low, high) = self.weights.integers(simd, self.matrix.codes, starts[r] + here).widen();
                for b in 0..B {
                    sums[r][b] += low.pairwise_dot_product(halves[b][0]) + high.pairwise_dot_product(halves[b][1]);
                }
            }
        }
        let mut found = [[0; B]; R];
        for r in 0..R {
            for b in 0..B {
                found[r][b] = sums[r][b].reduce_sum();
            }
        }
        found
    }
}
