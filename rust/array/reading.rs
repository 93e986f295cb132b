//! Elements of one array in C order, read into room of the compute type.

use fearless_simd::prelude::*;

use super::buffer::{Buffer, STAGE};
use crate::{
    dtype::{Compute, DType, Values, ValuesMut, load_native, store_native},
    simd::tile_len,
};

/// Elements in C order that can be read.
pub trait Read: Copy {
    /// In place; `None` if they must be staged.
    fn in_place(&self, start: usize, len: usize) -> Option<Values<'_>>;

    /// Gathered, with zeros behind them.
    fn gathered(&self, start: usize, len: usize, stage: &mut Buffer);
}

/// `len` elements, a multiple of the tile, in the compute type.
#[inline(never)]
pub(crate) fn decode<S: Simd, T: Compute>(simd: S, values: Values<'_>, out: &mut [T], len: usize) {
    simd.vectorize(
        #[inline(always)]
        || {
            let mut at = 0;
            while at < len {
                store_native::<S, T>(T::load(simd, values, at), out, at);
                at += tile_len::<S, T>();
            }
        },
    );
}

/// Rounds each number as an array of that type would store it; `x` has a multiple of [`STAGE`] elements.
pub(crate) fn round_through<S: Simd, T: Compute>(simd: S, dtype: DType, x: &mut [T]) {
    if matches!(dtype, DType::F32 | DType::F64) {
        return;
    }
    let mut stage = Buffer::default();
    stage.set_dtype(Some(dtype));
    for part in x.chunks_exact_mut(STAGE) {
        encode(simd, part, &mut stage);
        decode(simd, stage.values(), part, STAGE);
    }
}

/// [`STAGE`] elements, each rounded once to the stored type.
pub(crate) fn encode<S: Simd, T: Compute>(simd: S, from: &[T], stage: &mut Buffer) {
    encode_all(simd, &from[..STAGE], &mut stage.values_mut());
}

/// Elements in a multiple of the tile, each rounded once to the stored type.
#[inline(never)]
pub(crate) fn encode_all<S: Simd, T: Compute>(simd: S, from: &[T], to: &mut ValuesMut<'_>) {
    simd.vectorize(
        #[inline(always)]
        || {
            for at in (0..from.len()).step_by(tile_len::<S, T>()) {
                T::store(simd, load_native(simd, from, at), to, at);
            }
        },
    );
}

/// Elements `start..start + len`, and zeros behind them up to a multiple of [`STAGE`].
pub(crate) fn read<S: Simd, T: Compute>(
    simd: S,
    source: impl Read,
    start: usize,
    len: usize,
    out: &mut [T],
    stage: &mut Buffer,
) {
    let mut done = 0;
    if let Some(values) = source.in_place(start, len) {
        done = len - len % STAGE;
        decode(simd, values, out, done);
    }
    for at in (done..len).step_by(STAGE) {
        source.gathered(start + at, STAGE.min(len - at), stage);
        decode(simd, stage.values(), &mut out[at..], STAGE);
    }
}
