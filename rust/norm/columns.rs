//! Sums down the columns of a matrix: a channel's values when channels are the last axis.
//!
//! A block of at most 64 rows is read twice while it is in cache, its columns in order from +0.0; blocks follow each other.

use fearless_simd::prelude::*;

use super::moments::{Merge, Moments};
use crate::{
    array::Input,
    dtype::{Compute, load_native, store_native},
    reduce::LANES,
    simd::{TILE_VECTORS, Tile},
};

/// Rows of a block.
pub(super) const HEIGHT: usize = 64;

/// Columns that are worked on at once, so that a block of them stays in a core's cache.
const WIDTH: usize = 128;

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
}

/// Adds a block of rows to the moments of its columns.
#[inline(always)]
pub(super) fn add_moments<S: Simd, T: Compute>(simd: S, x: Strip<'_, T>, all: &mut [Moments]) {
    let (mut means, mut squares, mut merge) = ([0.0; WIDTH], [0.0; WIDTH], Merge::default());
    for first in (0..x.width).step_by(WIDTH) {
        let width = WIDTH.min(x.width - first);
        means.fill(0.0);
        squares.fill(0.0);
        for row in 0..x.rows {
            let row = x.part(row, first, width);
            for at in (0..width).step_by(tile_of::<S>()) {
                add(simd, &mut means, at, wide(simd, row, at));
            }
        }
        for mean in &mut means {
            *mean /= x.rows as f64;
        }
        for row in 0..x.rows {
            let row = x.part(row, first, width);
            for at in (0..width).step_by(tile_of::<S>()) {
                let (mut x, mean) = (wide(simd, row, at), load_native::<S, f64>(simd, &means, at));
                for i in 0..TILE_VECTORS {
                    let deviation = x[i] - mean[i];
                    x[i] = deviation * deviation;
                }
                add(simd, &mut squares, at, x);
            }
        }
        for (k, moments) in all[first..first + width].iter_mut().enumerate() {
            *moments = merge.of(*moments, Moments { count: x.rows as f64, mean: means[k], squares: squares[k] });
        }
    }
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
