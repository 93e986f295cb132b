//! Numbers to codes, one a byte, and back.

use fearless_simd::prelude::*;

use super::Grid;
use crate::{
    dtype::load_native,
    prefetch::prefetch,
    quant::tile::{Words, load, load_bytes, store, store_bytes, to_bytes, to_words},
    simd::{TILE_VECTORS, Tile, tile_len},
};

/// 1.5 · 2²³: added to a number below 2²² it leaves the nearest integer, half to even, in the lowest bits.
const SHIFTER: f32 = 12_582_912.0;

/// 2²³, whose lowest bits an integer below it may take.
const BASE: f32 = 8_388_608.0;

/// What numbers are divided or multiplied by, and the codes of 0 as numbers.
pub(super) trait Scales: Copy {
    /// Are there numbers for a tile that begins with any element, or with a run?
    const FROM_ANYWHERE: bool = true;

    fn factor<S: Simd>(self, simd: S, at: usize) -> Tile<S, f32>;
    fn zero<S: Simd>(self, simd: S, at: usize) -> Tile<S, f32>;
}

/// The same for all elements.
#[derive(Clone, Copy, Debug)]
pub(super) struct Same {
    pub(super) factor: f32,
    pub(super) zero: f32,
}

/// A number for each element; the tables go on up to a whole tile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Each<'a> {
    pub(super) factor: &'a [f32],
    pub(super) zero: &'a [f32],
}

/// A number for each run of 2^`shift` elements, 16 at least; the lists go on for a whole tile. `CENTRED` if zero is 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Runs<'a, const CENTRED: bool> {
    pub(super) factor: &'a [f32],
    pub(super) zero: &'a [f32],
    pub(super) shift: u32,
}

#[inline(always)]
fn spread<S: Simd>(simd: S, numbers: &[f32], shift: u32, at: usize) -> Tile<S, f32> {
    let mut tile = [S::f32s::splat(simd, 0.0); TILE_VECTORS];
    for k in 0..TILE_VECTORS {
        tile[k] = S::f32s::splat(simd, numbers[(at + k * S::f32s::LEN) >> shift]);
    }
    tile
}

impl<const CENTRED: bool> Scales for Runs<'_, CENTRED> {
    const FROM_ANYWHERE: bool = false;

    #[inline(always)]
    fn factor<S: Simd>(self, simd: S, at: usize) -> Tile<S, f32> {
        spread(simd, self.factor, self.shift, at)
    }

    #[inline(always)]
    fn zero<S: Simd>(self, simd: S, at: usize) -> Tile<S, f32> {
        if CENTRED { [S::f32s::splat(simd, 0.0); TILE_VECTORS] } else { spread(simd, self.zero, self.shift, at) }
    }
}

impl Scales for Same {
    #[inline(always)]
    fn factor<S: Simd>(self, simd: S, _: usize) -> Tile<S, f32> {
        [S::f32s::splat(simd, self.factor); TILE_VECTORS]
    }

    #[inline(always)]
    fn zero<S: Simd>(self, simd: S, _: usize) -> Tile<S, f32> {
        [S::f32s::splat(simd, self.zero); TILE_VECTORS]
    }
}

impl Scales for Each<'_> {
    #[inline(always)]
    fn factor<S: Simd>(self, simd: S, at: usize) -> Tile<S, f32> {
        load_native(simd, self.factor, at)
    }

    #[inline(always)]
    fn zero<S: Simd>(self, simd: S, at: usize) -> Tile<S, f32> {
        load_native(simd, self.zero, at)
    }
}

/// Writes the codes of `x`; is there a NaN, whose code is any?
#[inline(always)]
pub(super) fn encode<S: Simd, P: Scales>(simd: S, grid: Grid, scales: P, x: &[f32], codes: &mut [u8]) -> bool {
    if grid.is_reciprocal {
        encode_as::<S, P, true>(simd, grid, scales, x, codes)
    } else {
        encode_as::<S, P, false>(simd, grid, scales, x, codes)
    }
}

