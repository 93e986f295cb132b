//! bfloat16 and float16 as bits: branch-free conversions of our own, the same at every CPU level.
//!
//! The hardware's conversions would flush denormals (AVX512-BF16) or are missing at the lower levels.

use fearless_simd::prelude::*;

/// bfloat16 bits as float32, exactly.
#[inline(always)]
pub fn from_bf16<S: Simd>(x: S::u16s) -> [S::f32s; 2] {
    let (low, high) = x.widen();
    [(low << 16).bitcast(), (high << 16).bitcast()]
}

/// float32 rounded to bfloat16 bits, half to even; a NaN stays one.
#[inline(always)]
pub fn to_bf16<S: Simd>(simd: S, x: [S::f32s; 2]) -> S::u16s {
    let mut rounded = [S::u32s::splat(simd, 0); 2];
    for k in 0..2 {
        let bits: S::u32s = x[k].bitcast();
        let half_to_even = bits + ((bits >> 16) & 1) + 0x7fff;
        rounded[k] = x[k].is_nan().select(bits | 0x0040_0000, half_to_even);
    }
    upper_halves::<S>(rounded)
}

/// The upper 16 bits of each element.
#[inline(always)]
fn upper_halves<S: Simd>([low, high]: [S::u32s; 2]) -> S::u16s {
    let low: S::u16s = low.bitcast();
    low.unzip_high(high.bitcast::<S::u16s>())
}

const F16_MAGNITUDE: u32 = 0x7fff;
/// Infinity of binary16, where its bits stand 13 places up in a binary32.
const F16_INFINITY_SHIFTED: u32 = 0x7c00 << 13;
const F32_INFINITY: u32 = 0x7f80_0000;
const F32_MAGNITUDE: u32 = 0x7fff_ffff;
/// 2^-14, the smallest normal binary16, as a binary32.
const F16_NORMAL: u32 = 0x3880_0000;
/// 2^24: a denormal binary16 is a whole number of 2^-24.
const F16_DENORMALS: f32 = 16_777_216.0;
/// 2^112: the exponents' biases differ by 112.
const F16_TO_F32: f32 = f32::from_bits((127 + 112) << 23);

/// float16 bits as float32, exactly.
#[inline(always)]
pub fn from_f16<S: Simd>(x: S::u16s) -> [S::f32s; 2] {
    let (low, high) = x.widen();
    [from_f16_bits::<S>(low), from_f16_bits::<S>(high)]
}

/// Shifts exponent and mantissa into place; the product with 2^112 corrects the bias and makes denormals normal, exactly.
#[inline(always)]
fn from_f16_bits<S: Simd>(half: S::u32s) -> S::f32s {
    let shifted = (half & F16_MAGNITUDE) << 13;
    let finite: S::f32s = shifted.bitcast::<S::f32s>() * F16_TO_F32;
    let magnitude = shifted.simd_ge(F16_INFINITY_SHIFTED).select(shifted | F32_INFINITY, finite.bitcast());
    (magnitude | ((half & 0x8000) << 16)).bitcast()
}

/// float32 rounded to float16 bits, half to even; a NaN stays one.
#[inline(always)]
pub fn to_f16<S: Simd>(simd: S, [low, high]: [S::f32s; 2]) -> S::u16s {
    to_f16_bits(simd, low).narrow(to_f16_bits(simd, high))
}

/// Three ranges: from 2^16 on infinity or NaN; below 2^-14 denormal, rounded by an addition whose last place is binary16's
/// smallest number; between them the exponent's bias is changed and the mantissa rounded in integers.
#[inline(always)]
fn to_f16_bits<S: Simd>(simd: S, x: S::f32s) -> S::u32s {
    let bits: S::u32s = x.bitcast();
    let magnitude = bits & F32_MAGNITUDE;
    let infinite = S::u32s::splat(simd, 0x7c00);
    let special = magnitude.simd_gt(F32_INFINITY).select(infinite | 0x0200, infinite);
    let denormal: S::u32s = (magnitude.bitcast::<S::f32s>() + 0.5).bitcast::<S::u32s>() - 0.5_f32.to_bits();
    let normal = (magnitude + ((magnitude >> 13) & 1) + 0xfff - (112 << 23)) >> 13;
    let finite = magnitude.simd_lt(F16_NORMAL).select(denormal, normal);
    magnitude.simd_ge(0x4780_0000).select(special, finite) | ((bits >> 16) & 0x8000)
}

