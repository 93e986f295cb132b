//! Dynamic 8-bit codes: seven decades of values, the larger the finer, as bitsandbytes' blockwise quantization.

use fearless_simd::prelude::*;

use super::{
    dynamic_map,
    scaled::Levels,
    tile::{PLACE, WIDEST, Words, from_planes, in_table, to_bytes, words_of},
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

/// Stretches of numbers: those that become zero, the decades, those that become one.
const STRETCHES: usize = DECADES + 2;

/// Bits behind the point of a rank.
const FRACTION: u32 = 14;

/// A rank plus this has [`FRACTION`] bits behind the point, the last of its mantissa.
const MAGIC: f32 = 512.0;

/// How far from a whole number, in last places, a rank may be that its line got wrong.
const DOUBT: u32 = 3;

/// The values of a decade lie on a line: rank = value · slope + offset, halfway between whole numbers.
#[derive(Clone, Copy)]
struct Line {
    slope: f32,
    offset: f32,
    /// The line ends before this rank.
    end: f32,
    /// The largest number of the stretch.
    last: f32,
}

/// Magnitudes in rising order. What is nearest to value i has a rank from i to i + 1.
struct Map<const N: usize> {
    lines: [Line; STRETCHES],
    tables: Tables,
    /// The largest number that is nearer to a value than to the next one, for each value but the last.
    last: [f32; N],
}

/// The lines again, to be looked up by the exponent of a number.
struct Tables {
    /// For each exponent from 2^-31 to 2^0 the bits of the largest number of the stretch that it begins in,
    last: [u32; 32],
    /// and that stretch, as the four bytes of its place in the tables of lines.
    stretch: [u32; 32],
    slope: [f32; 16],
    offset: [f32; 16],
    end: [f32; 16],
}

static MAP: Map<129> = Map::new(dynamic_map::SIGNED, 1);
static UNSIGNED_MAP: Map<256> = Map::new(dynamic_map::UNSIGNED, 2);

/// The largest float32 that is no larger.
const fn round_down(x: f64) -> f32 {
    let near = x as f32;
    if near as f64 > x { f32::from_bits(near.to_bits() - 1) } else { near }
}

impl<const N: usize> Map<N> {
    /// From the values' bits; the first decade has so many of them, each other one twice as many as that before it.
    const fn new(values: [u32; N], first: usize) -> Self {
        let mut last = [f32::MAX; N];
        let mut i = 0;
        while i + 1 < N {
            let (low, high) = (f32::from_bits(values[i]) as f64, f32::from_bits(values[i + 1]) as f64);
            last[i] = round_down(f64::midpoint(low, high));
            i += 1;
        }
        let mut lines = [Line::level(0, last[0]); STRETCHES];
        lines[STRETCHES - 1] = Line::level(N - 1, f32::MAX);
        let (mut decade, mut unit, mut steps) = (0, 1e6, first);
        while decade < DECADES {
            // The decade's values are those from this one on.
            let index = steps + 1 - first;
            lines[1 + decade] = Line {
                slope: (unit * steps as f64 / 0.9) as f32,
                offset: (index as f64 - steps as f64 / 9.0 + MAGIC as f64) as f32,
                end: (index + steps) as f32 - 0.5 + MAGIC,
                last: last[index + steps - 1],
            };
            decade += 1;
            unit /= 10.0;
            steps *= 2;
        }
        Self { lines, tables: Tables::new(&lines), last }
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

    /// The index of the value nearest to each magnitude, in the low byte of a word.
    #[inline(always)]
    fn indices<S: Simd>(&self, simd: S, x: Tile<S, f32>, doubt: &mut S::u32s) -> Words<S> {
        let mut ranks = self.ranks(simd, x);
        for k in 0..TILE_VECTORS {
            *doubt = doubt.min(distance::<S>(ranks[k]));
            ranks[k] >>= FRACTION;
        }
        ranks
    }

    /// The ranks of magnitudes, plus [`MAGIC`], as bits.
    #[inline(always)]
    fn ranks<S: Simd>(&self, simd: S, x: Tile<S, f32>) -> Words<S> {
        let mut ranks = [S::u32s::splat(simd, 0); TILE_VECTORS];
        for k in 0..TILE_VECTORS {
            let rank = if S::u8s::LEN == WIDEST { self.looked_up::<S>(simd, x[k]) } else { self.selected::<S>(x[k]) };
            ranks[k] = rank.bitcast();
        }
        ranks
    }

    /// The rank on the line of the stretch that is not over before `x`.
    #[inline(always)]
    fn selected<S: Simd>(&self, x: S::f32s) -> S::f32s {
        let mut rank = self.lines[STRETCHES - 1].rank::<S>(x);
        for k in 0..STRETCHES - 1 {
            let line = &self.lines[STRETCHES - 2 - k];
            rank = x.simd_gt(line.last).select(rank, line.rank::<S>(x));
        }
        rank
    }

    /// The same: an exponent's numbers are of one stretch or of two, and what is below zero is in the first.
    #[inline(always)]
    fn looked_up<S: Simd>(&self, simd: S, x: S::f32s) -> S::f32s {
        let tables = &self.tables;
        let exponent = (x.bitcast::<S::i32s>().max(LEAST_EXPONENT << 23)).bitcast::<S::u32s>() >> 21;
        let place = words_of(simd, exponent);
        let stretch: S::u32s = pair(simd, &tables.stretch, place);
        let is_over = x.simd_gt(pair(simd, &tables.last, place).bitcast::<S::f32s>());
        let line: S::u8s = is_over.select(stretch + NEXT, stretch).bitcast();
        let slope = single::<S>(simd, &tables.slope, line);
        let (offset, end) = (single::<S>(simd, &tables.offset, line), single::<S>(simd, &tables.end, line));
        (x * slope + offset).min(end)
    }

    /// Indices as [`Self::indices`]; those that may be wrong are looked for.
    #[inline(always)]
    fn settled<S: Simd>(&self, simd: S, x: Tile<S, f32>) -> Words<S> {
        let mut indices = self.ranks(simd, x);
        for k in 0..TILE_VECTORS {
            let mut lanes = distance::<S>(indices[k]).simd_le(2 * DOUBT).to_bitmask();
            indices[k] >>= FRACTION;
            while lanes != 0 {
                let i = lanes.trailing_zeros() as usize;
                let near = indices[k].as_slice()[i] as u8;
                indices[k].as_mut_slice()[i] = self.nearest(x[k].as_slice()[i], usize::from(near)) as u32;
                lanes &= lanes - 1;
            }
        }
        indices
    }
}

/// The exponent field of 2^-31.
const LEAST_EXPONENT: i32 = 127 - 31;

/// How far the next word of a table is from a word.
const NEXT: u32 = 0x0404_0404;

impl Line {
    const fn level(index: usize, last: f32) -> Self {
        Self { slope: 0.0, offset: index as f32 + 0.5 + MAGIC, end: f32::MAX, last }
    }

    #[inline(always)]
    fn rank<S: Simd>(&self, x: S::f32s) -> S::f32s {
        (x * self.slope + self.offset).min(self.end)
    }
}

impl Tables {
    const fn new(lines: &[Line; STRETCHES]) -> Self {
        let mut tables = Self { last: [0; 32], stretch: [0; 32], slope: [0.0; 16], offset: [0.0; 16], end: [0.0; 16] };
        let (mut i, mut stretch) = (0, 0);
        while i < 32 {
            let first = f32::from_bits(((LEAST_EXPONENT + i as i32) as u32) << 23);
            while first > lines[stretch].last {
                stretch += 1;
            }
            assert!(stretch + 2 > STRETCHES || lines[stretch + 1].last >= 2.0 * first, "two stretches at most");
            tables.last[i] = lines[stretch].last.to_bits();
            tables.stretch[i] = PLACE + stretch as u32 * NEXT;
            i += 1;
        }
        let mut i = 0;
        while i < STRETCHES {
            (tables.slope[i], tables.offset[i], tables.end[i]) = (lines[i].slope, lines[i].offset, lines[i].end);
            i += 1;
        }
        tables
    }
}

/// How far a rank is from a whole number, in last places and counted from [`DOUBT`] below it.
#[inline(always)]
fn distance<S: Simd>(rank: S::u32s) -> S::u32s {
    (rank + DOUBT) & ((1 << FRACTION) - 1)
}

/// A table of as many bytes as two vectors have.
#[inline(always)]
fn pair<S: Simd>(simd: S, table: &[u32; 32], place: S::u8s) -> S::u32s {
    let (low, high) = table.split_at(16);
    S::u32s::from_slice(simd, low).concat_swizzle_dyn(S::u32s::from_slice(simd, high), place)
}

/// A table of as many bytes as a vector has.
#[inline(always)]
fn single<S: Simd>(simd: S, table: &[f32; 16], place: S::u8s) -> S::f32s {
    S::f32s::from_slice(simd, table).swizzle_dyn(place)
}

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

    const KEEPS: bool = KEEPS;
    const DOUBT: Option<u32> = Some(2 * DOUBT);

    #[inline(always)]
    fn nearest<S: Simd>(&self, simd: S, scaled: Tile<S, f32>, x: Tile<S, f32>, doubt: &mut S::u32s) -> S::u8s {
        if SIGNED {
            signed_codes::<S>(simd, to_bytes::<S>(MAP.indices(simd, magnitudes::<S>(scaled), doubt)), scaled)
        } else {
            unsigned_codes::<S, KEEPS>(to_bytes::<S>(UNSIGNED_MAP.indices(simd, scaled, doubt)), x)
        }
    }

    #[inline(always)]
    fn settled<S: Simd>(&self, simd: S, scaled: Tile<S, f32>, x: Tile<S, f32>) -> S::u8s {
        if SIGNED {
            signed_codes::<S>(simd, to_bytes::<S>(MAP.settled(simd, magnitudes::<S>(scaled))), scaled)
        } else {
            unsigned_codes::<S, KEEPS>(to_bytes::<S>(UNSIGNED_MAP.settled(simd, scaled)), x)
        }
    }

    #[inline(always)]
    fn levels<S: Simd>(&self, simd: S, codes: S::u8s) -> Tile<S, f32> {
        let (values, planes) =
            if SIGNED { (&SIGNED_VALUES, &SIGNED_PLANES) } else { (&UNSIGNED_VALUES, &UNSIGNED_PLANES) };
        if S::u8s::LEN == WIDEST { in_planes(simd, planes, codes) } else { one_by_one::<S>(simd, values, codes) }
    }
}

#[inline(always)]
fn magnitudes<S: Simd>([a, b, c, d]: Tile<S, f32>) -> Tile<S, f32> {
    [a.abs(), b.abs(), c.abs(), d.abs()]
}

/// Code 127 ± index.
#[inline(always)]
fn signed_codes<S: Simd>(simd: S, indices: S::u8s, [a, b, c, d]: Tile<S, f32>) -> S::u8s {
    let is_negative = (a.simd_lt(0.0).narrow(b.simd_lt(0.0))).narrow(c.simd_lt(0.0).narrow(d.simd_lt(0.0)));
    is_negative.select(S::u8s::splat(simd, 127) - indices.min(127), indices + 127)
}

#[inline(always)]
fn unsigned_codes<S: Simd, const KEEPS: bool>(codes: S::u8s, [a, b, c, d]: Tile<S, f32>) -> S::u8s {
    if !KEEPS {
        return codes;
    }
    let is_there = (a.simd_gt(0.0).narrow(b.simd_gt(0.0))).narrow(c.simd_gt(0.0).narrow(d.simd_gt(0.0)));
    is_there.select(codes.max(1), codes)
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
        quant::scaled::{decode_blocks, encode_block},
        simd::Isa,
    };

    fn encode<L: Levels>(isa: Isa, levels: L, x: &[f32]) -> Vec<u8> {
        let mut codes = vec![0; x.len()];
        dispatch!(isa, simd => encode_block(simd, &levels, x, &mut codes));
        codes
    }

    fn decode<L: Levels>(isa: Isa, levels: L, codes: &[u8]) -> Vec<f32> {
        let mut out = vec![0.0; codes.len()];
        dispatch!(isa, simd => decode_blocks(simd, &levels, 256, codes, &[1.0], &mut out));
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
