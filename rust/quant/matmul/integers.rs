//! Activations of eight bits: each row has a scale of its own, sums of whole numbers are exact.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use fearless_simd::prelude::*;

use super::{Matrix, PARALLEL, Products, weights::Integers};
use crate::{
    array::Input,
    dispatch,
    error::Error,
    parallel,
    prefetch::prefetch,
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

    /// No: a row has enough to add, and several are no faster.
    #[inline(always)]
    fn are_whole<S: Simd>(&self) -> bool {
        false
    }

    #[inline(always)]
    fn rows<S: Simd, const R: usize, const B: usize, const REST: bool>(
        &self,
        simd: S,
        row: usize,
        first: usize,
    ) -> [[f32; B]; R] {
        let mut found = [[0.0; B]; R];
        for r in 0..R {
            found[r] = self.row::<S, B>(simd, row + r, first);
        }
        found
    }
}

impl<W: Integers> Sums<'_, W> {
    #[inline(always)]
    fn row<S: Simd, const B: usize>(&self, simd: S, row: usize, first: usize) -> [f32; B] {
        let (len, mut total) = (self.matrix.len, [0.0; B]);
        let (start, mut step) = (self.matrix.row_start(W::BITS, row), self.matrix.first_step(row));
        let mut x = [self.codes; B];
        for b in 0..B {
            x[b] = &self.codes[(first + b) * len..(first + b + 1) * len];
        }
        while step.at < len {
            let (mut sums, mut at) = ([0_i64; B], step.at);
            while at < step.end {
                let stop = step.end.min(at + EXACT);
                let found = self.exact::<S, B>(simd, start, at, stop, x);
                for b in 0..B {
                    sums[b] += i64::from(found[b]);
                }
                at = stop;
            }
            for b in 0..B {
                total[b] += sums[b] as f32 * self.matrix.scales[step.scale];
            }
            step = step.next(len);
        }
        for b in 0..B {
            total[b] *= self.scales.get(first + b).copied().unwrap_or(1.0);
        }
        total
    }

    /// Sums of elements `at..end` of the row whose codes begin at `start`.
    #[inline(always)]
    fn exact<S: Simd, const B: usize>(&self, simd: S, start: usize, at: usize, end: usize, x: [&[u8]; B]) -> [i32; B] {
        let codes = self.matrix.codes;
        let mut sums = [[S::i32s::splat(simd, 0); 2]; B];
        for here in (at..end).step_by(S::u8s::LEN) {
            prefetch(codes, (start + here) * W::BITS / 8, S::u8s::LEN * W::BITS / 8);
            let (low, high) = self.weights.integers(simd, codes, start + here).widen();
            for b in 0..B {
                let x: S::i8s = load_bytes(simd, &x[b][..end], here).bitcast();
                let (x_low, x_high) = x.widen();
                sums[b][0] += low.pairwise_dot_product(x_low);
                sums[b][1] += high.pairwise_dot_product(x_high);
            }
        }
        let mut found = [0; B];
        for b in 0..B {
            found[b] = (sums[b][0] + sums[b][1]).reduce_sum();
        }
        found
    }
}
