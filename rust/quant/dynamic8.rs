//! Dynamic 8-bit codes: seven decades of values, the larger the finer, as bitsandbytes' blockwise quantization.

use fearless_simd::prelude::*;

use super::{
    dynamic_map,
    scaled::Levels,
    tile::{WIDEST, Words, from_planes, in_table, to_bytes},
};
use crate::{
    dtype::load_native,
    simd::{TILE_VECTORS, Tile},
};

/// The code of the nearest value, the one nearer to zero if two are as near; 0 becomes 0.
///
/// `KEEPS`: what is above zero does not become zero, however small it is.
#[derive(Clone, Copy, Debug)]
pub struct Dynamic8<const SIGNED: bool, const KEEPS: bool>;

/// Decades of values.
const DECADES: usize = 7;

/// A decade's values lie on a line: rank = value · slope + offset, whole halfway between two values.
#[derive(Clone, Copy)]
struct Line {
    slope: f32,
    offset: f32,
    /// The line ends before this rank.
    end: f32,
    /// The largest number that belongs to the decade.
    last: f32,
}

/// Magnitudes in rising order. A rank counts from `first`, so that decade i begins at `first` · 2^i.
struct Map<const N: usize> {
    first: usize,
    lines: [Line; DECADES],
    /// The largest number that is nearer to a value than to the next one, for each value but the last.
    last: [f32; N],
}

static MAP: Map<129> = Map::new(dynamic_map::SIGNED, 1);
static UNSIGNED_MAP: Map<256> = Map::new(dynamic_map::UNSIGNED, 2);

/// The largest float32 that is no larger.
const fn round_down(x: f64) -> f32 {
    let near = x as f32;
    if near as f64 > x { f32::from_bits(near.to_bits() - 1) } else { near }
}

impl<const N: usize> Map<N> {
    const fn new(values: [u32; N], first: usize) -> Self {
        let mut last = [f32::MAX; N];
        let mut i = 0;
        while i + 1 < N {
            let (low, high) = (f32::from_bits(values[i]) as f64, f32::from_bits(values[i + 1]) as f64);
            last[i] = round_down(f64::midpoint(low, high));
            i += 1;
        }
        let empty = Line { slope: 0.0, offset: 0.0, end: 0.0, last: 0.0 };
        let mut lines = [empty; DECADES];
        let (mut decade, mut unit, mut steps) = (0, 1e6, first);
        while decade < DECADES {
            lines[decade] = Line {
                slope: (unit * steps as f64 / 0.9) as f32,
                offset: (steps as f64 - steps as f64 / 9.0) as f32,
                end: 2.0 * steps as f32 - 0.5,
                last: last[2 * steps - first],
            };
            decade += 1;
            unit /= 10.0;
            steps *= 2;
        }
        Self { first, lines, last }
    }

    /// The index of the value nearest to `x`, searched from one that is near.
    fn nearest(&self, x: f32, near: usize) -> usize {
        let mut index = near.min(N - 1);
        while index > 0 && x <= self.last[index - 1] {
            index -= 1;
        }
        while index + 1 < N && x > self.last[index] {
            index += 1;
        }
        index
    }

    /// The ranks of magnitudes, in whole numbers. A number so near to the middle of two values that a line cannot tell is
    /// compared with it.
    #[inline(always)]
    fn ranks<S: Simd>(&self, simd: S, x: Tile<S, f32>) -> Words<S> {
        let (mut ranks, mut doubt) = (x, S::f32s::splat(simd, 1.0));
        for k in 0..TILE_VECTORS {
            ranks[k] = self.rank::<S>(simd, x[k]);
            doubt = doubt.min((ranks[k] - ranks[k].round_ties_even()).abs());
        }
        if doubt.simd_lt(DOUBT).any_true() {
            ranks = self.settle::<S>(x, ranks);
        }
        [ranks[0].to_int(), ranks[1].to_int(), ranks[2].to_int(), ranks[3].to_int()]
    }

    /// On the line of its decade.
    #[inline(always)]
    fn rank<S: Simd>(&self, simd: S, x: S::f32s) -> S::f32s {
        let Line { slope, offset, .. } = self.lines[DECADES - 1];
        let mut rank = x * slope + offset;
        for k in 0..DECADES - 1 {
            let Line { slope, offset, end, last } = self.lines[DECADES - 2 - k];
            rank = x.simd_gt(last).select(rank, (x * slope + offset).min(end));
        }
        let (zero, one) = (S::f32s::splat(simd, self.middle(0)), S::f32s::splat(simd, self.middle(N - 1)));
        rank = x.simd_gt(self.last[0]).select(rank, zero);
        x.simd_gt(self.last[N - 2]).select(one, rank)
    }

