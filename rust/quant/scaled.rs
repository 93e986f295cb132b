//! Codecs of blocks scaled by their largest magnitude: each code is the level next to x / scale.

use fearless_simd::prelude::*;

use super::{
    codec::Codec,
    tile::{WIDEST, Words, absmax, largest_of_blocks, load, load_bytes, narrow_masks, store, store_bytes},
};
use crate::{
    dtype::{load_native, store_native},
    simd::{TILE_VECTORS, Tile, tile_len},
};

/// The numbers that codes stand for.
pub trait Levels: Copy + Send + Sync {
    /// The level that a block's largest magnitude becomes.
    const LARGEST: f32;

    /// Bits of a code: 8, or 4 with the first code of a byte in its high half.
    const BITS: usize = 8;

    /// The code of the nearest level for each number of magnitude up to [`Self::LARGEST`]; `x` are the numbers before they
    /// were scaled. Where a code may be wrong `doubt` falls to [`Self::DOUBT`] or below.
    fn nearest<S: Simd>(&self, simd: S, scaled: Tile<S, f32>, x: Tile<S, f32>, doubt: &mut S::u32s) -> S::u8s;

    /// Do codes rise with the magnitudes of their levels, not with the levels?
    const BY_MAGNITUDE: bool = false;

    /// Are levels of 0 only for what is 0?
    const KEEPS: bool = false;

    /// What marks a code that may be wrong, if there are such codes.
    const DOUBT: Option<u32> = None;

