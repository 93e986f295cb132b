//! Codecs of blocks scaled by their largest magnitude: each code is the level next to x / scale.

use fearless_simd::prelude::*;

use super::{
    codec::Codec,
    tile::{WIDEST, absmax, load, load_bytes, store, store_bytes},
};
use crate::{
    dtype::load_native,
    simd::{TILE_VECTORS, Tile, tile_len},
};

/// The numbers that codes stand for.
pub trait Levels: Copy + Send + Sync {
    /// The level that a block's largest magnitude becomes.
    const LARGEST: f32;

    /// Bits of a code: 8, or 4 with the first code of a byte in its high half.
    const BITS: usize = 8;

    /// The code of the nearest level for each number of magnitude up to [`Self::LARGEST`]; `x` are the numbers before they
    /// were scaled.
    fn nearest<S: Simd>(&self, simd: S, scaled: Tile<S, f32>, x: Tile<S, f32>) -> S::u8s;

    /// The level of each code.
    fn levels<S: Simd>(&self, simd: S, codes: S::u8s) -> Tile<S, f32>;
}

/// Blocks of codes of such levels, with scale = absmax / largest level: decoded they are level · scale.
#[derive(Clone, Copy, Debug)]
pub struct Scaled<L>(pub L);

/// 2⁶⁴
pub(super) const LIFT: f32 = 18_446_744_073_709_551_616.0;

/// Below this the inverse of a magnitude may overflow.
pub(super) const LOW: f32 = 1.0e-30;

/// The scale of a block and the two factors that its numbers are multiplied by: 1 / scale may be no number, so that tiny
/// numbers are lifted first.
#[inline(always)]
#[must_use]
pub fn scale_of(absmax: f32, largest: f32) -> (f32, [f32; 2]) {
    let scale = absmax / largest;
    match absmax {
        0.0 => (0.0, [1.0, 0.0]),
        _ if absmax < LOW => (scale, [LIFT, largest / (absmax * LIFT)]),
        _ => (scale, [1.0, largest / absmax]),
    }
}

#[inline(always)]
fn scaled<S: Simd>(mut tile: Tile<S, f32>, [lift, inverse]: [f32; 2]) -> Tile<S, f32> {
    for k in 0..TILE_VECTORS {
        tile[k] = tile[k] * lift * inverse;
    }
    tile
}

/// Codes of one block; returns its scale.
#[inline(always)]
pub fn encode_block<S: Simd, L: Levels>(simd: S, levels: &L, x: &[f32], codes: &mut [u8]) -> f32 {
    let (scale, factors) = scale_of(absmax(simd, x), L::LARGEST);
    let (mut at, wide) = (0, tile_len::<S, f32>());
    while at < x.len() {
        let tile = load(simd, x, at);
        let found = levels.nearest(simd, scaled::<S>(tile, factors), tile);
        if L::BITS == 8 {
            store_bytes::<S>(found, codes, at, wide);
        } else {
            store_bytes::<S>(pack::<S>(found), codes, at / 2, wide / 2);
        }
        at += wide;
    }
    if L::BITS == 4 && x.len() % 2 == 1 {
        // The half that no code needs is zero.
        codes[x.len() / 2] &= 0xf0;
    }
    scale
}

/// Pairs of codes as bytes, the first code in the high half; they fill the front half of the vector.
#[inline(always)]
fn pack<S: Simd>(codes: S::u8s) -> S::u8s {
    let pairs: S::u16s = codes.bitcast();
    let joined = (pairs << 4) | (pairs >> 8);
    joined.narrow(joined)
}

/// The reverse: the codes of each half of the vector.
#[inline(always)]
fn unpack<S: Simd>(bytes: S::u8s) -> [S::u8s; 2] {
    let (low, high) = bytes.widen();
    [split::<S>(low), split::<S>(high)]
}

#[inline(always)]
fn split<S: Simd>(pairs: S::u16s) -> S::u8s {
    ((pairs >> 4) | ((pairs & 0x0f) << 8)).bitcast()
}

/// The levels of `codes` in `out`, not yet scaled.
#[inline(always)]
pub fn decode_levels<S: Simd, L: Levels>(simd: S, levels: &L, codes: &[u8], out: &mut [f32]) {
    let (mut at, wide) = (0, tile_len::<S, f32>());
    while at < out.len() {
        if L::BITS == 8 {
            store::<S>(levels.levels(simd, load_bytes(simd, codes, at)), out, at);
            at += wide;
        } else {
            let [first, second] = unpack::<S>(load_bytes(simd, codes, at / 2));
            store::<S>(levels.levels(simd, first), out, at);
            if at + wide < out.len() {
                store::<S>(levels.levels(simd, second), out, at + wide);
            }
            at += 2 * wide;
        }
    }
}

/// x *= scale
#[inline(always)]
pub fn multiply<S: Simd>(simd: S, x: &mut [f32], scale: f32) {
    let wide = tile_len::<S, f32>();
    let mut at = 0;
    while at + wide <= x.len() {
        store::<S>(scaled::<S>(load_native(simd, x, at), [scale, 1.0]), x, at);
        at += wide;
    }
    for value in &mut x[at..] {
        *value *= scale;
    }
}

impl<L: Levels> Codec for Scaled<L> {
    type Scale = f32;

    fn code_bytes(&self, len: usize) -> usize {
        (len * L::BITS).div_ceil(8)
    }

    #[inline(always)]
    fn encode<S: Simd>(&self, simd: S, _: usize, block: usize, x: &[f32], codes: &mut [u8], scales: &mut [f32]) {
        let bytes = self.code_bytes(block);
        for (k, x) in x.chunks(block).enumerate() {
            let end = codes.len().min((k + 1) * bytes);
            scales[k] = encode_block(simd, &self.0, x, &mut codes[k * bytes..end]);
        }
    }

    #[inline(always)]
    fn decode<S: Simd>(&self, simd: S, _: usize, block: usize, codes: &[u8], scales: &[f32], out: &mut [f32]) {
        decode_levels(simd, &self.0, codes, out);
        for (k, out) in out.chunks_mut(block).enumerate() {
            multiply(simd, out, scales[k]);
        }
    }
}

const _: () = assert!(WIDEST >= TILE_VECTORS * 16);
