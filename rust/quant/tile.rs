//! Tiles of numbers and vectors of codes: four vectors of 32-bit lanes are as many elements as one vector of bytes has.

use fearless_simd::prelude::*;

use crate::{
    dtype::load_native,
    simd::{TILE_VECTORS, Tile, tile_len},
};

/// Elements of the largest tile.
pub const WIDEST: usize = 64;

/// A tile of words.
pub type Words<S> = [<S as Simd>::u32s; TILE_VECTORS];

/// The low byte of each word.
#[inline(always)]
pub fn to_bytes<S: Simd>([a, b, c, d]: Words<S>) -> S::u8s {
    if S::u8s::LEN != WIDEST {
        return a.narrow(b).narrow(c.narrow(d));
    }
    // One instruction picks bytes of two vectors; narrowing takes two for each.
    let simd = a.token();
    let (every_fourth, halves) = (S::u8s::from_slice(simd, &EVERY_FOURTH), S::u8s::from_slice(simd, &HALVES));
    let low: S::u8s = a.bitcast::<S::u8s>().concat_swizzle_dyn(b.bitcast::<S::u8s>(), every_fourth);
    let high: S::u8s = c.bitcast::<S::u8s>().concat_swizzle_dyn(d.bitcast::<S::u8s>(), every_fourth);
    low.concat_swizzle_dyn(high, halves)
}

/// The low bytes of the words of two vectors, twice.
static EVERY_FOURTH: [u8; WIDEST] = places(4, 0);

/// The front halves of two vectors.
static HALVES: [u8; WIDEST] = places(1, 64);

/// Half of the places a step apart, the other half as far behind them as is said.
const fn places(step: usize, behind: usize) -> [u8; WIDEST] {
    let (mut places, mut i) = ([0; WIDEST], 0);
    while i < WIDEST {
        places[i] = (i % (WIDEST / 2) * step + i / (WIDEST / 2) * behind) as u8;
        i += 1;
    }
    places
}

/// The masks of a tile as one.
#[inline(always)]
pub fn narrow_masks<S: Simd>([a, b, c, d]: [S::mask32s; TILE_VECTORS]) -> S::mask8s {
    a.narrow(b).narrow(c.narrow(d))
}

/// Each byte as a word.
#[inline(always)]
pub fn to_words<S: Simd>(bytes: S::u8s) -> Words<S> {
    let (low, high) = bytes.widen();
    let ((a, b), (c, d)) = (low.widen(), high.widen());
    [a, b, c, d]
}

/// The tile that starts at element `at`, zeros behind the last element.
#[inline(always)]
pub fn load<S: Simd>(simd: S, x: &[f32], at: usize) -> Tile<S, f32> {
    if at + tile_len::<S, f32>() <= x.len() {
        return load_native(simd, x, at);
    }
    let mut padded = [0.0; WIDEST];
    padded[..x.len() - at].copy_from_slice(&x[at..]);
    load_native(simd, &padded, 0)
}

/// Writes the tile from element `at` on, as far as there are elements.
#[inline(always)]
pub fn store<S: Simd>(tile: Tile<S, f32>, out: &mut [f32], at: usize) {
    if at + tile_len::<S, f32>() <= out.len() {
        return crate::dtype::store_native::<S, f32>(tile, out, at);
    }
    let (mut padded, count) = ([0.0; WIDEST], out.len() - at);
    crate::dtype::store_native::<S, f32>(tile, &mut padded, 0);
    out[at..].copy_from_slice(&padded[..count]);
}

/// The bytes that start at `at`, zeros behind the last.
#[inline(always)]
pub fn load_bytes<S: Simd>(simd: S, codes: &[u8], at: usize) -> S::u8s {
    let wide = S::u8s::LEN;
    if at + wide <= codes.len() {
        return S::u8s::from_slice(simd, &codes[at..at + wide]);
    }
    let mut padded = [0; WIDEST];
    padded[..codes.len() - at].copy_from_slice(&codes[at..]);
    S::u8s::from_slice(simd, &padded[..wide])
}

/// Writes bytes from `at` on, as far as there are some and at most `count`.
#[inline(always)]
pub fn store_bytes<S: Simd>(bytes: S::u8s, codes: &mut [u8], at: usize, count: usize) {
    let wide = S::u8s::LEN;
    if count == wide && at + wide <= codes.len() {
        return bytes.store_slice(&mut codes[at..at + wide]);
    }
    let end = codes.len().min(at + count);
    codes[at..end].copy_from_slice(&bytes.as_slice()[..end - at]);
}

