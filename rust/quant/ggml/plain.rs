//! Sixteen blocks of 32 at once: their scales are the lanes of a vector.

use fearless_simd::{f32x16, prelude::*};

use super::{
    F16_MAX, Kind, get_f16,
    lanes::{BLOCK, load, splat, store},
    put_f16,
};

/// Blocks whose scales a vector holds.
const GROUP: usize = 16;

/// What sixteen blocks are encoded with, a lane each.
pub(super) struct Scales<S: Simd> {
    /// Scales.
    pub(super) d: f32x16<S>,
    /// What code 0 stands for, if that is stored.
    pub(super) m: f32x16<S>,
}

/// A kind of block of 32 whose first bytes are d, and m if it has one; then come its codes, which stand for code · d (+ m).
pub(super) trait Plain: Copy + Send + Sync {
    /// Has a block an m?
    const HAS_M: bool = false;

    /// Bytes before the codes.
    const HEAD: usize = if Self::HAS_M { 4 } else { 2 };

    /// Bytes of the codes.
    const CODES: usize;

    /// Scales of up to sixteen blocks, as they are without float16.
    fn scales<S: Simd>(simd: S, x: &[f32]) -> Scales<S>;

    /// What comes after d and m. `CLAMPS`: numbers may be beyond the largest code.
    fn put_codes<S: Simd, const CLAMPS: bool>(simd: S, x: [f32x16<S>; 2], m: f32, id: f32, to: &mut [u8]);

    /// The reverse.
    fn get_codes<S: Simd>(simd: S, from: &[u8]) -> [f32x16<S>; 2];
}

impl<K: Plain> Kind for K {
    const LEN: usize = BLOCK;
    const BYTES: usize = K::HEAD + K::CODES;
    const GROUP: usize = GROUP;

    #[inline(always)]
    fn encode<S: Simd>(simd: S, x: &[f32], to: &mut [u8]) {
        encode::<S, K>(simd, x, to);
    }

    #[inline(always)]
    fn decode<S: Simd>(simd: S, from: &[u8], out: &mut [f32]) {
        let ([a, b], d) = (K::get_codes(simd, &from[K::HEAD..]), get_f16(from, 0));
        if K::HAS_M {
            let m = get_f16(from, 2);
            store([a * d + m, b * d + m], out);
        } else {
            store([a * d, b * d], out);
        }
    }
}

/// From here on a number is nearer to 2^16 than to the largest float16.
const F16_OVERFLOW: f32 = 65520.0;

/// The numbers, or the largest float16 in the place of larger ones.
#[inline(always)]
pub(super) fn saturated<S: Simd>(simd: S, x: f32x16<S>) -> f32x16<S> {
    x.abs().simd_lt(F16_OVERFLOW).select(x, splat(simd, F16_MAX).copysign(x))
}

/// Blocks one after another.
#[inline(always)]
fn encode<S: Simd, K: Plain>(simd: S, x: &[f32], to: &mut [u8]) {
    let Scales { d, m } = K::scales(simd, x);
    let is_inside = d.abs().max(m.abs()).simd_lt(F16_OVERFLOW).all_true();
    let (d, m) = (saturated(simd, d), saturated(simd, m));
    let inverse = splat(simd, 1.0) / d;
    // The inverse of what becomes 0 in float16 may be no number.
    let id = inverse.abs().simd_lt(f32::INFINITY).select(inverse, splat(simd, 0.0));
    if is_inside {
        put::<S, K, false>(simd, x, [d, m, id], to);
    } else {
        put::<S, K, true>(simd, x, [d, m, id], to);
    }
}

#[inline(always)]
fn put<S: Simd, K: Plain, const CLAMPS: bool>(simd: S, x: &[f32], [d, m, id]: [f32x16<S>; 3], to: &mut [u8]) {
    let (d, m, id) = (d.to_array(), m.to_array(), id.to_array());
    for k in 0..x.len() / BLOCK {
        let to = &mut to[k * K::BYTES..][..K::BYTES];
        put_f16(to, 0, d[k]);
        if K::HAS_M {
            put_f16(to, 2, m[k]);
        }
        K::put_codes::<S, CLAMPS>(simd, load(simd, &x[k * BLOCK..]), m[k], id[k], &mut to[K::HEAD..]);
    }
}

/// The largest magnitude of each block.
#[inline(always)]
pub(super) fn absmax<S: Simd>(simd: S, x: &[f32]) -> f32x16<S> {
    let mut lanes = [splat(simd, 0.0); GROUP];
    for k in 0..x.len() / BLOCK {
        let [a, b] = load(simd, &x[k * BLOCK..]);
        lanes[k] = a.abs().max(b.abs());
    }
    fold::<S, true>(lanes)
}

/// The largest and the smallest number of each block.
#[inline(always)]
pub(super) fn extremes<S: Simd>(simd: S, x: &[f32]) -> (f32x16<S>, f32x16<S>) {
    let (mut most, mut least) = ([splat(simd, 0.0); GROUP], [splat(simd, 0.0); GROUP]);
    for k in 0..x.len() / BLOCK {
        let [a, b] = load(simd, &x[k * BLOCK..]);
        (most[k], least[k]) = (a.max(b), a.min(b));
    }
    (fold::<S, true>(most), fold::<S, false>(least))
}

/// Lane k is the largest or smallest lane of vector k: neighbours are folded, two vectors becoming one, four times.
#[inline(always)]
fn fold<S: Simd, const LARGEST: bool>(mut lanes: [f32x16<S>; GROUP]) -> f32x16<S> {
    let mut count = GROUP / 2;
    while count > 0 {
        for k in 0..count {
            let (a, b) = lanes[2 * k].deinterleave(lanes[2 * k + 1]);
            lanes[k] = if LARGEST { a.max(b) } else { a.min(b) };
        }
        count /= 2;
    }
    lanes[0]
}
