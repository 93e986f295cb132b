//! 8-bit floats: e4m3fn and e5m2 as ml_dtypes has them, and an unsigned one for numbers that are never below zero.

use fearless_simd::prelude::*;

use super::{
    codec::Codec,
    minifloat::{
        Minifloat, decode, encode, encode_finite, encode_small, from_upper, magnitude, magnitude_code, planes,
    },
    scaled::Levels,
    tile::{WIDEST, in_table, load, load_bytes, store, store_bytes, to_bytes, to_words},
};
use crate::simd::{TILE_VECTORS, Tile, tile_len};

/// Four bits of exponent, three of mantissa; no infinity, one NaN of each sign.
#[derive(Clone, Copy, Debug)]
pub struct E4m3;

/// Five bits of exponent, two of mantissa: the upper half of a float16.
#[derive(Clone, Copy, Debug)]
pub struct E5m2;

impl Minifloat for E4m3 {
    const MANTISSA: u32 = 3;
    const BIAS: u32 = 7;
    const LARGEST: f32 = 448.0;
    const OVERFLOW: f32 = 480.0;
    const NAN: f32 = 480.0;
    const SPECIAL: u32 = 0x7f;
}

impl Minifloat for E5m2 {
    const MANTISSA: u32 = 2;
    const BIAS: u32 = 15;
    const LARGEST: f32 = 57344.0;
    const OVERFLOW: f32 = 65536.0;
    const NAN: f32 = 98304.0;
    const SPECIAL: u32 = 0x7c;
}

/// float32 rounded to e4m3fn, half to even. What is too large becomes 448 if it `saturates`, else NaN.
#[inline(always)]
pub fn to_e4m3<S: Simd>(simd: S, x: Tile<S, f32>, saturates: bool) -> S::u8s {
    encode::<S, E4m3>(simd, x, saturates)
}

/// e4m3fn as float32, exactly.
#[inline(always)]
pub fn from_e4m3<S: Simd>(simd: S, codes: S::u8s) -> Tile<S, f32> {
    decode::<S, E4m3>(simd, codes)
}

/// float32 rounded to e5m2, half to even. What is too large becomes 57344 if it `saturates`, else infinity.
#[inline(always)]
pub fn to_e5m2<S: Simd>(simd: S, x: Tile<S, f32>, saturates: bool) -> S::u8s {
    encode::<S, E5m2>(simd, x, saturates)
}

/// e5m2 as float32, exactly.
#[inline(always)]
pub fn from_e5m2<S: Simd>(simd: S, codes: S::u8s) -> Tile<S, f32> {
    decode::<S, E5m2>(simd, codes)
}

/// Levels of blocks whose largest magnitude becomes the largest number of a format.
#[derive(Clone, Copy, Debug)]
pub struct Float8<F>(pub F);

impl<F: Minifloat> Levels for Float8<F> {
    const LARGEST: f32 = F::LARGEST;
    const BY_MAGNITUDE: bool = true;

    #[inline(always)]
    fn nearest<S: Simd>(&self, simd: S, scaled: Tile<S, f32>, _: Tile<S, f32>, _: &mut S::u32s) -> S::u8s {
        encode_small::<S, F>(simd, scaled)
    }

    #[inline(always)]
    fn levels<S: Simd>(&self, simd: S, codes: S::u8s) -> Tile<S, f32> {
        decode::<S, F>(simd, codes)
    }
}

/// Codes without any scale, saturating.
#[derive(Clone, Copy, Debug)]
pub struct Plain<F>(pub F);

impl<F: Minifloat> Codec for Plain<F> {
    type Scale = ();

    fn code_bytes(&self, len: usize) -> usize {
        len
    }

    #[inline(always)]
    fn encode<S: Simd>(&self, simd: S, _: usize, _: usize, x: &[f32], codes: &mut [u8], _: &mut [()]) {
        let wide = tile_len::<S, f32>();
        for at in (0..x.len()).step_by(wide) {
            store_bytes::<S>(encode_finite::<S, F>(simd, load(simd, x, at)), codes, at, wide);
        }
    }

    #[inline(always)]
    fn decode<S: Simd>(&self, simd: S, _: usize, _: usize, codes: &[u8], _: &[()], out: &mut [f32]) {
        for at in (0..out.len()).step_by(tile_len::<S, f32>()) {
            store::<S>(decode::<S, F>(simd, load_bytes(simd, codes, at)), out, at);
        }
    }
}

/// Levels without a sign: five bits of exponent and three of mantissa, the top bits of a float16 behind its sign. What is
/// below zero becomes zero.
///
/// `KEEPS`: what is above zero does not become zero, however small it is.
#[derive(Clone, Copy, Debug)]
pub struct Ue5m3<const KEEPS: bool>;