    /// The codes of a tile, each beyond doubt.
    #[inline(always)]
    fn settled<S: Simd>(&self, simd: S, scaled: Tile<S, f32>, x: Tile<S, f32>) -> S::u8s {
        self.nearest(simd, scaled, x, &mut S::u32s::splat(simd, u32::MAX))
    }

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

/// Codes of one block; returns its scale, NaN where a number is not finite.
#[inline(always)]
pub fn encode_block<S: Simd, L: Levels>(simd: S, levels: &L, x: &[f32], codes: &mut [u8]) -> f32 {
    let absmax = absmax(simd, x);
    match absmax {
        0.0 => encode_numbers(simd, levels, x, 0.0, codes),
        _ if !absmax.is_finite() => {
            codes.fill(0);
            return f32::NAN;
        }
        _ if absmax < LOW => encode_lifted(simd, levels, x, L::LARGEST / (absmax * LIFT), codes),
        _ => encode_numbers(simd, levels, x, L::LARGEST / absmax, codes),
    }
    absmax / L::LARGEST
}

/// Blocks that [`encode_blocks`] takes at once: those of a strip.
const BLOCKS: usize = 128;

/// Codes and scales of blocks as [`encode_block`] makes them. Whole blocks of usual numbers first get all their scales, then
/// their codes in one loop, which neither waits for a scale nor calls anything.
#[inline(always)]
pub fn encode_blocks<S: Simd, L: Levels>(
    simd: S,
    levels: &L,
    block: usize,
    x: &[f32],
    codes: &mut [u8],
    scales: &mut [f32],
) {
    let (count, bytes) = (x.len().div_ceil(block), block * L::BITS / 8);
    let mut inverses = [0.0; BLOCKS];
    let is_whole = block.is_multiple_of(tile_len::<S, f32>()) && x.len().is_multiple_of(block) && count <= BLOCKS;
    if !is_whole || !invert(simd, L::LARGEST, block, x, &mut inverses[..count], scales) {
        for (k, x) in x.chunks(block).enumerate() {
            let end = codes.len().min((k + 1) * bytes);
            scales[k] = encode_block(simd, levels, x, &mut codes[k * bytes..end]);
        }
        return;
    }
    let mut doubtful = 0_u128;
    for k in 0..count {
        let mut doubt = S::u32s::splat(simd, u32::MAX);
        encode_tiles(simd, levels, &x[k * block..][..block], inverses[k], &mut codes[k * bytes..][..bytes], &mut doubt);
        doubtful |= u128::from(L::DOUBT.is_some_and(|least| doubt.simd_le(least).any_true())) << k;
    }
    while doubtful != 0 {
        let k = doubtful.trailing_zeros() as usize;
        settle(simd, levels, &x[k * block..][..block], inverses[k], &mut codes[k * bytes..][..bytes]);
        doubtful &= doubtful - 1;
    }
}

/// The scale of each block and its inverse, any number where all is zero; false if one is so small or large that it needs more
/// care.
#[inline(always)]
fn invert<S: Simd>(simd: S, largest: f32, block: usize, x: &[f32], inverses: &mut [f32], scales: &mut [f32]) -> bool {
    largest_of_blocks(simd, block, x, scales);
    let mut is_usual = true;
    for (inverse, scale) in inverses.iter_mut().zip(scales) {
        let absmax = *scale;
        *scale = absmax / largest;
        *inverse = largest / absmax.max(LOW);
        is_usual &= absmax == 0.0 || (LOW..f32::INFINITY).contains(&absmax);
    }
    is_usual
}

/// Codes of whole tiles.
#[inline(always)]
fn encode_tiles<S: Simd, L: Levels>(
    simd: S,
    levels: &L,
    x: &[f32],
    inverse: f32,
    codes: &mut [u8],
    doubt: &mut S::u32s,
) {
    let (mut at, wide) = (0, tile_len::<S, f32>());
    while at < x.len() {
        let tile = load_native(simd, x, at);
        let found = levels.nearest(simd, times::<S>(tile, inverse), tile, doubt);
        store_codes::<S, L>(found, codes, at);
        at += wide;
    }
}

/// The inverse of a scale may be no number: x · 2⁶⁴ instead of x.
#[inline(never)]
fn encode_lifted<S: Simd, L: Levels>(simd: S, levels: &L, x: &[f32], inverse: f32, codes: &mut [u8]) {
    let lifted: Vec<f32> = x.iter().map(|x| x * LIFT).collect();
    encode_numbers(simd, levels, &lifted, inverse, codes);
}

/// Whole tiles, then the rest in a padded one. Where there is doubt everything is done once more: seldom, so that the common
/// loop calls nothing and keeps its tables in registers.
#[inline(always)]
fn encode_numbers<S: Simd, L: Levels>(simd: S, levels: &L, x: &[f32], inverse: f32, codes: &mut [u8]) {
    let (mut doubt, wide) = (S::u32s::splat(simd, u32::MAX), tile_len::<S, f32>());
    let whole = x.len() - x.len() % wide;
    encode_tiles(simd, levels, &x[..whole], inverse, codes, &mut doubt);
    if whole < x.len() {
        let tile = load(simd, x, whole);
        let found = levels.nearest(simd, times::<S>(tile, inverse), tile, &mut doubt);
        store_last::<S, L>(found, codes, whole, x.len() - whole);
    }
    if L::DOUBT.is_some_and(|least| doubt.simd_le(least).any_true()) {
        settle(simd, levels, x, inverse, codes);
    }
}

#[inline(never)]
fn settle<S: Simd, L: Levels>(simd: S, levels: &L, x: &[f32], inverse: f32, codes: &mut [u8]) {
    simd.vectorize(
        #[inline(always)]
        || {
            let wide = tile_len::<S, f32>();
            for at in (0..x.len()).step_by(wide) {
                let tile = load(simd, x, at);
                let found = levels.settled(simd, times::<S>(tile, inverse), tile);
                store_last::<S, L>(found, codes, at, wide.min(x.len() - at));
            }
        },
    );
}

/// The codes of a whole tile.
#[inline(always)]
fn store_codes<S: Simd, L: Levels>(found: S::u8s, codes: &mut [u8], at: usize) {
    let wide = tile_len::<S, f32>();
    if L::BITS == 8 {
        found.store_slice(&mut codes[at..at + wide]);
    } else {
        codes[at / 2..][..wide / 2].copy_from_slice(&pack::<S>(found).as_slice()[..wide / 2]);
    }
}

/// The first `count` codes; the half of a byte that no code needs is zero.
#[inline(always)]
fn store_last<S: Simd, L: Levels>(found: S::u8s, codes: &mut [u8], at: usize, count: usize) {
    if L::BITS == 8 {
        codes[at..at + count].copy_from_slice(&found.as_slice()[..count]);
        return;
    }
    let bytes = count.div_ceil(2);
    codes[at / 2..at / 2 + bytes].copy_from_slice(&pack::<S>(found).as_slice()[..bytes]);
    if count % 2 == 1 {
        codes[at / 2 + bytes - 1] &= 0xf0;
    }
}

/// Codes of one block as [`encode_block`], each then changed for that of the level on the number's other side with the
/// probability that makes it right on average; `words` are random, one a number.
#[inline(never)]
pub fn encode_block_randomly<S: Simd, L: Levels>(
    simd: S,
    levels: &L,
    x: &[f32],
    codes: &mut [u8],
    words: &[u32],
) -> f32 {
    simd.vectorize(
        #[inline(always)]
        || {
            let scale = encode_block(simd, levels, x, codes);
            let absmax = absmax(simd, x);
            if absmax > 0.0 && absmax.is_finite() {
                let lift = if absmax < LOW { LIFT } else { 1.0 };
                let inverse = L::LARGEST / (absmax * lift);
                for at in (0..x.len()).step_by(tile_len::<S, f32>()) {
                    let words = load_words(simd, words, at);
                    let moved =
                        nudged(simd, levels, [lift, inverse], load(simd, x, at), load_bytes(simd, codes, at), words);
                    store_bytes::<S>(moved, codes, at, tile_len::<S, f32>());
                }
            }
            scale
        },
    )
}

/// Codes of the levels beside numbers: with the probability (y - level) / (other - level) the other one's.
#[inline(always)]
fn nudged<S: Simd, L: Levels>(
    simd: S,
    levels: &L,
    [lift, inverse]: [f32; 2],
    x: Tile<S, f32>,
    codes: S::u8s,
    words: Words<S>,
) -> S::u8s {
    let (largest, level) = (S::f32s::splat(simd, L::LARGEST), levels.levels(simd, codes));
    let (mut y, mut is_up) = (times::<S>(times::<S>(x, lift), inverse), [x[0].simd_lt(0.0); TILE_VECTORS]);
    for k in 0..TILE_VECTORS {
        y[k] = y[k].min(largest).max(-largest);
        is_up[k] = if L::BY_MAGNITUDE { y[k].abs().simd_gt(level[k].abs()) } else { y[k].simd_gt(level[k]) };
    }
    // At either end there is no other code, and one that wraps around would be taken for one.
    let is_up = narrow_masks::<S>(is_up);
    let above = codes.simd_eq(255).select(codes, codes + 1);
    let below = codes.simd_eq(0).select(codes, codes - 1);
    let other = is_up.select(above, below);
    let other_level = levels.levels(simd, other);
    let mut is_other = [x[0].simd_lt(0.0); TILE_VECTORS];
    for k in 0..TILE_VECTORS {
        let uniform: S::f32s = (words[k] >> 8).to_float::<S::f32s>() * (1.0 / 16_777_216.0);
        is_other[k] = uniform.simd_lt((y[k] - level[k]) / (other_level[k] - level[k]));
        if L::KEEPS {
            let is_there = other_level[k].simd_gt(0.0);
            is_other[k] = is_there.select(is_other[k], x[k].simd_lt(0.0));
        }
    }
    narrow_masks::<S>(is_other).select(other, codes)
}

#[inline(always)]
fn load_words<S: Simd>(simd: S, words: &[u32], at: usize) -> Words<S> {
    let (mut padded, n) = ([0; WIDEST], S::u32s::LEN);
    let count = words.len().min(at + TILE_VECTORS * n) - at;
    padded[..count].copy_from_slice(&words[at..at + count]);
    let mut tile = [S::u32s::splat(simd, 0); TILE_VECTORS];
    for k in 0..TILE_VECTORS {
        tile[k] = S::u32s::from_slice(simd, &padded[k * n..(k + 1) * n]);
    }
    tile
}

#[inline(always)]
fn times<S: Simd>(mut tile: Tile<S, f32>, factor: f32) -> Tile<S, f32> {
    for k in 0..TILE_VECTORS {
        tile[k] *= factor;
    }
    tile
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

/// The levels of codes times the scales of their blocks.
#[inline(always)]
pub fn decode_blocks<S: Simd, L: Levels>(
    simd: S,
    levels: &L,
    block: usize,
    codes: &[u8],
    scales: &[f32],
    out: &mut [f32],
) {
    let wide = tile_len::<S, f32>();
    // Whole blocks of whole tiles go tile by tile, two at a time where two come of a vector of codes.
    let step = if L::BITS == 8 { wide } else { 2 * wide };
    let whole = if block.is_multiple_of(wide) { out.len() - out.len() % step } else { 0 };
    let mut at = 0;
    while at < whole {
        if L::BITS == 8 {
            let tile = levels.levels(simd, S::u8s::from_slice(simd, &codes[at..at + wide]));
            store_native::<S, f32>(times::<S>(tile, scales[at / block]), out, at);
        } else {
            let [first, second] = unpack::<S>(S::u8s::from_slice(simd, &codes[at / 2..at / 2 + wide]));
            store_native::<S, f32>(times::<S>(levels.levels(simd, first), scales[at / block]), out, at);
            let next = at + wide;
            store_native::<S, f32>(times::<S>(levels.levels(simd, second), scales[next / block]), out, next);
        }
        at += step;
    }
    decode_rest(simd, levels, codes, &mut out[whole..], whole);
    let mut at = whole;
    while at < out.len() {
        let end = out.len().min((at / block + 1) * block);
        for value in &mut out[at..end] {
            *value *= scales[at / block];
        }
        at = end;
    }
}

/// The levels of the codes from number `start` on, not yet scaled.
#[inline(always)]
fn decode_rest<S: Simd, L: Levels>(simd: S, levels: &L, codes: &[u8], out: &mut [f32], start: usize) {
    let (mut at, wide) = (0, tile_len::<S, f32>());
    while at < out.len() {
        if L::BITS == 8 {
            store::<S>(levels.levels(simd, load_bytes(simd, codes, start + at)), out, at);
            at += wide;
        } else {
            let [first, second] = unpack::<S>(load_bytes(simd, codes, start / 2 + at / 2));
            store::<S>(levels.levels(simd, first), out, at);
            if at + wide < out.len() {
                store::<S>(levels.levels(simd, second), out, at + wide);
            }
            at += 2 * wide;
        }
    }
}

impl<L: Levels> Codec for Scaled<L> {
    type Scale = f32;

    const MARKS: bool = true;

    fn is_mark(scale: &f32) -> bool {
        scale.is_nan()
    }

    fn code_bytes(&self, len: usize) -> usize {
        (len * L::BITS).div_ceil(8)
    }

    #[inline(always)]
    fn encode<S: Simd>(&self, simd: S, _: usize, block: usize, x: &[f32], codes: &mut [u8], scales: &mut [f32]) {
        encode_blocks(simd, &self.0, block, x, codes, scales);
    }

    #[inline(always)]
    fn decode<S: Simd>(&self, simd: S, _: usize, block: usize, codes: &[u8], scales: &[f32], out: &mut [f32]) {
        decode_blocks(simd, &self.0, block, codes, scales, out);
    }
}

const _: () = assert!(WIDEST >= TILE_VECTORS * 16);
