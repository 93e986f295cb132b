//! Activations of eight bits: each row has a scale of its own, sums of whole numbers are exact.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use fearless_simd::prelude::*;

use super::{Matrix, PARALLEL, Products, matrix::Step, weights::Integers};
use crate::{
    array::Input,
    dispatch,
    error::Error,
    parallel,
    quant::tile::{largest_bits, load, load_bytes, store_bytes, to_bytes},
    simd::{Isa, TILE_VECTORS, tile_len},
};

/// A sum of so many products has 32 bits.
const EXACT: usize = 64 * 1024;

pub(super) struct Sums<'a, W> {
    pub(super) weights: W,
    pub(super) matrix: &'a Matrix<'a>,
    pub(super) codes: &'a [u8],
    pub(super) scales: &'a [f32],
}

/// Codes and scales of activations: scale = absmax / 127, 1 where that is no normal number; code = x / scale, half to even.
pub(super) fn quantize(isa: Isa, x: &Input, len: usize) -> Result<(Vec<u8>, Vec<f32>), Error> {
    let mut codes = vec![0; x.len()];
    let mut scales = vec![1.0; x.len().checked_div(len).unwrap_or(0)];
    let mut rows: Vec<_> = codes.chunks_mut(len.max(1)).zip(&mut scales).collect();
    let first_bad = AtomicUsize::new(usize::MAX);
    parallel::for_each_mut(&mut rows, x.len() >= PARALLEL, &|row, (codes, scale)| {
        let mut room = vec![];
        dispatch!(isa, simd => {
            let x = x.block::<_, f32>(simd, row * len, len, &mut room);
            match quantize_row(simd, x, codes) {
                Some(found) => **scale = found,
                None => {
                    let bad = x.iter().position(|value| !value.is_finite()).unwrap_or(0);
                    first_bad.fetch_min(row * len + bad, Relaxed);
                }
            }
        });
    });
    match first_bad.into_inner() {
        usize::MAX => Ok((codes, scales)),
        index => Err(Error::NotFinite { index }),
    }
}

/// The scale, None where there is none.
#[inline(always)]
fn quantize_row<S: Simd>(simd: S, x: &[f32], codes: &mut [u8]) -> Option<f32> {
    let largest = f32::from_bits(largest_bits(simd, x));
    if !largest.is_finite() {
        return None;
    }
    let smallest = largest / 127.0;
    let scale = if smallest < f32::MIN_POSITIVE { 1.0 } else { smallest };
    for at in (0..x.len()).step_by(tile_len::<S, f32>()) {
        let tile = load(simd, x, at);
        let mut words = [S::u32s::splat(simd, 0); TILE_VECTORS];
        for k in 0..TILE_VECTORS {
            let code: S::i32s = (tile[k] / scale).round_ties_even().max(-127.0).min(127.0).to_int();
            words[k] = code.bitcast();
        }
        store_bytes::<S>(to_bytes::<S>(words), codes, at, tile_len::<S, f32>());
    }
    Some(scale)
}

impl<W: Integers> Products for Sums<'_, W> {
    #[inline(always)]
    fn matrix(&self) -> &Matrix<'_> {
        self.matrix
    }

    #[inline(always)]
    fn rows<S: Simd, const R: usize, const B: usize>(&self, simd: S, row: usize, first: usize) -> [[f32; B]; R] {
        let (matrix, len, mut total) = (self.matrix, self.matrix.len, [[0.0; B]; R]);
        let (mut x, mut starts, mut steps) = ([self.codes; B], [0; R], [matrix.first_step(row); R]);
        for b in 0..B {
            x[b] = &self.codes[(first + b) * len..(first + b + 1) * len];
        }
        for r in 0..R {
            starts[r] = matrix.row_start(W::BITS, row + r);
            steps[r] = matrix.first_step(row + r);
        }
        while steps[0].at < len {
            let sums = self.step::<S, R, B>(simd, starts, steps[0], x);
            for r in 0..R {
                for b in 0..B {
                    total[r][b] += sums[r][b] as f32 * matrix.scales[steps[r].scale];
                }
                steps[r] = steps[r].next(len);
            }
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
