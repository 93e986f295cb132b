//! Floats of at most eight bits: branch-free conversions, the same at every CPU level.

use fearless_simd::prelude::*;

use super::tile::{WIDEST, from_planes, in_table, sixteen_bytes, to_bytes, to_words};
use crate::simd::{TILE_VECTORS, Tile};

/// A format: sign, exponent, mantissa; exponent 0 is that of subnormal numbers.
pub trait Minifloat: Copy + Send + Sync + 'static {
    /// Bits of the mantissa.
    const MANTISSA: u32;

    /// What the exponent's field has more than the exponent.
    const BIAS: u32;

    /// The place of the sign.
    const SIGN: u32 = 7;

    /// The largest finite number.
    const LARGEST: f32;

    /// The number that overflow would become if the codes went on: its code is infinity's, or NaN's where there is none.
    const OVERFLOW: f32;

    /// The number whose code would be NaN's.
    const NAN: f32;

    /// From this magnitude's code on infinity and NaN.
    const SPECIAL: u32;
}

const F32_EXPONENT: u32 = 0x7f80_0000;
const F32_MANTISSA: u32 = 23;
const F32_BIAS: u32 = 127;

/// The least normal number.
const fn least_normal<F: Minifloat>() -> f32 {
    f32::from_bits((F32_BIAS + 1 - F::BIAS) << F32_MANTISSA)
}

/// What is added to the bits of a power of two: it becomes so large that its last place is that of the format's numbers from
/// the power on, and its low bits are what [`magnitude_code`] adds.
const fn lift<F: Minifloat>() -> u32 {
    let places = F32_MANTISSA - F::MANTISSA;
    let first = (F32_BIAS + 1 - F::BIAS + places) << F::MANTISSA;
    (places << F32_MANTISSA) + (0x1_0000 - first) % 0x100
}

/// The code of a magnitude up to [`Minifloat::OVERFLOW`] in the low byte, half to even. The sum with the lifted power rounds
/// once: its low bits count the format's numbers from the power on (from zero on below the least normal one), its exponent
/// says how many there are before them.
#[inline(always)]
pub fn magnitude_code<S: Simd, F: Minifloat>(magnitude: S::f32s) -> S::u32s {
    let power: S::f32s = (magnitude.bitcast::<S::u32s>() & F32_EXPONENT).bitcast();
    let lifted: S::f32s =
        (power.max(const { least_normal::<F>() }).bitcast::<S::u32s>() + const { lift::<F>() }).bitcast();
    let sum: S::u32s = (magnitude + lifted).bitcast();
    sum + (sum >> (F32_MANTISSA - F::MANTISSA))
}

/// The magnitude of a finite code without its sign, exactly: below the least normal number the implied one is taken away again.
#[inline(always)]
pub fn magnitude<S: Simd, F: Minifloat>(code: S::u32s) -> S::f32s {
    let bits = (code << (F32_MANTISSA - F::MANTISSA)) + ((F32_BIAS - F::BIAS) << F32_MANTISSA);
    let number: S::f32s = bits.bitcast();
    number + (number - const { least_normal::<F>() }).min(0.0)
}

/// The sign of each number at its place in the code, joined with the magnitude's code.
#[inline(always)]
fn with_sign<S: Simd, F: Minifloat>(code: S::u32s, x: S::f32s) -> S::u32s {
    code | ((x.bitcast::<S::u32s>() >> (31 - F::SIGN)) & (1 << F::SIGN))
}

/// Codes of finite numbers of magnitude up to [`Minifloat::OVERFLOW`].
#[inline(always)]
pub fn encode_small<S: Simd, F: Minifloat>(simd: S, x: Tile<S, f32>) -> S::u8s {
    let mut codes = [S::u32s::splat(simd, 0); TILE_VECTORS];
    for k in 0..TILE_VECTORS {
        codes[k] = with_sign::<S, F>(magnitude_code::<S, F>(x[k].abs()), x[k]);
    }
    to_bytes::<S>(codes)
}

/// Codes of finite numbers, the largest if they overflow.
#[inline(always)]
pub fn encode_finite<S: Simd, F: Minifloat>(simd: S, x: Tile<S, f32>) -> S::u8s {
    let mut codes = [S::u32s::splat(simd, 0); TILE_VECTORS];
    for k in 0..TILE_VECTORS {
        codes[k] = with_sign::<S, F>(magnitude_code::<S, F>(x[k].abs().min(F::LARGEST)), x[k]);
    }
    to_bytes::<S>(codes)
}