impl<const KEEPS: bool> Minifloat for Ue5m3<KEEPS> {
    const MANTISSA: u32 = 3;
    const BIAS: u32 = 15;
    const SIGN: u32 = 8;
    const LARGEST: f32 = 61440.0;
    const OVERFLOW: f32 = 65536.0;
    const NAN: f32 = 98304.0;
    const SPECIAL: u32 = 0x100;
}

impl<const KEEPS: bool> Levels for Ue5m3<KEEPS> {
    const LARGEST: f32 = <Self as Minifloat>::LARGEST;
    const KEEPS: bool = KEEPS;

    #[inline(always)]
    fn nearest<S: Simd>(&self, simd: S, scaled: Tile<S, f32>, x: Tile<S, f32>, _: &mut S::u32s) -> S::u8s {
        let mut codes = [S::u32s::splat(simd, 0); TILE_VECTORS];
        for k in 0..TILE_VECTORS {
            let magnitude = scaled[k].max(0.0);
            codes[k] = magnitude_code::<S, Self>(if KEEPS { kept::<S>(simd, magnitude, x[k]) } else { magnitude });
        }
        to_bytes::<S>(codes)
    }

    #[inline(always)]
    fn levels<S: Simd>(&self, simd: S, codes: S::u8s) -> Tile<S, f32> {
        if S::u8s::LEN == WIDEST { look_up(simd, codes) } else { work_out::<S>(simd, codes) }
    }
}

/// Planes of the lower and the upper 128 codes.
static PLANES: [[[u8; 128]; 2]; 2] = [planes::<Ue5m3<false>>(0), planes::<Ue5m3<false>>(128)];

#[inline(always)]
fn look_up<S: Simd>(simd: S, codes: S::u8s) -> Tile<S, f32> {
    let (index, is_upper) = (codes & 0x7f, codes.simd_ge(0x80));
    let mut bytes = [codes; 2];
    for k in 0..2 {
        bytes[k] = is_upper.select(in_table(simd, &PLANES[1][k], index), in_table(simd, &PLANES[0][k], index));
    }
    from_upper::<S>(simd, bytes)
}

#[inline(always)]
fn work_out<S: Simd>(simd: S, codes: S::u8s) -> Tile<S, f32> {
    let words = to_words::<S>(codes);
    let mut tile = [S::f32s::splat(simd, 0.0); TILE_VECTORS];
    for k in 0..TILE_VECTORS {
        tile[k] = magnitude::<S, Ue5m3<false>>(words[k]);
    }
    tile
}