/// One finite number below 2^16 rounded to float16 bits, half to even.
#[inline(always)]
#[must_use]
pub fn f16_bits(x: f32) -> u16 {
    let magnitude = x.to_bits() & F32_MAGNITUDE;
    let finite = if magnitude < F16_NORMAL {
        (f32::from_bits(magnitude) + 0.5).to_bits() - 0.5_f32.to_bits()
    } else {
        (magnitude + ((magnitude >> 13) & 1) + 0xfff - (112 << 23)) >> 13
    };
    (finite | ((x.to_bits() >> 16) & 0x8000)) as u16
}

/// The number that float16 bits are, exactly.
#[inline(always)]
#[must_use]
pub fn f16_value(bits: u16) -> f32 {
    let shifted = (u32::from(bits) & F16_MAGNITUDE) << 13;
    let finite = (f32::from_bits(shifted) * F16_TO_F32).to_bits();
    let magnitude = if shifted >= F16_INFINITY_SHIFTED { shifted | F32_INFINITY } else { finite };
    f32::from_bits(magnitude | ((u32::from(bits) & 0x8000) << 16))
}

/// float32 rounded to one of the two bfloat16 around it, the upper one with the probability of the part cut off.
#[inline(always)]
pub fn bf16_randomly<S: Simd>(x: S::f32s, words: S::u32s) -> S::f32s {
    let bits: S::u32s = x.bitcast();
    let rounded = (bits + (words >> 16)) & 0xffff_0000;
    let finite = (bits & F32_MAGNITUDE).simd_lt(F32_INFINITY);
    finite.select(rounded, bits).bitcast()
}

