//! Activations of eight bits, each row with a scale of its own.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use fearless_simd::prelude::*;

use super::PARALLEL;
use crate::{
    array::Input,
    dispatch,
    error::Error,
    parallel,
    quant::tile::{largest_bits, load, store_bytes, to_bytes},
    simd::{Isa, TILE_VECTORS, tile_len},
};

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
