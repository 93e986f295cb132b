//! Dynamic 8-bit codes: seven decades of values, the larger the finer, as bitsandbytes' blockwise quantization.

use fearless_simd::prelude::*;

mod cells;
mod grid;
mod lines;
mod map;
mod values;

use self::map::{MAP, UNSIGNED_MAP};
use super::{
    scaled::Levels,
    tile::{WIDEST, from_planes, in_table, narrow_masks},
};
use crate::{dtype::load_native, simd::Tile};

/// The code of the nearest value, the one nearer to zero if two are as near; 0 becomes 0.
///
/// `KEEPS`: what is above zero does not become zero, however small it is.
#[derive(Clone, Copy, Debug)]
pub struct Dynamic8<const SIGNED: bool, const KEEPS: bool>;

/// The values of all codes, by bytes: plane k has byte k of each.
const fn planes(values: &[f32; 256]) -> [[u8; 256]; 4] {
    let (mut planes, mut code) = ([[0; 256]; 4], 0);
    while code < 256 {
        let bytes = values[code].to_le_bytes();
        let mut k = 0;
        while k < 4 {
            planes[k][code] = bytes[k];
            k += 1;
        }
        code += 1;
    }
    planes
}

/// Code 127 is 0, 127 ± i the value of that rank with its sign.
const fn signed_values() -> [f32; 256] {
    let (mut values, mut code) = ([0.0; 256], 0_usize);
    while code < 256 {
        let value = f32::from_bits(values::SIGNED[code.abs_diff(127)]);
        values[code] = if code < 127 { -value } else { value };
        code += 1;
    }
    values
}

const fn unsigned_values() -> [f32; 256] {
    let (mut values, mut code) = ([0.0; 256], 0);
    while code < 256 {
        values[code] = f32::from_bits(values::UNSIGNED[code]);
        code += 1;
    }
    values
}

/// The value of each code.
pub static SIGNED_VALUES: [f32; 256] = signed_values();
/// The value of each code where there are no signs.
pub static UNSIGNED_VALUES: [f32; 256] = unsigned_values();
static SIGNED_PLANES: [[u8; 256]; 4] = planes(&signed_values());
static UNSIGNED_PLANES: [[u8; 256]; 4] = planes(&unsigned_values());

impl<const SIGNED: bool, const KEEPS: bool> Levels for Dynamic8<SIGNED, KEEPS> {
    const LARGEST: f32 = 1.0;

    const KEEPS: bool = KEEPS;
    const DOUBT: Option<u32> = Some(0);

    #[inline(always)]
    fn nearest<S: Simd>(&self, simd: S, scaled: Tile<S, f32>, x: Tile<S, f32>, doubt: &mut S::u32s) -> S::u8s {
        if SIGNED {
            signed_codes::<S>(simd, MAP.indices(simd, magnitudes::<S>(scaled), doubt), scaled)
        } else {
            unsigned_codes::<S, KEEPS>(UNSIGNED_MAP.indices(simd, scaled, doubt), x)
        }
    }

    #[inline(always)]
    fn settled<S: Simd>(&self, simd: S, scaled: Tile<S, f32>, x: Tile<S, f32>) -> S::u8s {
        if SIGNED {
            signed_codes::<S>(simd, MAP.settled(simd, magnitudes::<S>(scaled)), scaled)
        } else {
            unsigned_codes::<S, KEEPS>(UNSIGNED_MAP.settled(simd, scaled), x)
        }
    }

    #[inline(always)]
    fn levels<S: Simd>(&self, simd: S, codes: S::u8s) -> Tile<S, f32> {
        let (values, planes) =
            if SIGNED { (&SIGNED_VALUES, &SIGNED_PLANES) } else { (&UNSIGNED_VALUES, &UNSIGNED_PLANES) };
        if S::u8s::LEN == WIDEST { in_planes(simd, planes, codes) } else { one_by_one::<S>(simd, values, codes) }
    }
}

#[inline(always)]
fn magnitudes<S: Simd>([a, b, c, d]: Tile<S, f32>) -> Tile<S, f32> {
    [a.abs(), b.abs(), c.abs(), d.abs()]
}

/// Code 127 ± index.
#[inline(always)]
fn signed_codes<S: Simd>(simd: S, indices: S::u8s, [a, b, c, d]: Tile<S, f32>) -> S::u8s {
    let is_negative = narrow_masks::<S>([a.simd_lt(0.0), b.simd_lt(0.0), c.simd_lt(0.0), d.simd_lt(0.0)]);
    is_negative.select(S::u8s::splat(simd, 127) - indices.min(127), indices + 127)
}

#[inline(always)]
fn unsigned_codes<S: Simd, const KEEPS: bool>(codes: S::u8s, [a, b, c, d]: Tile<S, f32>) -> S::u8s {
    if !KEEPS {
        return codes;
    }
    let is_there = narrow_masks::<S>([a.simd_gt(0.0), b.simd_gt(0.0), c.simd_gt(0.0), d.simd_gt(0.0)]);
    is_there.select(codes.max(1), codes)
}

/// Two tables of 128 bytes for each plane: what one instruction looks up.
#[inline(always)]
fn in_planes<S: Simd>(simd: S, planes: &[[u8; 256]; 4], codes: S::u8s) -> Tile<S, f32> {
    let (index, is_high) = (codes & 0x7f, codes.simd_ge(0x80));
    let mut bytes = [codes; 4];
    for k in 0..4 {
        let (low, high) = planes[k].split_at(128);
        bytes[k] = is_high.select(in_table(simd, high, index), in_table(simd, low, index));
    }
    from_planes::<S>(bytes)
}

#[inline(always)]
fn one_by_one<S: Simd>(simd: S, values: &[f32; 256], codes: S::u8s) -> Tile<S, f32> {
    let mut found = [0.0; WIDEST];
    for i in 0..S::u8s::LEN {
        found[i] = values[codes.as_slice()[i] as usize];
    }
    load_native(simd, &found, 0)
}

#[cfg(test)]
mod tests;