/// The same for float16. Below 2^-14 its numbers are even 2^-24 apart: the fraction is compared with a uniform number.
#[inline(always)]
pub fn f16_randomly<S: Simd>(x: S::f32s, words: S::u32s) -> S::f32s {
    let bits: S::u32s = x.bitcast();
    let magnitude = bits & F32_MAGNITUDE;
    let normal = (magnitude + (words >> 19)) & 0xffff_e000;
    let scaled: S::f32s = magnitude.bitcast::<S::f32s>() * F16_DENORMALS;
    let whole = scaled.floor();
    let uniform: S::f32s = (words >> 8).to_float::<S::f32s>() * (1.0 / F16_DENORMALS);
    let rounded = uniform.simd_lt(scaled - whole).select(whole + 1.0, whole) * (1.0 / F16_DENORMALS);
    let finite = magnitude.simd_lt(F16_NORMAL).select(rounded.bitcast(), normal);
    let result = magnitude.simd_lt(F32_INFINITY).select(finite, magnitude);
    (result | (bits & 0x8000_0000)).bitcast()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dispatch,
        dtype::{Compute, Values, ValuesMut},
        simd::{Isa, TILE_VECTORS},
    };

    /// Decodes 64 halves by the vector code of a level.
    fn decode(isa: Isa, bits: [u16; 64], bf16: bool) -> [f32; 64] {
        let mut out = [0.0; 64];
        dispatch!(isa, simd => decode_tiles(simd, bits, bf16, &mut out));
        out
    }

    #[inline(always)]
    fn decode_tiles<S: Simd>(simd: S, bits: [u16; 64], bf16: bool, out: &mut [f32; 64]) {
        for at in (0..64).step_by(TILE_VECTORS * S::f32s::LEN) {
            let tile = f32::load(simd, if bf16 { Values::Bf16(&bits) } else { Values::F16(&bits) }, at);
            f32::store(simd, tile, &mut ValuesMut::F32(out), at);
        }
    }

    fn encode(isa: Isa, x: [f32; 64], bf16: bool) -> [u16; 64] {
        let mut out = [0; 64];
        dispatch!(isa, simd => encode_tiles(simd, x, bf16, &mut out));
        out
    }

    #[inline(always)]
    fn encode_tiles<S: Simd>(simd: S, x: [f32; 64], bf16: bool, out: &mut [u16; 64]) {
        for at in (0..64).step_by(TILE_VECTORS * S::f32s::LEN) {
            let tile = f32::load(simd, Values::F32(&x), at);
            f32::store(simd, tile, &mut if bf16 { ValuesMut::Bf16(out) } else { ValuesMut::F16(out) }, at);
        }
    }

    /// The value of a binary16 by its definition, in float64.
    fn f16_value(bits: u16) -> f64 {
        let (exponent, mantissa) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
        let magnitude = match exponent {
            0 => mantissa * 2f64.powi(-24),
            31 if mantissa == 0.0 => f64::INFINITY,
            31 => f64::NAN,
            _ => (1.0 + mantissa / 1024.0) * 2f64.powi(exponent - 15),
        };
        if bits & 0x8000 == 0 { magnitude } else { -magnitude }
    }

    #[test]
    fn every_half_decodes_to_its_definition_and_encodes_back() {
        for isa in Isa::available() {
            for base in (0..=u16::MAX).step_by(64) {
                let bits = std::array::from_fn(|i| base + i as u16);
                let (f16, bf16) = (decode(isa, bits, false), decode(isa, bits, true));
                for i in 0..64 {
                    let want = f16_value(bits[i]);
                    assert!(
                        f64::from(f16[i]).to_bits() == want.to_bits() || want.is_nan() && f16[i].is_nan(),
                        "{isa:?} {:#x}",
                        bits[i]
                    );
                    let want = f32::from_bits(u32::from(bits[i]) << 16);
                    assert!(bf16[i].to_bits() == want.to_bits() || want.is_nan() && bf16[i].is_nan());
                }
                let (again, again_bf16) = (encode(isa, f16, false), encode(isa, bf16, true));
                for i in 0..64 {
                    assert!(again[i] == bits[i] || f16[i].is_nan() && f16_value(again[i]).is_nan());
                    assert!(
                        again_bf16[i] == bits[i]
                            || bf16[i].is_nan() && f32::from_bits(u32::from(again_bf16[i]) << 16).is_nan()
                    );
                }
            }
        }
    }

    /// Midpoints between neighbours go to the even one, anything else to the nearer one.
    #[test]
    fn encoding_rounds_half_to_even_over_the_whole_range() {
        for isa in Isa::available() {
            for low in 0..0x7bff_u16 {
                let (a, b) = (f16_value(low), f16_value(low + 1));
                let middle = f64::midpoint(a, b) as f32;
                let x = std::array::from_fn(|i| match i % 4 {
                    0 => middle,
                    1 => f32::from_bits(middle.to_bits() - 1),
                    2 => f32::from_bits(middle.to_bits() + 1),
                    _ => -middle,
                });
                if low % 97 == 0 || !(64..0x7be0).contains(&low) || (0x3f0..0x410).contains(&low) {
                    let got = encode(isa, x, false);
                    let even = low + low % 2;
                    assert_eq!(got[..4], [even, low, low + 1, even | 0x8000], "{isa:?} {low:#x}");
                }
            }
            let x = std::array::from_fn(|i| {
                [65519.996, 65520.0, 1e30, 2f32.powi(-25), 2f32.powi(-25) * 1.0001, -0.0][i % 6]
            });
            assert_eq!(encode(isa, x, false)[..6], [0x7bff, 0x7c00, 0x7c00, 0, 1, 0x8000]);
            let x = std::array::from_fn(|i| {
                f32::from_bits([0x3f80_8000, 0x3f81_8000, 0x3f80_8001, 0x7f7f_ffff, 1, 0x0000_8000][i % 6])
            });
            assert_eq!(encode(isa, x, true)[..6], [0x3f80, 0x3f82, 0x3f81, 0x7f80, 0, 0]);
        }
    }
}