/// The largest of the elements' bits without their signs: of finite numbers the largest magnitude, above infinity's where
/// there is a NaN.
#[inline(always)]
pub fn largest_bits<S: Simd>(simd: S, x: &[f32]) -> u32 {
    let (mut largest, wide) = ([S::u32s::splat(simd, 0); TILE_VECTORS], tile_len::<S, f32>());
    let whole = x.len() - x.len() % wide;
    let mut at = 0;
    while at < whole {
        add_bits::<S>(load_native(simd, x, at), &mut largest);
        at += wide;
    }
    if whole < x.len() {
        add_bits::<S>(load(simd, x, whole), &mut largest);
    }
    largest[0].max(largest[1]).max(largest[2].max(largest[3])).reduce_max()
}

#[inline(always)]
fn add_bits<S: Simd>(tile: Tile<S, f32>, largest: &mut Words<S>) {
    for k in 0..TILE_VECTORS {
        largest[k] = largest[k].max(tile[k].bitcast::<S::u32s>() & 0x7fff_ffff);
    }
}

/// The largest magnitude of finite elements.
#[inline(always)]
pub fn absmax<S: Simd>(simd: S, x: &[f32]) -> f32 {
    f32::from_bits(largest_bits(simd, x))
}

/// Lanes of the largest vector of 32-bit numbers.
const MOST_LANES: usize = WIDEST / 4;

/// The largest magnitude of each block of whole vectors, as [`largest_bits`] finds it: of as many blocks at once as a vector
/// has lanes, which takes a third of the instructions.
#[inline(always)]
pub fn largest_of_blocks<S: Simd>(simd: S, block: usize, x: &[f32], largest: &mut [f32]) {
    let (lanes, mut first) = (S::u32s::LEN, 0);
    while first + lanes <= largest.len() {
        let mut rows = [S::u32s::splat(simd, 0); MOST_LANES];
        for k in 0..lanes {
            rows[k] = largest_of_lanes(simd, &x[(first + k) * block..][..block]);
        }
        largest_of_rows::<S>(rows).bitcast::<S::f32s>().store_slice(&mut largest[first..first + lanes]);
        first += lanes;
    }
    for k in first..largest.len() {
        largest[k] = f32::from_bits(largest_of_lanes(simd, &x[k * block..][..block]).reduce_max());
    }
}

#[inline(always)]
fn largest_of_lanes<S: Simd>(simd: S, x: &[f32]) -> S::u32s {
    let (mut largest, mut at) = (S::u32s::splat(simd, 0), 0);
    while at < x.len() {
        let bits: S::u32s = S::f32s::from_slice(simd, &x[at..at + S::u32s::LEN]).bitcast();
        largest = largest.max(bits & 0x7fff_ffff);
        at += S::u32s::LEN;
    }
    largest
}

/// The largest lane of each row, in the lane of the row's number.
#[inline(always)]
fn largest_of_rows<S: Simd>(mut rows: [S::u32s; MOST_LANES]) -> S::u32s {
    let mut half = S::u32s::LEN / 2;
    while half > 0 {
        for k in 0..half {
            let (low, high) = rows[k].interleave(rows[k + half]);
            rows[k] = low.max(high);
        }
        half /= 2;
    }
    rows[0]
}

/// Looks up 128 bytes where a vector has [`WIDEST`], by one instruction.
#[inline(always)]
pub fn in_table<S: Simd>(simd: S, table: &[u8], index: S::u8s) -> S::u8s {
    let (low, high) = table.split_at(WIDEST);
    S::u8s::from_slice(simd, low).concat_swizzle_dyn(S::u8s::from_slice(simd, high), index)
}

/// Four planes of bytes, the least significant first, as numbers.
#[inline(always)]
pub fn from_planes<S: Simd>([a, b, c, d]: [S::u8s; 4]) -> Tile<S, f32> {
    let ((low0, low1), (high0, high1)) = (a.interleave(b), c.interleave(d));
    let (low0, low1): (S::u16s, S::u16s) = (low0.bitcast(), low1.bitcast());
    let (a, b) = low0.interleave(high0.bitcast::<S::u16s>());
    let (c, d) = low1.interleave(high1.bitcast::<S::u16s>());
    [a.bitcast(), b.bitcast(), c.bitcast(), d.bitcast()]
}

/// A table of sixteen bytes in each block of a vector.
#[inline(always)]
pub fn sixteen_bytes<S: Simd>(simd: S, bytes: &[u8; 16]) -> S::u8s {
    S::u8s::block_splat(<S::u8s as SimdBase<S>>::Block::from_slice(simd, bytes))
}

/// The four bytes of a table's first word.
const PLACE: u32 = 0x0302_0100;

/// The places of words in a table of 32, as bytes to look up: of each word the number in bits 2 to 6.
#[inline(always)]
pub fn words_of<S: Simd>(simd: S, index: S::u32s) -> S::u8s {
    let first = sixteen_bytes::<S>(simd, &[0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12]);
    let spread = index.swizzle_dyn_within_blocks(first);
    ((spread & 0x7c7c_7c7c) | PLACE).bitcast()
}
