//! The value nearest to a magnitude, by a rank whose whole part tells it.
//!
//! Ranks round to whole ones what lies just below: what has a whole rank is in doubt, and looked for. Nothing else is wrong, as
//! a test sees of all numbers around all middles.

use fearless_simd::prelude::*;

use super::{
    cells::Cells,
    grid::Grid,
    lines::Lines,
    values::{SIGNED, UNSIGNED},
};
use crate::{
    quant::tile::{WIDEST, Words, to_bytes},
    simd::{TILE_VECTORS, Tile},
};

/// Bits behind the point of a rank on a map of `N` values: there may be twice as many ranks as values.
pub(super) const fn fraction<const N: usize>() -> u32 {
    if N <= 129 { 15 } else { 14 }
}

/// A rank plus this has so many bits behind the point, the last of its mantissa.
pub(super) const fn magic<const N: usize>() -> f32 {
    (1 << (f32::MANTISSA_DIGITS - 1 - fraction::<N>())) as f32
}

pub(super) struct Map<const N: usize> {
    grid: Grid<N>,
    lines: Lines,
    cells: Cells,
}

pub(super) static MAP: Map<129> = Map::new(Grid::new(SIGNED, 1));
pub(super) static UNSIGNED_MAP: Map<256> = Map::new(Grid::new(UNSIGNED, 2));

impl<const N: usize> Map<N> {
    const fn new(grid: Grid<N>) -> Self {
        Self { lines: Lines::new(&grid), cells: Cells::new(&grid), grid }
    }

    #[cfg(test)]
    pub(super) const fn grid(&self) -> &Grid<N> {
        &self.grid
    }

    /// The index of the value nearest to each magnitude.
    #[inline(always)]
    pub(super) fn indices<S: Simd>(&self, simd: S, x: Tile<S, f32>, doubt: &mut S::u32s) -> S::u8s {
        let ranks = self.ranks(simd, x);
        for k in 0..TILE_VECTORS {
            *doubt = doubt.min(rest::<S, N>(ranks[k]));
        }
        self.whole(simd, ranks)
    }

    /// The same; those that may be wrong are looked for.
    #[inline(always)]
    pub(super) fn settled<S: Simd>(&self, simd: S, x: Tile<S, f32>) -> S::u8s {
        let ranks = self.ranks(simd, x);
        let mut indices = self.whole(simd, ranks);
        for k in 0..TILE_VECTORS {
            let mut lanes = rest::<S, N>(ranks[k]).simd_eq(0).to_bitmask();
            while lanes != 0 {
                let i = lanes.trailing_zeros() as usize;
                let index = &mut indices.as_mut_slice()[k * S::u32s::LEN + i];
                *index = self.grid.nearest(x[k].as_slice()[i], usize::from(*index)) as u8;
                lanes &= lanes - 1;
            }
        }
        indices
    }

    #[inline(always)]
    fn ranks<S: Simd>(&self, simd: S, x: Tile<S, f32>) -> Words<S> {
        let mut ranks = [S::u32s::splat(simd, 0); TILE_VECTORS];
        for k in 0..TILE_VECTORS {
            ranks[k] = if S::u8s::LEN == WIDEST { self.cells.rank(simd, x[k]) } else { self.lines.rank::<S>(x[k]) };
        }
        ranks
    }

    /// The indices that ranks are of.
    #[inline(always)]
    fn whole<S: Simd>(&self, simd: S, mut ranks: Words<S>) -> S::u8s {
        if S::u8s::LEN == WIDEST {
            return self.cells.indices::<S, N>(simd, ranks);
        }
        for k in 0..TILE_VECTORS {
            ranks[k] >>= fraction::<N>();
        }
        to_bytes::<S>(ranks)
    }
}

/// What follows a rank's whole part.
#[inline(always)]
fn rest<S: Simd, const N: usize>(rank: S::u32s) -> S::u32s {
    rank & ((1 << fraction::<N>()) - 1)
}
