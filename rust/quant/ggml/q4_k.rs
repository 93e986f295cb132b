//! 256 numbers as eight blocks of 32, each with a scale and a minimum of six bits: decoded they are code · d·sc - dmin·mn.

use fearless_simd::{f32x16, prelude::*, u8x32};

use super::{
    F16_MAX, Kind, get_f16, inverse,
    lanes::{BLOCK, extremes, load, store, to_bytes, to_floats, total},
    put_f16,
};

/// d and dmin, twelve bytes of scales and minimums, then bytes of two codes: block 2p in the low halves of 32 bytes, block
/// 2p + 1 in the high ones.
#[derive(Clone, Copy, Debug)]
pub struct Q4K;

const BLOCKS: usize = 8;

/// Steps into which a block's range is cut to begin with: some numbers at its ends may be cut off.
const STEPS: [f32; 4] = [13.5, 14.0, 14.5, 15.0];

/// A range that is no wider is a point.
const POINT: f32 = 1e-30;

/// What a block's line is before its numbers are rounded: code · scale - low, neither below zero.
#[derive(Clone, Copy)]
struct Line {
    scale: f32,
    low: f32,
}

type Lanes<S> = [f32x16<S>; 2];

impl Kind for Q4K {
    const LEN: usize = BLOCKS * BLOCK;
    const BYTES: usize = 4 + 12 + BLOCKS * BLOCK / 2;

    #[inline(always)]
    fn encode<S: Simd>(simd: S, x: &[f32], to: &mut [u8]) {
        let (mut lines, mut most) = ([Line { scale: 0.0, low: 0.0 }; BLOCKS], Line { scale: 0.0, low: 0.0 });
        for k in 0..BLOCKS {
            lines[k] = fit::<S>(inside(simd, x, k));
            most.scale = larger(lines[k].scale, most.scale);
            most.low = larger(lines[k].low, most.low);
        }
        put_f16(to, 0, most.scale / 63.0);
        put_f16(to, 2, most.low / 63.0);
        let (d, dmin) = (get_f16(to, 0), get_f16(to, 2));
        let (by_scale, by_low) = (inverse(d), inverse(dmin));
        let (mut sc, mut mn) = ([0; BLOCKS], [0; BLOCKS]);
        for k in 0..BLOCKS {
            sc[k] = six_bits(lines[k].scale * by_scale);
            mn[k] = six_bits(lines[k].low * by_low);
        }
        pack_scales(sc, mn, &mut to[4..16]);
        for pair in 0..BLOCKS / 2 {
            let mut codes = [u8x32::splat(simd, 0); 2];
            for k in 0..2 {
                let at = 2 * pair + k;
                let (scale, low) = (d * f32::from(sc[at]), dmin * f32::from(mn[at]));
                let [a, b] = codes_on::<S>(inside(simd, x, at), low, inverse(scale));
                codes[k] = to_bytes([a.to_int(), b.to_int()]);
            }
            (codes[0] | (codes[1] << 4)).store_slice(&mut to[16 + pair * BLOCK..][..BLOCK]);
        }
    }

    #[inline(always)]
    fn decode<S: Simd>(simd: S, from: &[u8], out: &mut [f32]) {
        let (d, dmin) = (get_f16(from, 0), get_f16(from, 2));
        let (sc, mn) = unpack_scales(&from[4..16]);
        for pair in 0..BLOCKS / 2 {
            let both = u8x32::from_slice(simd, &from[16 + pair * BLOCK..][..BLOCK]);
            for (k, codes) in [both & 15, both >> 4].into_iter().enumerate() {
                let at = 2 * pair + k;
                let (scale, low) = (d * f32::from(sc[at]), dmin * f32::from(mn[at]));
                let [a, b] = to_floats(codes.bitcast());
                store([a * scale - low, b * scale - low], &mut out[at * BLOCK..]);
            }
        }
    }
}

