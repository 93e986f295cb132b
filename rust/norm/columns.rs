//! Sums down the columns of a matrix: a channel's values when channels are the last axis.
//!
//! A block of at most 64 rows is read twice while it is in cache, its columns in order from +0.0; blocks follow each other.

use fearless_simd::prelude::*;

use super::moments::Merge;
use crate::{
    array::Input,
    dtype::{Compute, load_native, store_native},
    prefetch::prefetch_these,
    reduce::LANES,
    row_sums::ROWS,
    simd::{TILE_VECTORS, Tile},
};

/// Rows of a block.
pub(super) const HEIGHT: usize = 64;

/// Tiles of columns whose sums stay in registers down a block.
const TILES: usize = 2;

/// Elements of the widest tile of float64.
const WIDEST: usize = TILE_VECTORS * ROWS;

/// Elements of a tile of float64.
const fn tile_of<S: Simd>() -> usize {
    TILE_VECTORS * S::f64s::LEN
}

/// Room for numbers of columns, whole tiles at any CPU level.
pub(super) fn room(columns: usize) -> Vec<f64> {
    vec![0.0; columns.next_multiple_of(LANES)]
}

/// Elements from `at` on, zeros behind the last one.
#[inline(always)]
fn wide<S: Simd, T: Compute>(simd: S, row: &[T], at: usize) -> Tile<S, f64> {
    if at + tile_of::<S>() <= row.len() {
        return T::widen_slice(simd, row, at);
    }
    let mut padded = [T::default(); LANES];
    padded[..row.len() - at].copy_from_slice(&row[at..]);
    T::widen_slice(simd, &padded, 0)
}

/// Some columns of some rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strip<'a, T> {
    elements: &'a [T],
    /// From row to row.
    stride: usize,
    width: usize,
    rows: usize,
}

impl<'a, T: Compute> Strip<'a, T> {
    /// Columns `first..first + width` of `rows` rows of `columns`: of the array itself, or copied to `room`.
    #[inline(always)]
    pub(super) fn new<S: Simd>(
        simd: S,
        input: &'a Input,
        [row, rows]: [usize; 2],
        columns: usize,
        [first, width]: [usize; 2],
        room: &'a mut [Vec<T>; 2],
    ) -> Self {
        let start = row * columns + first;
        if let Some(elements) = input.slice(start, (rows - 1) * columns + width) {
            return Self { elements, stride: columns, width, rows };
        }
        let [room, of_row] = room;
        room.resize(room.len().max(rows * width), T::default());
        for k in 0..rows {
            input.copy(simd, start + k * columns, width, of_row);
            room[k * width..(k + 1) * width].copy_from_slice(&of_row[..width]);
        }
        Self { elements: room, stride: width, width, rows }
    }

    /// Columns `first..first + width` of a row.
    #[inline(always)]
    fn part(&self, row: usize, first: usize, width: usize) -> &'a [T] {
        let start = row * self.stride + first;
        &self.elements[start..start + width]
    }

    /// Asks for the columns of a row that are read after `width` ones from `first` on: rows lie too far from each other for a
    /// CPU to guess. After a block's last columns come the next block's first ones.
    #[inline(always)]
    fn prefetch_after(&self, row: usize, first: usize, width: usize) {
        let here = row * self.stride + first;
        let next = if first + width < self.width { here + width } else { here - first + HEIGHT * self.stride };
        prefetch_these(self.elements, next, width);
    }

    /// The columns from `first` on in `room`, zeros behind them up to `width`.
    #[inline(always)]
    fn whole<'b>(&self, first: usize, width: usize, room: &'b mut [T]) -> Strip<'b, T> {
        let left = self.width - first;
        for row in 0..self.rows {
            room[row * width..row * width + left].copy_from_slice(self.part(row, first, left));
        }
        Strip { elements: room, stride: width, width, rows: self.rows }
    }
}

