//! Blocks of 32 with one scale: decoded they are code · d.

use fearless_simd::{f32x16, i8x32, i32x16, mask32x16, prelude::*, u8x32};

use super::{
    Kind, get_f16, inverse,
    lanes::{BLOCK, extremes, load, nibbles, splat, store, to_bytes, to_floats, to_half_bytes},
    put_f16, saturated,
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

impl Kind for Q80 {
    const LEN: usize = BLOCK;
    const BYTES: usize = 2 + BLOCK;

    #[inline(always)]
    fn encode<S: Simd>(simd: S, x: &[f32], to: &mut [u8]) {
        let [a, b] = load(simd, x);
        let d = saturated(a.abs().max(b.abs()).reduce_max() / 127.0);
        let id = inverse(d);
        let codes = [nearest(simd, a * id), nearest(simd, b * id)];
        put_f16(to, 0, d);
        to_bytes(codes).store_slice(&mut to[2..]);
    }

    #[inline(always)]
    fn decode<S: Simd>(simd: S, from: &[u8], out: &mut [f32]) {
        let codes: i8x32<S> = u8x32::from_slice(simd, &from[2..]).bitcast();
        scale(to_floats(codes), get_f16(from, 0), out);
    }
}

#[inline(always)]
fn nearest<S: Simd>(simd: S, x: f32x16<S>) -> i32x16<S> {
    let inside = x.min(127.0).max(-127.0);
    (inside + splat(simd, BELOW_HALF).copysign(inside)).to_int()
}

#[inline(always)]
fn scale<S: Simd>([a, b]: [f32x16<S>; 2], d: f32, out: &mut [f32]) {
    store([a * d, b * d], out);
}

/// The first number of the largest magnitude.
#[inline(always)]
fn signed_absmax<S: Simd>(lanes: [f32x16<S>; 2], x: &[f32]) -> f32 {
    let (largest, least) = extremes(lanes);
    if largest > -least {
        largest
    } else if largest < -least {
        least
    } else {
        first_of(x, largest.abs())
    }
}

#[inline(never)]
fn first_of(x: &[f32], magnitude: f32) -> f32 {
    x.iter().copied().find(|value| value.abs() == magnitude).unwrap_or(magnitude)
}

/// d for codes around `zero`, and the codes.
#[inline(always)]
fn codes_around<S: Simd>(simd: S, zero: f32, x: &[f32]) -> (f32, [i32x16<S>; 2]) {
    let lanes = load(simd, x);
    let d = saturated(signed_absmax(lanes, x) / -zero);
    let (id, [a, b]) = (inverse(d), lanes);
    (d, [up::<S>(a * id, zero), up::<S>(b * id, zero)])
}

#[inline(always)]
fn up<S: Simd>(x: f32x16<S>, zero: f32) -> i32x16<S> {
    (x + (zero + 0.5)).max(0.0).min(2.0 * zero - 1.0).to_int()
}

impl Kind for Q40 {
    const LEN: usize = BLOCK;
    const BYTES: usize = 2 + BLOCK / 2;

    #[inline(always)]
    fn encode<S: Simd>(simd: S, x: &[f32], to: &mut [u8]) {
        let (d, [low, high]) = codes_around(simd, 8.0, x);
        put_f16(to, 0, d);
        to_half_bytes(low | (high << 4)).store_slice(&mut to[2..]);
    }

    #[inline(always)]
    fn decode<S: Simd>(simd: S, from: &[u8], out: &mut [f32]) {
        let codes: i8x32<S> = (nibbles(simd, &from[2..]) - 8).bitcast();
        scale(to_floats(codes), get_f16(from, 0), out);
    }
}

impl Kind for Q50 {
    const LEN: usize = BLOCK;
    const BYTES: usize = 2 + BLOCK / 8 + BLOCK / 2;

    #[inline(always)]
    fn encode<S: Simd>(simd: S, x: &[f32], to: &mut [u8]) {
        let (d, [low, high]) = codes_around(simd, 16.0, x);
        let fifth = low.simd_ge(16).to_bitmask() | (high.simd_ge(16).to_bitmask() << 16);
        put_f16(to, 0, d);
        to[2..6].copy_from_slice(&(fifth as u32).to_le_bytes());
        to_half_bytes((low & 15) | (high << 4)).store_slice(&mut to[6..]);
    }

    #[inline(always)]
    fn decode<S: Simd>(simd: S, from: &[u8], out: &mut [f32]) {
        let [a, b] = to_floats((nibbles(simd, &from[6..]) - 16).bitcast());
        let fifth = u32::from_le_bytes([from[2], from[3], from[4], from[5]]);
        let (low, high) = (fifth & 0xffff, fifth >> 16);
        let [low, high] = [mask32x16::from_bitmask(simd, low.into()), mask32x16::from_bitmask(simd, high.into())];
        scale([low.select(a + 16.0, a), high.select(b + 16.0, b)], get_f16(from, 0), out);
    }
}