/// Codes of any numbers. Overflow and infinity become the largest number if it `saturates`, else infinity, or NaN in a format
/// that has none; NaN stays NaN and keeps its sign.
#[inline(always)]
pub fn encode<S: Simd, F: Minifloat>(simd: S, x: Tile<S, f32>, saturates: bool) -> S::u8s {
    let limit = S::f32s::splat(simd, if saturates { F::LARGEST } else { F::OVERFLOW });
    let nan = S::f32s::splat(simd, F::NAN);
    let mut codes = [S::u32s::splat(simd, 0); TILE_VECTORS];
    for k in 0..TILE_VECTORS {
        let magnitude = x[k].is_nan().select(nan, x[k].abs().min(limit));
        codes[k] = with_sign::<S, F>(magnitude_code::<S, F>(magnitude), x[k]);
    }
    to_bytes::<S>(codes)
}

/// The upper two bytes of the magnitude of each code of 7 bits, which say all of it: plane 1 has the uppermost.
struct Planes<F>(std::marker::PhantomData<F>);

impl<F: Minifloat> Planes<F> {
    const ALL: [[u8; 128]; 2] = planes::<F>(0);

    /// The same of each code of 4 bits, the sign with it.
    const SIXTEEN: [[u8; 16]; 2] = {
        let (mut planes, mut i) = ([[0; 16]; 2], 0);
        while i < 16 {
            (planes[0][i], planes[1][i]) = (Self::ALL[0][i % 8], Self::ALL[1][i % 8] | (i as u8 & 8) << 4);
            i += 1;
        }
        planes
    };
}

/// The planes of 128 codes from `first` on.
pub(super) const fn planes<F: Minifloat>(first: u32) -> [[u8; 128]; 2] {
    let (mut planes, mut i) = ([[0; 128]; 2], 0);
    while i < 128 {
        let bytes = value::<F>(first + i as u32).to_le_bytes();
        (planes[0][i], planes[1][i]) = (bytes[2], bytes[3]);
        i += 1;
    }
    planes
}

/// The magnitude of a code without its sign.
const fn value<F: Minifloat>(code: u32) -> f32 {
    let bits = (code << (F32_MANTISSA - F::MANTISSA)) + ((F32_BIAS - F::BIAS) << F32_MANTISSA);
    let number = f32::from_bits(bits);
    match code {
        _ if code >= F::SPECIAL => f32::from_bits(bits | F32_EXPONENT),
        _ if code >> F::MANTISSA == 0 => number + (number - least_normal::<F>()),
        _ => number,
    }
}

/// Numbers of the upper two planes of their bytes.
#[inline(always)]
pub(super) fn from_upper<S: Simd>(simd: S, [low, high]: [S::u8s; 2]) -> Tile<S, f32> {
    let zero = S::u8s::splat(simd, 0);
    from_planes::<S>([zero, zero, low, high])
}

/// The numbers that codes of 8 or 4 bits stand for: looked up where one instruction does it, worked out elsewhere.
#[inline(always)]
pub fn decode<S: Simd, F: Minifloat>(simd: S, codes: S::u8s) -> Tile<S, f32> {
    if F::SIGN == 3 && S::u8s::LEN > 16 {
        let [low, high] = &Planes::<F>::SIXTEEN;
        let low = sixteen_bytes::<S>(simd, low).swizzle_dyn_within_blocks(codes);
        from_upper::<S>(simd, [low, sixteen_bytes::<S>(simd, high).swizzle_dyn_within_blocks(codes)])
    } else if F::SIGN == 7 && S::u8s::LEN == WIDEST {
        let ([low, high], index) = (&Planes::<F>::ALL, codes & 0x7f);
        from_upper::<S>(simd, [in_table(simd, low, index), in_table(simd, high, index) | (codes & 0x80)])
    } else {
        work_out::<S, F>(simd, codes)
    }
}

#[inline(always)]
fn work_out<S: Simd, F: Minifloat>(simd: S, codes: S::u8s) -> Tile<S, f32> {
    let words = to_words::<S>(codes);
    let mut tile = [S::f32s::splat(simd, 0.0); TILE_VECTORS];
    for k in 0..TILE_VECTORS {
        let code = words[k] & ((1 << F::SIGN) - 1);
        let mut bits: S::u32s = magnitude::<S, F>(code).bitcast();
        if F::SPECIAL < 1 << F::SIGN {
            bits = code.simd_ge(F::SPECIAL).select(bits | F32_EXPONENT, bits);
        }
        tile[k] = (bits | ((words[k] << (31 - F::SIGN)) & 0x8000_0000)).bitcast();
    }
    tile
}
