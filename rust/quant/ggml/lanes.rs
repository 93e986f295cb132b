//! Thirty-two numbers as two vectors of sixteen lanes: bytes and sums of them are the same at each level.

use fearless_simd::{f32x16, i8x32, i32x16, prelude::*, u8x16, u8x32};

/// Numbers of a plain block.
pub(super) const BLOCK: usize = 32;

/// Lanes of a vector here.
const HALF: usize = 16;

#[inline(always)]
pub(super) fn load<S: Simd>(simd: S, x: &[f32]) -> [f32x16<S>; 2] {
    [f32x16::from_slice(simd, &x[..HALF]), f32x16::from_slice(simd, &x[HALF..BLOCK])]
}

#[inline(always)]
pub(super) fn store<S: Simd>([a, b]: [f32x16<S>; 2], out: &mut [f32]) {
    a.store_slice(&mut out[..HALF]);
    b.store_slice(&mut out[HALF..BLOCK]);
}

#[inline(always)]
pub(super) fn splat<S: Simd>(simd: S, x: f32) -> f32x16<S> {
    f32x16::splat(simd, x)
}

/// The low byte of each lane.
#[inline(always)]
pub(super) fn to_bytes<S: Simd>([a, b]: [i32x16<S>; 2]) -> u8x32<S> {
    let (low, high) = a.narrow(b).split();
    low.narrow(high).bitcast()
}

/// The low byte of each lane of one vector.
#[inline(always)]
pub(super) fn to_half_bytes<S: Simd>(lanes: i32x16<S>) -> u8x16<S> {
    let (low, high) = lanes.split();
    let (low, high) = low.narrow(high).split();
    low.narrow(high).bitcast()
}

/// Each byte, which has a sign, as a number.
#[inline(always)]
pub(super) fn to_floats<S: Simd>(bytes: i8x32<S>) -> [f32x16<S>; 2] {
    let (low, high) = bytes.widen();
    let (a, b) = low.combine(high).widen();
    [a.to_float(), b.to_float()]
}

/// Low halves of sixteen bytes, then high ones.
#[inline(always)]
pub(super) fn nibbles<S: Simd>(simd: S, bytes: &[u8]) -> u8x32<S> {
    let both = u8x16::from_slice(simd, bytes);
    (both & 15).combine(both >> 4)
}

/// The sum of all lanes: lane i + lane i + 16, then halves of what is left.
#[inline(always)]
pub(super) fn total<S: Simd>([a, b]: [f32x16<S>; 2]) -> f32 {
    total_half(a + b)
}

/// The sum of sixteen lanes by halves.
#[inline(always)]
pub(super) fn total_half<S: Simd>(lanes: f32x16<S>) -> f32 {
    let (low, high) = lanes.split();
    let (low, high) = (low + high).split();
    let four = low + high;
    (four[0] + four[2]) + (four[1] + four[3])
}

/// The largest and the smallest number.
#[inline(always)]
pub(super) fn extremes<S: Simd>([a, b]: [f32x16<S>; 2]) -> (f32, f32) {
    (a.max(b).reduce_max(), a.min(b).reduce_min())
}
