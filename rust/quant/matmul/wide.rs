//! Codes as numbers where a vector has 64 bytes, by instructions that no other level has.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m128i, __m512, __m512i, _mm512_cvtepi8_epi32, _mm512_cvtepi32_ps, _mm512_multishift_epi64_epi8,
    _mm512_permutexvar_ps, _mm512_set1_epi64,
};

use fearless_simd::prelude::*;
#[cfg(target_arch = "x86_64")]
use fearless_simd::{Avx512, f32x16, u8x16, u8x64};

use crate::{
    quant::tile::WIDEST,
    simd::{TILE_VECTORS, Tile},
};

/// Numbers of a vector.
const NUMBERS: usize = WIDEST / TILE_VECTORS;

/// Sixteen levels, and of each code of eight bytes at which of their bits it begins: in the first of the four bytes of its
/// number, whose other bits do not matter.
#[derive(Clone, Copy)]
pub(super) struct Table {
    levels: [f32; 16],
    places: [u8; WIDEST],
}

impl Table {
    /// The first code of a byte is in its high half, or in the low one.
    pub(super) const fn new(levels: [f32; 16], is_high_first: bool) -> Self {
        let (mut places, mut code) = ([0; WIDEST], 0);
        while code < NUMBERS {
            places[code * TILE_VECTORS] = 4 * (code ^ is_high_first as usize) as u8;
            code += 1;
        }
        Self { levels, places }
    }
}

/// The first bytes as numbers with a sign, `V` vectors of them, None at other levels.
#[inline(always)]
pub(super) fn signed<S: Simd, const V: usize>(simd: S, bytes: &[u8]) -> Option<Tile<S, f32>> {
    #[cfg(target_arch = "x86_64")]
    if let Some(avx512) = simd.level().as_avx512() {
        let (mut tile, bytes) = ([S::f32s::splat(simd, 0.0); TILE_VECTORS], &bytes[..V * NUMBERS]);
        for k in 0..V {
            let bytes = u8x16::from_slice(avx512, &bytes[k * NUMBERS..(k + 1) * NUMBERS]);
            let numbers: f32x16<Avx512> = to_floats(avx512, bytes.into()).simd_into(avx512);
            tile[k] = S::f32s::from_slice(simd, numbers.as_slice());
        }
        return Some(tile);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (simd, bytes);
    None
}

/// The first codes of four bits as numbers, `V` vectors of them, None at other levels.
#[inline(always)]
pub(super) fn looked_up<S: Simd, const V: usize>(simd: S, table: &Table, bytes: &[u8]) -> Option<Tile<S, f32>> {
    #[cfg(target_arch = "x86_64")]
    if let Some(avx512) = simd.level().as_avx512() {
        let mut tile = [S::f32s::splat(simd, 0.0); TILE_VECTORS];
        let levels = f32x16::from_slice(avx512, &table.levels);
        let (places, words) = (u8x64::from_slice(avx512, &table.places), &bytes.as_chunks().0[..V]);
        for k in 0..V {
            let numbers = look_up(avx512, u64::from_le_bytes(words[k]), places.into(), levels.into());
            let numbers: f32x16<Avx512> = numbers.simd_into(avx512);
            tile[k] = S::f32s::from_slice(simd, numbers.as_slice());
        }
        return Some(tile);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (simd, table.levels, table.places, bytes);
    None
}

#[cfg(target_arch = "x86_64")]
fearless_simd::kernel!(
    #[inline(always)]
    fn to_floats(_avx512: Avx512, bytes: __m128i) -> __m512 {
        _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))
    }
);

#[cfg(target_arch = "x86_64")]
fearless_simd::kernel!(
    #[inline(always)]
    fn look_up(_avx512: Avx512, word: u64, places: __m512i, levels: __m512) -> __m512 {
        // Each byte is cut out of eight, and the four low bits of four bytes pick a level.
        let codes = _mm512_multishift_epi64_epi8(places, _mm512_set1_epi64(word.cast_signed()));
        _mm512_permutexvar_ps(codes, levels)
    }
);
