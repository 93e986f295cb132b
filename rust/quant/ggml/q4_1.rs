//! Blocks of 32 with a scale and a minimum: decoded they are code · d + m.

use fearless_simd::{f32x16, i32x16, prelude::*};

use super::{
    lanes::{BLOCK, nibbles, to_floats, to_half_bytes},
    plain::{Plain, Scales, extremes, saturated},
};

/// d = (max - min) / 15 and m = min, then bytes of two codes as Q4_0 has them: code = ⌊(x - m) / d + 0.5⌋.
#[derive(Clone, Copy, Debug)]
pub struct Q41;

impl Plain for Q41 {
    const HAS_M: bool = true;
    const CODES: usize = BLOCK / 2;

    #[inline(always)]
    fn scales<S: Simd>(simd: S, x: &[f32]) -> Scales<S> {
        let (largest, least) = extremes(simd, x);
        // Of zeros the positive one, whichever a vector's minimum is.
        let m = least + 0.0;
        Scales { d: (largest - saturated(simd, m)) / 15.0, m }
    }

    #[inline(always)]
    fn put_codes<S: Simd, const CLAMPS: bool>(_: S, [a, b]: [f32x16<S>; 2], m: f32, id: f32, to: &mut [u8]) {
        to_half_bytes(above::<S, CLAMPS>(a, m, id) | (above::<S, CLAMPS>(b, m, id) << 4)).store_slice(to);
    }

    #[inline(always)]
    fn get_codes<S: Simd>(simd: S, from: &[u8]) -> [f32x16<S>; 2] {
        to_floats(nibbles(simd, from).bitcast())
    }
}

#[inline(always)]
fn above<S: Simd, const CLAMPS: bool>(x: f32x16<S>, m: f32, id: f32) -> i32x16<S> {
    let x = (x - m) * id + 0.5;
    if CLAMPS { x.max(0.0).min(15.0).to_int() } else { x.to_int() }
}