/// Adds a block of rows, before which there were `count`, to the means and sums of squares of its columns, which have room for
/// whole tiles.
#[inline(always)]
pub(super) fn add_moments<S: Simd, T: Compute>(
    simd: S,
    x: Strip<'_, T>,
    count: usize,
    [means, squares]: [&mut [f64]; 2],
) {
    let (merge, tile) = (Merge::new(count as f64, x.rows as f64), tile_of::<S>());
    let mut at = 0;
    while at < x.width {
        let (mut own, left) = ([[0.0; TILES * WIDEST]; 2], x.width - at);
        let width = if left >= TILES * tile {
            moments_of::<S, T, TILES>(simd, x, at, &mut own)
        } else if left >= tile {
            moments_of::<S, T, 1>(simd, x, at, &mut own)
        } else {
            let mut padded = [T::default(); HEIGHT * WIDEST];
            moments_of::<S, T, 1>(simd, x.whole(at, tile, &mut padded), 0, &mut own)
        };
        let all = [&mut means[at..at + width], &mut squares[at..at + width]];
        merge.add(all, [&own[0][..width], &own[1][..width]]);
        at += width;
    }
}

/// Means and sums of squares of `N` tiles of columns from `at` on; returns how many columns that are.
#[inline(always)]
fn moments_of<S: Simd, T: Compute, const N: usize>(
    simd: S,
    x: Strip<'_, T>,
    at: usize,
    moments: &mut [[f64; TILES * WIDEST]; 2],
) -> usize {
    let (tile, width) = (tile_of::<S>(), N * tile_of::<S>());
    let mut means = [[S::f64s::splat(simd, 0.0); TILE_VECTORS]; N];
    for row in 0..x.rows {
        let row = x.part(row, at, width);
        for k in 0..N {
            let x = T::widen_slice(simd, row, k * tile);
            for i in 0..TILE_VECTORS {
                means[k][i] += x[i];
            }
        }
    }
    let mut squares = [[S::f64s::splat(simd, 0.0); TILE_VECTORS]; N];
    for k in 0..N {
        for i in 0..TILE_VECTORS {
            means[k][i] /= S::f64s::splat(simd, x.rows as f64);
        }
    }
    for row in 0..x.rows {
        x.prefetch_after(row, at, width);
        let row = x.part(row, at, width);
        for k in 0..N {
            let x = T::widen_slice(simd, row, k * tile);
            for i in 0..TILE_VECTORS {
                let deviation = x[i] - means[k][i];
                squares[k][i] += deviation * deviation;
            }
        }
    }
    for k in 0..N {
        store_native::<S, f64>(means[k], &mut moments[0], k * tile);
        store_native::<S, f64>(squares[k], &mut moments[1], k * tile);
    }
    width
}

/// Adds to the sums of dy·x̂ and of dy of each column; all numbers of columns have room for whole tiles.
#[inline(always)]
pub(super) fn add_products<S: Simd, T: Compute>(
    simd: S,
    [dy, x]: [Strip<'_, T>; 2],
    [mean, rstd]: [&[f64]; 2],
    [sums_gx, sums_g]: [&mut [f64]; 2],
) {
    for row in 0..x.rows {
        let (dy, x) = (dy.part(row, 0, x.width), x.part(row, 0, x.width));
        for at in (0..x.len()).step_by(tile_of::<S>()) {
            let (g, mut x) = (wide(simd, dy, at), wide(simd, x, at));
            let (mean, rstd) = (load_native::<S, f64>(simd, mean, at), load_native::<S, f64>(simd, rstd, at));
            for i in 0..TILE_VECTORS {
                x[i] = g[i] * ((x[i] - mean[i]) * rstd[i]);
            }
            add(simd, sums_gx, at, x);
            add(simd, sums_g, at, g);
        }
    }
}

#[inline(always)]
fn add<S: Simd>(simd: S, sums: &mut [f64], at: usize, terms: Tile<S, f64>) {
    let mut tile = load_native::<S, f64>(simd, sums, at);
    for i in 0..TILE_VECTORS {
        tile[i] += terms[i];
    }
    store_native::<S, f64>(tile, sums, at);
}
