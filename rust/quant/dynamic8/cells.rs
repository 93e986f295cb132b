//! Ranks where a table of 32 words is looked up by one instruction: the exponent of a number tells its line.
//!
//! A decade's line goes on behind the decade, as far as the power of two that follows: steps there are a fifth of the next
//! decade's, so that each fifth of them is an end of one of those. Ranks so number cells, several of which may have one index.

use fearless_simd::prelude::*;

use super::{
    grid::{DECADES, Grid},
    map::{fraction, magic},
};
use crate::quant::tile::{Words, in_table, words_of};

/// Stretches that begin with a power of two, or a little below it.
const BINADES: usize = 32;

/// The exponent field of 2^-31, where the first of them begins.
const FIRST_EXPONENT: u32 = 127 - 31;

/// Cells that a table of bytes has; those behind it have indices that rise by one.
const CELLS: usize = 256;

/// Lines and cells, looked up.
pub(super) struct Cells {
    /// Added to a number's bits: the next number after the last that does not become one gets the exponent of one.
    lift: u32,
    slope: [u32; BINADES],
    offset: [u32; BINADES],
    /// The index of each cell.
    index: [u8; CELLS],
    /// What is added to the number of a cell behind them, modulo 256.
    behind: u8,
}

/// Where the line of the next binade begins.
struct Next {
    /// The first cell that is free.
    cell: usize,
    /// The decade whose line the binade before it is on, and what was added to that line's ranks.
    decade: usize,
    shift: f64,
}

impl Next {
    /// Slope and offset for the numbers whose bits are from `low` up to `high`. Where values end but once the line is any that
    /// has a whole rank there.
    const fn line<const N: usize>(&mut self, grid: &Grid<N>, low: u32, high: u32) -> [f64; 2] {
        let first = grid.search(f32::from_bits(low));
        let ends = grid.search(f32::from_bits(high - 1)) - first;
        let (low, free) = (f32::from_bits(low) as f64, self.cell as f64);
        if ends > 1 {
            return self.decade_line(grid, low);
        }
        self.decade = DECADES;
        if ends == 1 { [1.0 / low, free + 1.0 - grid.last[first] as f64 / low] } else { [0.0, free + 0.5] }
    }

    /// The line of the decade that `low` is in, which goes on if the binade before it is on the same.
    const fn decade_line<const N: usize>(&mut self, grid: &Grid<N>, low: f64) -> [f64; 2] {
        let decade = grid.decade(low);
        let [slope, offset] = [grid.slope(decade), grid.offset(decade)];
        if decade != self.decade {
            let rank = (low * slope + offset) as usize;
            (self.decade, self.shift) = (decade, self.cell as f64 - rank as f64);
        }
        [slope, offset + self.shift]
    }
}

impl Cells {
    pub(super) const fn new<const N: usize>(grid: &Grid<N>) -> Self {
        let lift = 1.0_f32.to_bits() - 1 - grid.last[N - 2].to_bits();
        let mut cells = Self { lift, slope: [0; BINADES], offset: [0; BINADES], index: [0; CELLS], behind: 0 };
        let (mut i, mut next) = (0, Next { cell: 0, decade: DECADES, shift: 0.0 });
        while i < BINADES {
            let [slope, offset] = next.line(grid, cells.edge(i), cells.edge(i + 1));
            let [low, high] = [f32::from_bits(cells.edge(i)) as f64, f32::from_bits(cells.edge(i + 1)) as f64];
            next.cell = cells.fill(grid, [low, high], [slope, offset]);
            cells.slope[i] = (slope as f32).to_bits();
            cells.offset[i] = ((offset + magic::<N>() as f64) as f32).to_bits();
            i += 1;
        }
        cells
    }

    /// The bits of the first number of a binade.
    const fn edge(&self, i: usize) -> u32 {
        ((FIRST_EXPONENT + i as u32) << 23) - self.lift
    }