    /// Halfway to the next rank.
    const fn middle(&self, index: usize) -> f32 {
        (index + self.first) as f32 - 0.5
    }

    /// Ranks that may be one off are looked up.
    #[inline(never)]
    fn settle<S: Simd>(&self, x: Tile<S, f32>, ranks: Tile<S, f32>) -> Tile<S, f32> {
        let mut settled = ranks;
        for k in 0..TILE_VECTORS {
            for (i, &rank) in ranks[k].as_slice().iter().enumerate() {
                if (rank - rank.round_ties_even()).abs() < DOUBT {
                    let near = (rank as usize + 1).saturating_sub(self.first);
                    settled[k].as_mut_slice()[i] = self.middle(self.nearest(x[k].as_slice()[i], near));
                }
            }
        }
        settled
    }
}

/// A line is exact to a quarter of this: ranks end at 257.
const DOUBT: f32 = 1.0 / 4096.0;

/// The values of all codes, by bytes: plane k has byte k of each.
const fn planes(values: &[f32; 256]) -> [[u8; 256]; 4] {
    let (mut planes, mut code) = ([[0; 256]; 4], 0);
    while code < 256 {
        let bytes = values[code].to_le_bytes();
        let mut k = 0;
        while k < 4 {
            planes[k][code] = bytes[k];
            k += 1;
        }
        code += 1;
    }
    planes
}

/// Code 127 is 0, 127 ± i the value of that rank with its sign.
const fn signed_values() -> [f32; 256] {
    let (mut values, mut code) = ([0.0; 256], 0_usize);
    while code < 256 {
        let value = f32::from_bits(dynamic_map::SIGNED[code.abs_diff(127)]);
        values[code] = if code < 127 { -value } else { value };
        code += 1;
    }
    values
}

const fn unsigned_values() -> [f32; 256] {
    let (mut values, mut code) = ([0.0; 256], 0);
    while code < 256 {
        values[code] = f32::from_bits(dynamic_map::UNSIGNED[code]);
        code += 1;
    }
    values
}

/// The value of each code.
pub static SIGNED_VALUES: [f32; 256] = signed_values();
/// The value of each code where there are no signs.
pub static UNSIGNED_VALUES: [f32; 256] = unsigned_values();
static SIGNED_PLANES: [[u8; 256]; 4] = planes(&signed_values());
static UNSIGNED_PLANES: [[u8; 256]; 4] = planes(&unsigned_values());

impl<const SIGNED: bool, const KEEPS: bool> Levels for Dynamic8<SIGNED, KEEPS> {
    const LARGEST: f32 = 1.0;

    #[inline(always)]
    fn nearest<S: Simd>(&self, simd: S, scaled: Tile<S, f32>, x: Tile<S, f32>) -> S::u8s {
        if SIGNED { signed_codes(simd, scaled) } else { unsigned_codes::<S, KEEPS>(simd, scaled, x) }
    }

    #[inline(always)]
    fn levels<S: Simd>(&self, simd: S, codes: S::u8s) -> Tile<S, f32> {
        let (values, planes) =
            if SIGNED { (&SIGNED_VALUES, &SIGNED_PLANES) } else { (&UNSIGNED_VALUES, &UNSIGNED_PLANES) };
        if S::u8s::LEN == WIDEST { in_planes(simd, planes, codes) } else { one_by_one::<S>(simd, values, codes) }
    }
}

#[inline(always)]
fn signed_codes<S: Simd>(simd: S, mut x: Tile<S, f32>) -> S::u8s {
    let mut is_negative = [x[0].simd_lt(0.0); TILE_VECTORS];
    for k in 0..TILE_VECTORS {
        is_negative[k] = x[k].simd_lt(0.0);
        x[k] = x[k].abs();
    }
    let mut codes = MAP.ranks(simd, x);
    for k in 0..TILE_VECTORS {
        let below: S::u32s = S::u32s::splat(simd, 127) - codes[k].min(127);
        codes[k] = is_negative[k].select(below, codes[k] + 127);
    }
    to_bytes::<S>(codes)
}

