//! Sixteen levels: NF4 (Dettmers et al. 2023), and FP4 as bitsandbytes has it.

use fearless_simd::prelude::*;

use super::{
    scaled::Levels,
    tile::{WIDEST, from_planes, in_table, narrow_masks, sixteen_bytes, to_bytes, words_of},
};
use crate::simd::{TILE_VECTORS, Tile};

/// Levels in rising order and their codes; a number halfway between two levels, as float32 has it, takes the lower one.
#[derive(Clone, Copy, Debug)]
pub struct FourBit<const N: usize> {
    /// Between neighbours.
    middles: [f32; N],
    /// Byte k of the level of each code.
    planes: [[u8; 16]; 4],
    /// The code of each level.
    codes: [u8; 16],
    cells: Cells,
}

/// Equal stretches of the numbers from -1 or 0 to 1, in each of which one middle lies at most.
#[derive(Clone, Copy, Debug)]
struct Cells {
    /// A number's cell is the whole part of number · slope + offset, rounded to quarters; the offset is whole.
    slope: f32,
    offset: f32,
    /// The middle in each cell as bits, the largest number's where there is none.
    middles: [u32; CELLS],
    /// How many middles come before each quarter of a cell.
    ranks: [u8; 4 * CELLS],
}

/// Words that one instruction looks up where vectors have [`WIDEST`] bytes.
const CELLS: usize = 32;

/// The quantiles of a normal distribution, with an exact zero.
pub const NF4: FourBit<15> = FourBit::new(
    [
        0xbf80_0000,
        0xbf32_39b1,
        0xbf06_6b30,
        0xbeca_32a0,
        0xbe91_a24d,
        0xbe3d_353f,
        0xbdba_7871,
        0x0000_0000,
        0x3da2_faff,
        0x3e24_cae3,
        0x3e7c_04dd,
        0x3ead_033a,
        0x3ee1_a4b8,
        0x3f10_07ab,
        0x3f39_13b3,
        0x3f80_0000,
    ],
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
);

/// Sign, two bits of exponent and one of mantissa, of a kind of its own: 0, 1/192, 1/6, 1/4, 1/3, 1/2, 2/3 and 1.
pub const FP4: FourBit<7> = FourBit::new(
    [
        0x0000_0000,
        0x3baa_aaab,
        0x3e2a_aaab,
        0x3e80_0000,
        0x3eaa_aaab,
        0x3f00_0000,
        0x3f2a_aaab,
        0x3f80_0000,
        0x8000_0000,
        0xbbaa_aaab,
        0xbe2a_aaab,
        0xbe80_0000,
        0xbeaa_aaab,
        0xbf00_0000,
        0xbf2a_aaab,
        0xbf80_0000,
    ],
    [0, 1, 6, 7, 4, 5, 2, 3, 8, 9, 14, 15, 12, 13, 10, 11],
);

impl<const N: usize> FourBit<N> {
    /// Are the levels magnitudes, negative ones having codes from 8 on?
    const HAS_SIGN: bool = N == 7;

    /// From the levels' bits.
    const fn new(levels: [u32; 16], codes: [u8; 16]) -> Self {
        let (mut middles, mut planes) = ([0.0; N], [[0; 16]; 4]);
        let mut i = 0;
        while i < 16 {
            if i < N {
                middles[i] = f32::midpoint(f32::from_bits(levels[i]), f32::from_bits(levels[i + 1]));
            }
            let bytes = levels[i].to_le_bytes();
            let mut k = 0;
            while k < 4 {
                planes[k][codes[i] as usize] = bytes[k];
                k += 1;
            }
            i += 1;
        }
        let cells = if Self::HAS_SIGN { Cells::new(&middles, 31.0, 0.0) } else { Cells::new(&middles, 15.0, 15.0) };
        Self { middles, planes, codes, cells }
    }

    /// The level of each code.
    pub(super) const fn table(&self) -> [f32; 16] {
        let (mut table, mut code) = ([0.0; 16], 0);
        while code < 16 {
            let [a, b, c, d] = self.planes;
            table[code] = f32::from_le_bytes([a[code], b[code], c[code], d[code]]);
            code += 1;
        }
        table
    }

    /// How many middles are below each number.
    #[inline(always)]
    fn counted<S: Simd>(&self, simd: S, x: Tile<S, f32>) -> S::u8s {
        let mut ranks = [S::u32s::splat(simd, 0); TILE_VECTORS];
        for k in 0..TILE_VECTORS {
            for i in 0..N {
                ranks[k] = x[k].simd_gt(self.middles[i]).select(ranks[k] + 1, ranks[k]);
            }
        }
        to_bytes::<S>(ranks)
    }

    /// The rank of the nearest level.
    #[inline(always)]
    fn ranks<S: Simd>(&self, simd: S, x: Tile<S, f32>) -> S::u8s {
        if S::u8s::LEN == WIDEST { self.cells.ranks::<S>(simd, x) } else { self.counted::<S>(simd, x) }
    }
}

/// Added to a number below 2²⁰ this leaves quarters in the low bits.
const QUARTERS: f32 = 2_097_152.0;

/// Where rounding to quarters lets a whole number begin.
const EDGE: f64 = -0.125;

