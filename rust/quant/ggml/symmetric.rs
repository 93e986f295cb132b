//! Blocks of 32 with one scale: decoded they are code · d.

use fearless_simd::{f32x16, i32x16, mask32x16, prelude::*, u8x32};

use super::{
    lanes::{BLOCK, nibbles, splat, to_bytes, to_floats, to_half_bytes},
    plain::{Plain, Scales, absmax, extremes},
};

/// d, then a code of 8 bits a number: d = absmax / 127, half away from zero.
#[derive(Clone, Copy, Debug)]
pub struct Q80;

/// d, then bytes of two codes: number j in the low half of byte j, number j + 16 in the high one.
/// d = m / -8 with m the first number of the largest magnitude; code = ⌊x / d + 8.5⌋ up to 15.
#[derive(Clone, Copy, Debug)]
pub struct Q40;

/// The same with 5 bits, d = m / -16: the fifth bits of all codes stand between d and the bytes.
#[derive(Clone, Copy, Debug)]
pub struct Q50;

/// The largest number below a half: added before a cut, it rounds halves away from zero and all else to the nearest.
const BELOW_HALF: f32 = 0.499_999_97;

impl Plain for Q80 {
    const CODES: usize = BLOCK;

    #[inline(always)]
    fn scales<S: Simd>(simd: S, x: &[f32]) -> Scales<S> {
        Scales { d: absmax(simd, x) / 127.0, m: splat(simd, 0.0) }
    }

    #[inline(always)]
    fn put_codes<S: Simd, const CLAMPS: bool>(simd: S, [a, b]: [f32x16<S>; 2], _: f32, id: f32, to: &mut [u8]) {
        to_bytes([nearest::<S, CLAMPS>(simd, a * id), nearest::<S, CLAMPS>(simd, b * id)]).store_slice(to);
    }

    #[inline(always)]
    fn get_codes<S: Simd>(simd: S, from: &[u8]) -> [f32x16<S>; 2] {
        to_floats(u8x32::from_slice(simd, from).bitcast())
    }
}

#[inline(always)]
fn nearest<S: Simd, const CLAMPS: bool>(simd: S, x: f32x16<S>) -> i32x16<S> {
    let inside = if CLAMPS { x.min(127.0).max(-127.0) } else { x };
    (inside + splat(simd, BELOW_HALF).copysign(inside)).to_int()
}

/// The first number of the largest magnitude of each block.
#[inline(always)]
fn signed_absmax<S: Simd>(simd: S, x: &[f32]) -> f32x16<S> {
    let (largest, least) = extremes(simd, x);
    let below = -least;
    let top = largest.simd_gt(below).select(largest, least);
    if largest.simd_eq(below).any_true() { first_of_two(x, top) } else { top }
}

/// Where a magnitude has both signs, and where all is zero.
#[inline(never)]
fn first_of_two<S: Simd>(x: &[f32], mut top: f32x16<S>) -> f32x16<S> {
    for (x, top) in x.chunks(BLOCK).zip(top.as_mut_slice()) {
        *top = x.iter().copied().find(|value| value.abs() == top.abs()).unwrap_or(*top);
    }
    top
}

/// Codes of 0 to 2·zero - 1, where `zero` stands for zero.
#[inline(always)]
fn around<S: Simd, const CLAMPS: bool>(x: f32x16<S>, zero: f32) -> i32x16<S> {
    let x = x + (zero + 0.5);
    let above = if CLAMPS { x.max(0.0) } else { x };
    above.min(2.0 * zero - 1.0).to_int()
}

impl Plain for Q40 {
    const CODES: usize = BLOCK / 2;

    #[inline(always)]
    fn scales<S: Simd>(simd: S, x: &[f32]) -> Scales<S> {
        Scales { d: signed_absmax(simd, x) / -8.0, m: splat(simd, 0.0) }
    }

    #[inline(always)]
    fn put_codes<S: Simd, const CLAMPS: bool>(_: S, [a, b]: [f32x16<S>; 2], _: f32, id: f32, to: &mut [u8]) {
        let (low, high) = (around::<S, CLAMPS>(a * id, 8.0), around::<S, CLAMPS>(b * id, 8.0));
        to_half_bytes(low | (high << 4)).store_slice(to);
    }

    #[inline(always)]
    fn get_codes<S: Simd>(simd: S, from: &[u8]) -> [f32x16<S>; 2] {
        to_floats((nibbles(simd, from) - 8).bitcast())
    }
}

impl Plain for Q50 {
    const CODES: usize = BLOCK / 8 + BLOCK / 2;

    #[inline(always)]
    fn scales<S: Simd>(simd: S, x: &[f32]) -> Scales<S> {
        Scales { d: signed_absmax(simd, x) / -16.0, m: splat(simd, 0.0) }
    }

    #[inline(always)]
    fn put_codes<S: Simd, const CLAMPS: bool>(_: S, [a, b]: [f32x16<S>; 2], _: f32, id: f32, to: &mut [u8]) {
        let (low, high) = (around::<S, CLAMPS>(a * id, 16.0), around::<S, CLAMPS>(b * id, 16.0));
        let fifth = low.simd_ge(16).to_bitmask() | (high.simd_ge(16).to_bitmask() << 16);
        to[..4].copy_from_slice(&(fifth as u32).to_le_bytes());
        to_half_bytes((low & 15) | (high << 4)).store_slice(&mut to[4..]);
    }

    #[inline(always)]
    fn get_codes<S: Simd>(simd: S, from: &[u8]) -> [f32x16<S>; 2] {
        let [a, b] = to_floats((nibbles(simd, &from[4..]) - 16).bitcast());
        let fifth = u32::from_le_bytes([from[0], from[1], from[2], from[3]]);
        let (low, high) = (fifth & 0xffff, fifth >> 16);
        let [low, high] = [mask32x16::from_bitmask(simd, low.into()), mask32x16::from_bitmask(simd, high.into())];
        [low.select(a + 16.0, a), high.select(b + 16.0, b)]
    }
}