#[inline(always)]
fn unsigned_codes<S: Simd, const KEEPS: bool>(simd: S, scaled: Tile<S, f32>, x: Tile<S, f32>) -> S::u8s {
    let mut codes = UNSIGNED_MAP.ranks(simd, scaled);
    for k in 0..TILE_VECTORS {
        codes[k] -= 1;
        if KEEPS {
            let least: S::u32s = codes[k].max(1);
            codes[k] = x[k].simd_gt(0.0).select(least, codes[k]);
        }
    }
    to_bytes::<S>(codes)
}

/// Two tables of 128 bytes for each plane: what one instruction looks up.
#[inline(always)]
fn in_planes<S: Simd>(simd: S, planes: &[[u8; 256]; 4], codes: S::u8s) -> Tile<S, f32> {
    let (index, is_high) = (codes & 0x7f, codes.simd_ge(0x80));
    let mut bytes = [codes; 4];
    for k in 0..4 {
        let (low, high) = planes[k].split_at(128);
        bytes[k] = is_high.select(in_table(simd, high, index), in_table(simd, low, index));
    }
    from_planes::<S>(bytes)
}

#[inline(always)]
fn one_by_one<S: Simd>(simd: S, values: &[f32; 256], codes: S::u8s) -> Tile<S, f32> {
    let mut found = [0.0; WIDEST];
    for i in 0..S::u8s::LEN {
        found[i] = values[codes.as_slice()[i] as usize];
    }
    load_native(simd, &found, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dispatch,
        quant::scaled::{decode_levels, encode_block},
        simd::Isa,
    };

    fn encode<L: Levels>(isa: Isa, levels: L, x: &[f32]) -> Vec<u8> {
        let mut codes = vec![0; x.len()];
        dispatch!(isa, simd => encode_block(simd, &levels, x, &mut codes));
        codes
    }

    fn decode<L: Levels>(isa: Isa, levels: L, codes: &[u8]) -> Vec<f32> {
        let mut out = vec![0.0; codes.len()];
        dispatch!(isa, simd => decode_levels(simd, &levels, codes, &mut out));
        out
    }

    /// Around each middle of two values, where the largest number is 1 so that nothing is scaled.
    fn check_middles<const N: usize, L: Levels>(map: &Map<N>, values: [u32; N], levels: L, offset: usize, sign: f32) {
        for isa in Isa::available() {
            for i in 0..N - 1 {
                let last = map.last[i];
                let next = f32::from_bits(last.to_bits() + 1);
                let at = values[i];
                let x = [1.0, last * sign, next * sign, f32::from_bits(at) * sign, -0.0, 0.0];
                let codes = encode(isa, levels, &x);
                let code = |rank: usize| if sign > 0.0 { offset + rank } else { offset - rank.min(127) };
                let want = [code(i), code(i + 1), code(i), offset, offset].map(|code| code as u8);
                assert_eq!(codes[1..], want, "{isa:?} {i}");
            }
        }
    }

    #[test]
    fn each_middle_divides_two_codes_at_each_level() {
        check_middles(&MAP, dynamic_map::SIGNED, Dynamic8::<true, false>, 127, 1.0);
        check_middles(&MAP, dynamic_map::SIGNED, Dynamic8::<true, false>, 127, -1.0);
        check_middles(&UNSIGNED_MAP, dynamic_map::UNSIGNED, Dynamic8::<false, false>, 0, 1.0);
    }

    #[test]
    fn each_code_decodes_to_its_value_and_back() {
        let all: Vec<u8> = (0..=255).collect();
        for isa in Isa::available() {
            let values = decode(isa, Dynamic8::<true, false>, &all);
            assert_eq!(values, SIGNED_VALUES);
            assert_eq!(encode(isa, Dynamic8::<true, false>, &values), all);
            let values = decode(isa, Dynamic8::<false, false>, &all);
            assert_eq!(values, UNSIGNED_VALUES);
            assert_eq!(encode(isa, Dynamic8::<false, false>, &values), all);
        }
    }

    #[test]
    fn what_is_kept_never_becomes_zero() {
        for isa in Isa::available() {
            let x = [1.0, 1e-8, 1e-45, 0.0];
            assert_eq!(encode(isa, Dynamic8::<false, true>, &x), [255, 1, 1, 0]);
            assert_eq!(encode(isa, Dynamic8::<false, false>, &x), [255, 0, 0, 0]);
        }
    }

    /// A block of the smallest numbers there are.
    #[test]
    fn subnormal_blocks_are_scaled_all_the_same() {
        for isa in Isa::available() {
            let least = f32::from_bits(1);
            assert_eq!(encode(isa, Dynamic8::<true, false>, &[least, -least, 0.0]), [255, 0, 127]);
        }
    }
}