/// At least the least number, 2⁻¹⁷, where `x` is above zero.
#[inline(always)]
fn kept<S: Simd>(simd: S, magnitude: S::f32s, x: S::f32s) -> S::f32s {
    const LEAST: f32 = f32::from_bits((127 - 17) << 23);
    x.simd_gt(0.0).select(magnitude.max(LEAST), S::f32s::splat(simd, 0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dispatch,
        dtype::load_native,
        quant::{
            scaled::{decode_blocks, encode_block},
            tile::WIDEST,
        },
        simd::Isa,
    };

    #[inline(always)]
    fn encode_tiles<S: Simd, F: Minifloat>(simd: S, x: &[f32; WIDEST], saturates: bool, codes: &mut [u8; WIDEST]) {
        let wide = tile_len::<S, f32>();
        for at in (0..WIDEST).step_by(wide) {
            store_bytes::<S>(encode::<S, F>(simd, load_native(simd, x, at), saturates), codes, at, wide);
        }
    }

    fn to_codes<F: Minifloat>(isa: Isa, x: [f32; WIDEST], saturates: bool) -> [u8; WIDEST] {
        let mut codes = [0; WIDEST];
        dispatch!(isa, simd => encode_tiles::<_, F>(simd, &x, saturates, &mut codes));
        codes
    }

    #[inline(always)]
    fn decode_tiles<S: Simd, F: Minifloat>(simd: S, codes: &[u8; 256], out: &mut [f32; 256]) {
        for at in (0..256).step_by(tile_len::<S, f32>()) {
            store::<S>(decode::<S, F>(simd, load_bytes(simd, codes, at)), out, at);
        }
    }

    /// The number of a code below [`Minifloat::SPECIAL`] by its definition.
    fn value<F: Minifloat>(code: u32) -> f64 {
        let (exponent, steps) = ((code >> F::MANTISSA) as i32, f64::from(1 << F::MANTISSA));
        let fraction = f64::from(code % (1 << F::MANTISSA)) / steps;
        let (implied, exponent) = if exponent == 0 { (0.0, 1) } else { (1.0, exponent) };
        (implied + fraction) * 2f64.powi(exponent - F::BIAS as i32)
    }

    fn check_decoded<F: Minifloat>() {
        let all: [u8; 256] = std::array::from_fn(|code| code as u8);
        for isa in Isa::available() {
            let mut out = [0.0; 256];
            dispatch!(isa, simd => decode_tiles::<_, F>(simd, &all, &mut out));
            for code in 0..128 {
                let want = value::<F>(code as u32);
                for (got, sign) in [(out[code], 1.0), (out[code + 128], -1.0)] {
                    assert_eq!(got.is_sign_negative(), sign < 0.0);
                    match code as u32 {
                        finite if finite < F::SPECIAL => assert_eq!(f64::from(got), want * sign, "{isa:?} {code}"),
                        0x7c => assert_eq!(got, f32::INFINITY * sign as f32),
                        _ => assert!(got.is_nan()),
                    }
                }
            }
        }
    }

    #[test]
    fn each_code_decodes_to_its_definition() {
        check_decoded::<E4m3>();
        check_decoded::<E5m2>();
    }

    /// Middles go to the even code, what lies beside them to the nearer one.
    fn check_middles<F: Minifloat>() {
        for isa in Isa::available() {
            for code in 0..F::SPECIAL - 1 {
                let middle = f64::midpoint(value::<F>(code), value::<F>(code + 1)) as f32;
                let beside = |step: u32| f32::from_bits(middle.to_bits().wrapping_add(step));
                let x = [middle, beside(u32::MAX), beside(1), -middle, value::<F>(code) as f32];
                let got = to_codes::<F>(isa, std::array::from_fn(|i| x[i % 5]), code % 2 == 0);
                let even = (code + code % 2) as u8;
                assert_eq!(got[..5], [even, code as u8, code as u8 + 1, even | 0x80, code as u8], "{isa:?} {code}");
                assert_eq!(got[5..60], got[..55]);
            }
        }
    }

    #[test]
    fn encoding_rounds_half_to_even_over_the_whole_range() {
        check_middles::<E4m3>();
        check_middles::<E5m2>();
    }

    #[test]
    fn overflow_saturates_or_becomes_what_the_format_has_for_it() {
        let next = |x: f32| f32::from_bits(x.to_bits() + 1);
        for isa in Isa::available() {
            let x = [464.0, next(464.0), 1e30, f32::INFINITY, -f32::INFINITY, f32::NAN, -f32::NAN, f32::from_bits(1)];
            let x: [f32; WIDEST] = std::array::from_fn(|i| x[i % 8]);
            assert_eq!(to_codes::<E4m3>(isa, x, true)[..8], [0x7e, 0x7e, 0x7e, 0x7e, 0xfe, 0x7f, 0xff, 0], "{isa:?}");
            assert_eq!(to_codes::<E4m3>(isa, x, false)[..8], [0x7e, 0x7f, 0x7f, 0x7f, 0xff, 0x7f, 0xff, 0], "{isa:?}");
            let x = [61439.0, 61440.0, 1e30, f32::INFINITY, -f32::INFINITY, f32::NAN, -f32::NAN, -0.0];
            let x: [f32; WIDEST] = std::array::from_fn(|i| x[i % 8]);
            assert_eq!(to_codes::<E5m2>(isa, x, true)[..8], [0x7b, 0x7b, 0x7b, 0x7b, 0xfb, 0x7e, 0xfe, 0x80]);
            assert_eq!(to_codes::<E5m2>(isa, x, false)[..8], [0x7b, 0x7c, 0x7c, 0x7c, 0xfc, 0x7e, 0xfe, 0x80]);
        }
    }

    fn codes_of<L: Levels>(isa: Isa, levels: L, x: &[f32]) -> (Vec<u8>, f32) {
        let (mut codes, mut scale) = (vec![0; x.len()], 0.0);
        dispatch!(isa, simd => scale = encode_block(simd, &levels, x, &mut codes));
        (codes, scale)
    }

    #[test]
    fn a_block_is_scaled_to_the_largest_number() {
        for isa in Isa::available() {
            assert_eq!(codes_of(isa, Float8(E4m3), &[-896.0, 448.0, 0.0, 1e-9]), (vec![0xfe, 0x76, 0, 0], 2.0));
            assert_eq!(codes_of(isa, Float8(E5m2), &[28672.0, -0.5]), (vec![0x7b, 0xbc], 0.5));
        }
    }

    #[test]
    fn codes_without_a_sign_are_a_float16s_top_bits_and_keep_what_is_above_zero() {
        let all: Vec<u8> = (0..248).collect();
        for isa in Isa::available() {
            let mut values = vec![0.0; 248];
            dispatch!(isa, simd => decode_blocks(simd, &Ue5m3::<true>, 256, &all, &[1.0], &mut values));
            for code in 0..248 {
                assert_eq!(f64::from(values[code]), value::<Ue5m3<true>>(code as u32));
            }
            assert_eq!(codes_of(isa, Ue5m3::<true>, &values), (all.clone(), 1.0));
            assert_eq!(codes_of(isa, Ue5m3::<true>, &[1.0, 1e-45, 0.0, -1.0]).0, [247, 1, 0, 0]);
            assert_eq!(codes_of(isa, Ue5m3::<false>, &[1.0, 1e-45, 0.0, -1.0]).0, [247, 0, 0, 0]);
        }
    }
}
