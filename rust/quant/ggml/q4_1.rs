//! Blocks of 32 with a scale and a minimum: decoded they are code · d + m.

use fearless_simd::{f32x16, i32x16, prelude::*};

use super::{
    Kind, get_f16, inverse,
    lanes::{BLOCK, extremes, load, nibbles, store, to_floats, to_half_bytes},
    put_f16, saturated,
};

/// d = (max - min) / 15 and m = min, then bytes of two codes as Q4_0 has them: code = ⌊(x - m) / d + 0.5⌋.
#[derive(Clone, Copy, Debug)]
pub struct Q41;

impl Kind for Q41 {
    const LEN: usize = BLOCK;
    const BYTES: usize = 4 + BLOCK / 2;

    #[inline(always)]
    fn encode<S: Simd>(simd: S, x: &[f32], to: &mut [u8]) {
        let lanes = load(simd, x);
        let (largest, least) = extremes(lanes);
        // Of zeros the positive one, whichever a vector's minimum is.
        let m = saturated(least + 0.0);
        let d = saturated((largest - m) / 15.0);
        let (id, [a, b]) = (inverse(d), lanes);
        put_f16(to, 0, d);
        put_f16(to, 2, m);
        to_half_bytes(above::<S>(a, m, id) | (above::<S>(b, m, id) << 4)).store_slice(&mut to[4..]);
    }

    #[inline(always)]
    fn decode<S: Simd>(simd: S, from: &[u8], out: &mut [f32]) {
        let (d, m) = (get_f16(from, 0), get_f16(from, 2));
        let [a, b] = to_floats(nibbles(simd, &from[4..]).bitcast());
        store([a * d + m, b * d + m], out);
    }
}

#[inline(always)]
fn above<S: Simd>(x: f32x16<S>, m: f32, id: f32) -> i32x16<S> {
    ((x - m) * id + 0.5).max(0.0).min(15.0).to_int()
}