    /// Writes the indices of a line's cells; returns the number of the next one.
    const fn fill<const N: usize>(
        &mut self,
        grid: &Grid<N>,
        [low, high]: [f64; 2],
        [slope, offset]: [f64; 2],
    ) -> usize {
        let (from, to) = (low * slope + offset, high * slope + offset);
        let mut cell = from as usize;
        while (cell as f64) < to - 1e-6 {
            let (start, end) = (f64::max(from, cell as f64), f64::min(to, cell as f64 + 1.0));
            let middle = if slope == 0.0 { low } else { (f64::midpoint(start, end) - offset) / slope };
            let index = grid.search(middle as f32);
            if cell < CELLS {
                self.index[cell] = index as u8;
            } else {
                let behind = index.wrapping_sub(cell) as u8;
                assert!(cell == CELLS || behind == self.behind, "an index for each cell behind the table");
                self.behind = behind;
            }
            cell += 1;
        }
        cell
    }

    /// The ranks of magnitudes, plus [`magic`], as bits. Rounded once or twice they lead to the same codes: where that could
    /// matter a rank is whole, and looked for.
    #[inline(always)]
    pub(super) fn rank<S: Simd>(&self, simd: S, x: S::f32s) -> S::u32s {
        // What is below zero is in the first binade too.
        let bits = x.bitcast::<S::i32s>().max(self.edge(0) as i32).bitcast::<S::u32s>() + self.lift;
        let place = words_of(simd, bits >> 21);
        let slope: S::f32s = pair(simd, &self.slope, place).bitcast();
        x.mul_add(slope, pair(simd, &self.offset, place).bitcast::<S::f32s>()).bitcast()
    }

    /// The indices of the cells that ranks are in.
    #[inline(always)]
    pub(super) fn indices<S: Simd, const N: usize>(&self, simd: S, [a, b, c, d]: Words<S>) -> S::u8s {
        let (middles, evens) = (S::u8s::from_slice(simd, &MIDDLES), S::u8s::from_slice(simd, &EVENS));
        let low: S::u8s = a.bitcast::<S::u8s>().concat_swizzle_dyn(b.bitcast::<S::u8s>(), middles);
        let high: S::u8s = c.bitcast::<S::u8s>().concat_swizzle_dyn(d.bitcast::<S::u8s>(), middles);
        let (low, high) =
            (low.bitcast::<S::u16s>() >> (fraction::<N>() - 8), high.bitcast::<S::u16s>() >> (fraction::<N>() - 8));
        let cells: S::u8s = low.bitcast::<S::u8s>().concat_swizzle_dyn(high.bitcast::<S::u8s>(), evens);
        let (front, back) = self.index.split_at(CELLS / 2);
        let index = cells.simd_ge(128).select(in_table(simd, back, cells & 0x7f), in_table(simd, front, cells & 0x7f));
        if N <= 129 {
            return index;
        }
        let is_behind = (low & 0x100).simd_ne(0).narrow((high & 0x100).simd_ne(0));
        is_behind.select(cells + self.behind, index)
    }
}

/// A table of as many bytes as two vectors have.
#[inline(always)]
fn pair<S: Simd>(simd: S, table: &[u32; BINADES], place: S::u8s) -> S::u32s {
    let (low, high) = table.split_at(BINADES / 2);
    S::u32s::from_slice(simd, low).concat_swizzle_dyn(S::u32s::from_slice(simd, high), place)
}

/// The middle bytes of the words of two vectors.
static MIDDLES: [u8; 64] = places(4, 1, 2);

/// The low bytes of the halves of words of two vectors.
static EVENS: [u8; 64] = places(2, 0, 1);

/// Runs of so many bytes from `first` on, a step apart.
const fn places(step: usize, first: usize, run: usize) -> [u8; 64] {
    let (mut places, mut i) = ([0; 64], 0);
    while i < 64 {
        places[i] = (i / run * step + first + i % run) as u8;
        i += 1;
    }
    places
}
