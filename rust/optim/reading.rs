//! Elements of one array in C order, read into room of the compute type.

use fearless_simd::prelude::*;

use super::{
    grad::Read,
    stage::{Buffer, STAGE},
};
use crate::{
    dtype::{Compute, Values, store_native},
    simd::tile_len,
};

/// `len` elements, a multiple of the tile, in the compute type.
#[inline(never)]
pub(super) fn decode<S: Simd, T: Compute>(simd: S, values: Values<'_>, out: &mut [T], len: usize) {
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

/// Elements `start..start + len`, and zeros behind them up to a multiple of [`STAGE`].
pub(super) fn read<S: Simd, T: Compute>(
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
