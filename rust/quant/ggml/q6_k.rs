//! 256 numbers as sixteen blocks of 16, each with a scale of eight bits: decoded they are (code - 32) · d·sc.

use fearless_simd::{f32x16, prelude::*, u8x32};

use super::{
    F16_MAX, Kind, get_f16, inverse,
    lanes::{BLOCK, store, to_bytes, to_floats, total_half},
    put_f16,
};

/// The low four bits of all codes, the upper two, scales, d. In each half of the 256, rows of 32 codes lie above one another:
/// rows 0 and 2, rows 1 and 3 share bytes of low bits, all four the bytes of upper ones.
#[derive(Clone, Copy, Debug)]
pub struct Q6K;

const BLOCKS: usize = 16;
const SMALL: usize = 16;
const UPPER: usize = 128;
const SCALES: usize = 192;
const D: usize = 208;

/// Steps from zero to a block's largest magnitude to begin with.
const STEPS: [f32; 4] = [30.0, 31.0, 32.0, 33.0];

/// A scale that is no larger is zero.
const POINT: f32 = 1e-30;

impl Kind for Q6K {
    const LEN: usize = BLOCKS * SMALL;
    const BYTES: usize = D + 2;

    #[inline(always)]
    fn encode<S: Simd>(simd: S, x: &[f32], to: &mut [u8]) {
        let (mut scales, mut top) = ([0.0_f32; BLOCKS], 0.0_f32);
        for k in 0..BLOCKS {
            scales[k] = fit::<S>(inside(simd, x, k));
            top = if scales[k].abs() > top.abs() { scales[k] } else { top };
        }
        // A zero without a sign.
        put_f16(to, D, top / -128.0 + 0.0);
        let d = get_f16(to, D);
        let by_scale = inverse(d);
        for k in 0..BLOCKS {
            let sc = (scales[k] * by_scale).round_ties_even().clamp(-128.0, 127.0) as i8;
            to[SCALES + k] = sc as u8;
            scales[k] = inverse(d * f32::from(sc));
        }
        for half in 0..2 {
            let mut rows = [u8x32::splat(simd, 0); 4];
            for row in 0..4 {
                let k = 8 * half + 2 * row;
                let [a, b] = [
                    codes_by::<S>(inside(simd, x, k), scales[k]),
                    codes_by::<S>(inside(simd, x, k + 1), scales[k + 1]),
                ];
                rows[row] = to_bytes([a.to_int(), b.to_int()]) + 32;
            }
            for row in 0..2 {
                let low = (rows[row] & 15) | (rows[row + 2] << 4);
                low.store_slice(&mut to[(2 * half + row) * BLOCK..][..BLOCK]);
            }
            let upper = (rows[0] >> 4) | (rows[1] >> 4 << 2) | (rows[2] >> 4 << 4) | (rows[3] >> 4 << 6);
            upper.store_slice(&mut to[UPPER + half * BLOCK..][..BLOCK]);
        }
    }

    #[inline(always)]
    fn decode<S: Simd>(simd: S, from: &[u8], out: &mut [f32]) {
        let d = get_f16(from, D);
        for half in 0..2 {
            let low0 = u8x32::from_slice(simd, &from[2 * half * BLOCK..][..BLOCK]);
            let low1 = u8x32::from_slice(simd, &from[(2 * half + 1) * BLOCK..][..BLOCK]);
            let upper = u8x32::from_slice(simd, &from[UPPER + half * BLOCK..][..BLOCK]);
            let rows = [
                (low0 & 15) | ((upper & 3) << 4),
                (low1 & 15) | ((upper >> 2 & 3) << 4),
                (low0 >> 4) | ((upper >> 4 & 3) << 4),
                (low1 >> 4) | (upper >> 6 << 4),
            ];
            for row in 0..4 {
                let k = 8 * half + 2 * row;
                let [a, b] = to_floats((rows[row] - 32).bitcast());
                let scale = [d * f32::from(from[SCALES + k] as i8), d * f32::from(from[SCALES + k + 1] as i8)];
                store([a * scale[0], b * scale[1]], &mut out[k * SMALL..]);
            }
        }
    }
}

/// Block `k`, as far as there are codes: nothing that is summed overflows then.
#[inline(always)]
fn inside<S: Simd>(simd: S, x: &[f32], k: usize) -> f32x16<S> {
    let most = 128.0 * 32.0 * F16_MAX;
    f32x16::from_slice(simd, &x[k * SMALL..][..SMALL]).max(-most).min(most)
}

#[inline(always)]
fn codes_by<S: Simd>(x: f32x16<S>, inverse: f32) -> f32x16<S> {
    (x * inverse).round_ties_even().max(-32.0).min(31.0)
}

/// The scale of the least squared error among those that codes of [`STEPS`] imply: it takes Σ code·x · scale from Σ x².
#[inline(always)]
fn fit<S: Simd>(x: f32x16<S>) -> f32 {
    let (largest, least) = (x.reduce_max(), x.reduce_min());
    let top = if largest > -least { largest } else { least };
    let (mut best, mut most) = (0.0, -1.0);
    for steps in STEPS {
        let start = top / -steps;
        let codes = codes_by::<S>(x, if start.abs() > POINT { 1.0 / start } else { 0.0 });
        let products = total_half(codes * x);
        let scale = products / total_half(codes * codes);
        if products * scale > most {
            (best, most) = (scale, products * scale);
        }
    }
    best
}