/// Block `k`, as far as there are codes: nothing that is summed overflows then.
#[inline(always)]
fn inside<S: Simd>(simd: S, x: &[f32], k: usize) -> Lanes<S> {
    let [a, b] = load(simd, &x[k * BLOCK..]);
    let (low, high) = (-63.0 * F16_MAX, 15.0 * 63.0 * F16_MAX);
    [a.max(low).min(high), b.max(low).min(high)]
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// Codes on a line as whole numbers.
#[inline(always)]
fn codes_on<S: Simd>([a, b]: Lanes<S>, low: f32, inverse: f32) -> Lanes<S> {
    [
        ((a + low) * inverse).round_ties_even().max(0.0).min(15.0),
        ((b + low) * inverse).round_ties_even().max(0.0).min(15.0),
    ]
}

/// The line of the least squared error among those that codes of [`STEPS`] imply.
#[inline(always)]
fn fit<S: Simd>(x: Lanes<S>) -> Line {
    let (largest, least) = extremes(x);
    let low = larger(-least, 0.0);
    let range = largest + low;
    let (mut best, mut least_error) = (Line { scale: 0.0, low }, f32::INFINITY);
    for steps in STEPS {
        let scale = range / steps;
        let inverse = if scale > POINT { 1.0 / scale } else { 0.0 };
        let codes = codes_on::<S>(x, low, inverse);
        let line = regress::<S>(x, codes, Line { scale, low });
        let error = error_of::<S>(x, codes, line);
        if error < least_error {
            (best, least_error) = (line, error);
        }
    }
    best
}

/// The line through (code, number) with the least squared error, through zero if it would begin above; the one that the codes
/// were made with if they are all alike.
#[inline(always)]
fn regress<S: Simd>([a, b]: Lanes<S>, [p, q]: Lanes<S>, line: Line) -> Line {
    let (sum, codes) = (total([a, b]), total([p, q]));
    let (squares, products) = (total([p * p, q * q]), total([p * a, q * b]));
    let count = BLOCK as f32;
    let spread = count * squares - codes * codes;
    if spread == 0.0 {
        return line;
    }
    let scale = (count * products - codes * sum) / spread;
    let low = (scale * codes - sum) * (1.0 / count);
    if low < 0.0 { Line { scale: products / squares, low: 0.0 } } else { Line { scale, low } }
}

#[inline(always)]
fn error_of<S: Simd>([a, b]: Lanes<S>, [p, q]: Lanes<S>, Line { scale, low }: Line) -> f32 {
    let (a, b) = (a - (p * scale - low), b - (q * scale - low));
    total([a * a, b * b])
}

#[inline(always)]
fn six_bits(x: f32) -> u8 {
    x.round_ties_even().clamp(0.0, 63.0) as u8
}

/// Blocks 0 to 3 have six bits of a byte each, those of 4 to 7 are cut in two: the upper two bits stand above them.
#[inline(always)]
fn pack_scales(sc: [u8; BLOCKS], mn: [u8; BLOCKS], to: &mut [u8]) {
    for k in 0..4 {
        to[k] = sc[k] | (sc[k + 4] >> 4 << 6);
        to[k + 4] = mn[k] | (mn[k + 4] >> 4 << 6);
        to[k + 8] = (sc[k + 4] & 15) | (mn[k + 4] << 4);
    }
}

#[inline(always)]
fn unpack_scales(from: &[u8]) -> ([u8; BLOCKS], [u8; BLOCKS]) {
    let (mut sc, mut mn) = ([0; BLOCKS], [0; BLOCKS]);
    for k in 0..4 {
        (sc[k], mn[k]) = (from[k] & 63, from[k + 4] & 63);
        sc[k + 4] = (from[k + 8] & 15) | (from[k] >> 6 << 4);
        mn[k + 4] = (from[k + 8] >> 4) | (from[k + 4] >> 6 << 4);
    }
    (sc, mn)
}