impl Cells {
    const fn new<const N: usize>(middles: &[f32; N], slope: f32, offset: f32) -> Self {
        let mut cells = Self { slope, offset, middles: [f32::MAX.to_bits(); CELLS], ranks: [0; 4 * CELLS] };
        let mut cell = 0;
        while cell < CELLS {
            let start = (cell as f64 + EDGE - offset as f64) / slope as f64;
            let (end, mut rank, mut i) = (start + 1.0 / slope as f64, 0, 0);
            while i < N {
                let middle = middles[i] as f64;
                // A number at the edge of a cell may be rounded into the next one.
                assert!((middle - start).abs() > 1e-5, "no middle at an edge");
                if middle < start {
                    rank += 1;
                } else if middle < end {
                    assert!(cells.middles[cell] == f32::MAX.to_bits(), "one middle in a cell");
                    cells.middles[cell] = middles[i].to_bits();
                }
                i += 1;
            }
            let mut quarter = 0;
            while quarter < 4 {
                cells.ranks[4 * cell + quarter] = rank;
                quarter += 1;
            }
            cell += 1;
        }
        cells
    }

    /// How many middles are below each number. Quarters may be rounded once or twice: no middle is near the edge of a cell.
    #[inline(always)]
    fn ranks<S: Simd>(&self, simd: S, x: Tile<S, f32>) -> S::u8s {
        let mut quarters = [S::u32s::splat(simd, 0); TILE_VECTORS];
        let mut is_above = [x[0].simd_lt(x[0]); TILE_VECTORS];
        let (low, high) = self.middles.split_at(CELLS / 2);
        let (low, high) = (S::u32s::from_slice(simd, low), S::u32s::from_slice(simd, high));
        let offset = S::f32s::splat(simd, self.offset + QUARTERS);
        for k in 0..TILE_VECTORS {
            quarters[k] = x[k].mul_add(self.slope, offset).bitcast();
            let middle: S::u32s = low.concat_swizzle_dyn(high, words_of(simd, quarters[k]));
            is_above[k] = x[k].simd_gt(middle.bitcast::<S::f32s>());
        }
        let ranks = in_table(simd, &self.ranks, to_bytes::<S>(quarters));
        narrow_masks::<S>(is_above).select(ranks + 1, ranks)
    }
}

impl<const N: usize> Levels for FourBit<N> {
    const LARGEST: f32 = 1.0;
    const BITS: usize = 4;

    #[inline(always)]
    fn nearest<S: Simd>(&self, simd: S, scaled: Tile<S, f32>, _: Tile<S, f32>, _: &mut S::u32s) -> S::u8s {
        if !Self::HAS_SIGN {
            return self.ranks(simd, scaled);
        }
        // Zero has no sign, so that its code is one.
        let (mut magnitudes, mut is_negative) = (scaled, [scaled[0].simd_lt(0.0); TILE_VECTORS]);
        for k in 0..TILE_VECTORS {
            magnitudes[k] = scaled[k].abs();
            is_negative[k] = scaled[k].simd_lt(-self.middles[0]);
        }
        let ranks = self.ranks(simd, magnitudes);
        let ranks = narrow_masks::<S>(is_negative).select(ranks + 8, ranks);
        sixteen_bytes::<S>(simd, &self.codes).swizzle_dyn_within_blocks(ranks)
    }

    #[inline(always)]
    fn levels<S: Simd>(&self, simd: S, codes: S::u8s) -> Tile<S, f32> {
        let mut planes = [codes; 4];
        for k in 0..4 {
            planes[k] = sixteen_bytes::<S>(simd, &self.planes[k]).swizzle_dyn_within_blocks(codes);
        }
        from_planes::<S>(planes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dispatch,
        quant::{codec::Codec, scaled::Scaled},
        simd::Isa,
    };

    fn encode<const N: usize>(isa: Isa, levels: FourBit<N>, x: &[f32]) -> Vec<u8> {
        let (mut codes, mut scales) = (vec![0; x.len().div_ceil(2)], [0.0]);
        dispatch!(isa, simd => Scaled(levels).encode(simd, 0, 64, x, &mut codes, &mut scales));
        assert_eq!(scales, [1.0]);
        codes
    }

    fn decode<const N: usize>(isa: Isa, levels: FourBit<N>, codes: &[u8], len: usize) -> Vec<f32> {
        let mut out = vec![0.0; len];
        dispatch!(isa, simd => Scaled(levels).decode(simd, 0, 64, codes, &[1.0], &mut out));
        out
    }

    /// Each level and what lies on either side of a middle; the first of a pair of codes stands in the high half.
    fn check<const N: usize>(levels: FourBit<N>) {
        for isa in Isa::available() {
            let all: Vec<u8> = (0..8).map(|k| 32 * k + 2 * k + 1).collect();
            let values = decode(isa, levels, &all, 16);
            let (codes, again) = (encode(isa, levels, &values), decode(isa, levels, &encode(isa, levels, &values), 16));
            assert_eq!(again, values, "{isa:?}");
            assert!(FourBit::<N>::HAS_SIGN || codes == all);
            let mut x = vec![1.0];
            for middle in levels.middles {
                x.extend([
                    middle,
                    f32::from_bits(if middle > 0.0 { middle.to_bits() + 1 } else { middle.to_bits() - 1 }),
                ]);
            }
            let got = decode(isa, levels, &encode(isa, levels, &x), x.len());
            for pair in got[1..].chunks(2) {
                assert!(pair[0] < pair[1], "{isa:?} {pair:?}");
            }
        }
    }

    #[test]
    fn levels_and_middles_at_each_level() {
        check(NF4);
        check(FP4);
        for isa in Isa::available() {
            assert_eq!(encode(isa, FP4, &[-1.0, -0.001, -0.0, 0.3]), [0xb0, 0x04]);
        }
    }
}