#[inline(always)]
fn encode_as<S: Simd, P: Scales, const RECIPROCAL: bool>(
    simd: S,
    grid: Grid,
    scales: P,
    x: &[f32],
    codes: &mut [u8],
) -> bool {
    let (mut at, wide) = (0, tile_len::<S, f32>());
    let bounds = [S::f32s::splat(simd, grid.qmin as f32), S::f32s::splat(simd, grid.qmax as f32)];
    let mut largest = S::u32s::splat(simd, 0);
    while at + wide <= x.len() {
        let tile = load_native(simd, x, at);
        largest = largest.max(magnitudes::<S>(tile));
        let words = words_of::<S, RECIPROCAL>(tile, scales.factor(simd, at), scales.zero(simd, at), bounds);
        to_bytes::<S>(words).store_slice(&mut codes[at..at + wide]);
        at += wide;
    }
    if at < x.len() {
        // The last tile overlaps the one before it, where there is one and runs may begin anywhere.
        let at = if P::FROM_ANYWHERE { at.min(x.len().saturating_sub(wide)) } else { at };
        let tile = load(simd, x, at);
        largest = largest.max(magnitudes::<S>(tile));
        let words = words_of::<S, RECIPROCAL>(tile, scales.factor(simd, at), scales.zero(simd, at), bounds);
        store_bytes::<S>(to_bytes::<S>(words), codes, at, wide);
    }
    largest.reduce_max() > f32::INFINITY.to_bits()
}

/// The largest bits of four vectors without their signs.
#[inline(always)]
fn magnitudes<S: Simd>([a, b, c, d]: Tile<S, f32>) -> S::u32s {
    let [a, b, c, d]: Words<S> = [a.bitcast(), b.bitcast(), c.bitcast(), d.bitcast()];
    (a & 0x7fff_ffff).max(b & 0x7fff_ffff).max((c & 0x7fff_ffff).max(d & 0x7fff_ffff))
}

/// Codes in the low bytes: round(clamp(x / scale, qmin - zero, qmax - zero)) + zero.
#[inline(always)]
fn words_of<S: Simd, const RECIPROCAL: bool>(
    tile: Tile<S, f32>,
    factor: Tile<S, f32>,
    zero: Tile<S, f32>,
    [qmin, qmax]: [S::f32s; 2],
) -> Words<S> {
    let mut words = [S::u32s::splat(qmin.token(), 0); TILE_VECTORS];
    for k in 0..TILE_VECTORS {
        let scaled = if RECIPROCAL { tile[k] * factor[k] } else { tile[k] / factor[k] };
        let clamped = scaled.max(qmin - zero[k]).min(qmax - zero[k]);
        let rounded = (clamped + SHIFTER) - SHIFTER;
        words[k] = (rounded + zero[k] + SHIFTER).bitcast();
    }
    words
}

/// (code - zero) · factor
#[inline(always)]
pub(super) fn decode<S: Simd, P: Scales>(simd: S, grid: Grid, scales: P, codes: &[u8], out: &mut [f32]) {
    let (mut at, wide, sign) = (0, tile_len::<S, f32>(), grid.sign());
    let (flip, lowest) = (S::u8s::splat(simd, sign), S::f32s::splat(simd, BASE + f32::from(sign)));
    while at < out.len() {
        prefetch(codes, at, wide);
        // The last tile overlaps the one before it, where there is one and runs may begin anywhere.
        at = if P::FROM_ANYWHERE { at.min(out.len().saturating_sub(wide)) } else { at };
        let words = to_words::<S>(load_bytes(simd, codes, at) ^ flip);
        let (mut tile, factor, zero) =
            ([S::f32s::splat(simd, 0.0); TILE_VECTORS], scales.factor(simd, at), scales.zero(simd, at));
        for k in 0..TILE_VECTORS {
            let code: S::f32s = (words[k] | BASE.to_bits()).bitcast();
            tile[k] = (code - (lowest + zero[k])) * factor[k];
        }
        store::<S>(tile, out, at);
        at += wide;
    }
}
