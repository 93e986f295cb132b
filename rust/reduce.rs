//! Sums whose tree depends on the length alone, and the largest magnitude.
//!
//! A sum goes in blocks of [`BLOCK`] elements. Inside a block element i belongs to lane i mod [`LANES`]; each lane is a float64
//! sum in order from +0.0, and the lanes fold by halves. The blocks' results are an array that is reduced by the same rule
//! until one number is left. Padding with +0.0 changes nothing, since a lane that starts at +0.0 never becomes -0.0.

use std::marker::PhantomData;

use fearless_simd::prelude::*;

use crate::{
    dtype::{Compute, Values, load_native, store_native},
    prefetch::prefetch,
    simd::{TILE_VECTORS, Tile, tile_len},
};

/// Elements a block.
pub const BLOCK: usize = 4096;
/// Lanes of a block.
pub const LANES: usize = 128;

/// What is added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    /// x
    Value,
    /// |x|
    Magnitude,
    /// x², rounded to float64 (exact for a float32 x)
    Square,
}

/// The lanes of one block while it is being read.
#[derive(Clone, Copy, Debug)]
pub struct Lanes([f64; LANES]);

impl Default for Lanes {
    fn default() -> Self {
        Self([0.0; LANES])
    }
}

impl Lanes {
    /// Adds `rows` times [`LANES`] elements from `at` on, as values of `T`.
    #[inline(always)]
    pub fn add<S: Simd, T: Compute>(&mut self, simd: S, term: Term, values: Values<'_>, at: usize, rows: usize) {
        match (T::slice(values), term) {
            (Some(own), Term::Value) => self.add_terms::<S, 0>(simd, Own(own), at, rows),
            (Some(own), Term::Magnitude) => self.add_terms::<S, 1>(simd, Own(own), at, rows),
            (Some(own), Term::Square) => self.add_terms::<S, 2>(simd, Own(own), at, rows),
            (None, Term::Value) => self.add_terms::<S, 0>(simd, Stored::<T>::new(values), at, rows),
            (None, Term::Magnitude) => self.add_terms::<S, 1>(simd, Stored::<T>::new(values), at, rows),
            (None, Term::Square) => self.add_terms::<S, 2>(simd, Stored::<T>::new(values), at, rows),
        }
    }

    /// Adds the products of two arrays' elements, `rows` times [`LANES`] from `at` on: each is rounded once to float64 (exact
    /// for elements of float32).
    #[inline(always)]
    pub fn add_products<S: Simd>(&mut self, simd: S, a: Values<'_>, b: Values<'_>, at: usize, rows: usize) {
        match (a, b) {
            (Values::F32(a), Values::F32(b)) => self.add_terms::<S, 0>(simd, Product(Own(a), Own(b)), at, rows),
            (Values::F64(a), Values::F64(b)) => self.add_terms::<S, 0>(simd, Product(Own(a), Own(b)), at, rows),
            _ => {
                let product = Product(Stored::<f64>::new(a), Stored::<f64>::new(b));
                self.add_terms::<S, 0>(simd, product, at, rows);
            }
        }
    }

    /// As many lanes at a time as stay in registers over the rows: all of them with 512-bit vectors.
    #[inline(always)]
    fn add_terms<S: Simd, const TERM: u8>(&mut self, simd: S, values: impl Wide, at: usize, rows: usize) {
        if S::f64s::LEN == 8 {
            self.add_columns::<S, TERM, 4>(simd, values, at, rows);
        } else {
            self.add_columns::<S, TERM, 2>(simd, values, at, rows);
        }
    }

    #[inline(always)]
    fn add_columns<S: Simd, const TERM: u8, const TILES: usize>(
        &mut self,
        simd: S,
        values: impl Wide,
        at: usize,
        rows: usize,
    ) {
        let tile = TILE_VECTORS * S::f64s::LEN;
        for lane in (0..LANES).step_by(TILES * tile) {
            let mut sums = [[S::f64s::splat(simd, 0.0); TILE_VECTORS]; TILES];
            for k in 0..TILES {
                sums[k] = load_native(simd, &self.0, lane + k * tile);
            }
            for row in 0..rows {
                let place = at + row * LANES + lane;
                for k in 0..TILES {
                    sums[k] = plus_terms::<S, TERM>(sums[k], values.load(simd, place + k * tile));
                }
            }
            for k in 0..TILES {
                store_native::<S, f64>(sums[k], &mut self.0, lane + k * tile);
            }
        }
    }

    /// The block's result: lane j += lane j + 64, then 32, ... 1.
    #[must_use]
    pub fn fold(mut self) -> f64 {
        let mut half = LANES / 2;
        while half > 0 {
            for j in 0..half {
                self.0[j] += self.0[j + half];
            }
            half /= 2;
        }
        self.0[0]
    }
}

/// Elements that are read as float64.
trait Wide: Copy {
    fn load<S: Simd>(self, simd: S, at: usize) -> Tile<S, f64>;
}

/// Elements that are stored as they are computed.
#[derive(Clone, Copy)]
struct Own<'a, T>(&'a [T]);

impl<T: Compute> Wide for Own<'_, T> {
    #[inline(always)]
    fn load<S: Simd>(self, simd: S, at: usize) -> Tile<S, f64> {
        prefetch(self.0, at, TILE_VECTORS * S::f64s::LEN);
        T::widen_slice(simd, self.0, at)
    }
}

/// Elements of any storage type, computed as `T`.
#[derive(Clone, Copy)]
struct Stored<'a, T> {
    values: Values<'a>,
    compute: PhantomData<T>,
}

impl<'a, T> Stored<'a, T> {
    const fn new(values: Values<'a>) -> Self {
        Self { values, compute: PhantomData }
    }
}

impl<T: Compute> Wide for Stored<'_, T> {
    #[inline(always)]
    fn load<S: Simd>(self, simd: S, at: usize) -> Tile<S, f64> {
        self.values.prefetch(at, TILE_VECTORS * S::f64s::LEN);
        T::load_wide(simd, self.values, at)
    }
}

/// Products of two arrays' elements.
#[derive(Clone, Copy)]
struct Product<A, B>(A, B);

impl<A: Wide, B: Wide> Wide for Product<A, B> {
    #[inline(always)]
    fn load<S: Simd>(self, simd: S, at: usize) -> Tile<S, f64> {
        let (mut tile, other) = (self.0.load(simd, at), self.1.load(simd, at));
        for k in 0..TILE_VECTORS {
            tile[k] *= other[k];
        }
        tile
    }
}

#[inline(always)]
fn plus_terms<S: Simd, const TERM: u8>(mut sum: Tile<S, f64>, tile: Tile<S, f64>) -> Tile<S, f64> {
    for k in 0..TILE_VECTORS {
        sum[k] += match TERM {
            0 => tile[k],
            1 => tile[k].abs(),
            _ => tile[k] * tile[k],
        };
    }
    sum
}

/// Reduces the blocks' results until one number is left; `partials` is used up. No results give +0.0.
#[inline(always)]
pub fn fold_partials<S: Simd>(simd: S, mut partials: &mut [f64]) -> f64 {
    while partials.len() > 1 {
        let blocks = partials.len().div_ceil(BLOCK);
        for block in 0..blocks {
            let end = partials.len().min((block + 1) * BLOCK);
            partials[block] = sum_plain(simd, &partials[block * BLOCK..end]);
        }
        partials = &mut partials[..blocks];
    }
    partials.first().copied().unwrap_or(0.0)
}

/// The sum of at most one block of float64.
#[inline(always)]
fn sum_plain<S: Simd>(simd: S, values: &[f64]) -> f64 {
    let (mut lanes, rows) = (Lanes::default(), values.len() / LANES);
    lanes.add::<S, f64>(simd, Term::Value, Values::F64(values), 0, rows);
    let rest = &values[rows * LANES..];
    let mut padded = [0.0; LANES];
    padded[..rest.len()].copy_from_slice(rest);
    lanes.add::<S, f64>(simd, Term::Value, Values::F64(&padded), 0, 1);
    lanes.fold()
}

/// The largest |x| of `values[at..at + len]`, `len` being a multiple of the tile; NaN if there is one.
///
/// Compares the bits of the magnitudes as integers: their order is that of the numbers, with NaN above infinity, so
/// neither the order of comparison nor a NaN's place matters.
#[inline(always)]
pub fn max_abs<S: Simd, T: Compute>(simd: S, values: Values<'_>, at: usize, len: usize) -> f64 {
    let mut largest = [T::Native::<S>::splat(simd, T::default()).to_bits(); TILE_VECTORS];
    let tiles = (at..at + len).step_by(tile_len::<S, T>());
    if let Some(own) = T::slice(values) {
        for place in tiles {
            prefetch(own, place, tile_len::<S, T>());
            largest = max_tile::<S, T>(largest, load_native(simd, own, place));
        }
    } else {
        for place in tiles {
            largest = max_tile::<S, T>(largest, T::load(simd, values, place));
        }
    }
    let mut bits = largest[0];
    for k in 1..TILE_VECTORS {
        bits = bits.max(largest[k]);
    }
    let mut result = 0.0;
    let magnitudes = T::Native::<S>::from_bits(bits);
    for k in 0..<T::Native<S> as SimdBase<S>>::LEN {
        result = max_magnitude(result, magnitudes[k].to_f64());
    }
    result
}

/// The bits of a native vector's elements.
type Bits<S, T> = <<T as SimdFloatElement>::Native<S> as SimdFloat<S>>::Bits;

#[inline(always)]
fn max_tile<S: Simd, T: Compute>(
    mut largest: [Bits<S, T>; TILE_VECTORS],
    tile: Tile<S, T>,
) -> [Bits<S, T>; TILE_VECTORS] {
    for k in 0..TILE_VECTORS {
        largest[k] = largest[k].max(tile[k].abs().to_bits());
    }
    largest
}

/// The larger of two magnitudes, NaN if either is NaN.
#[inline(always)]
#[must_use]
pub fn max_magnitude(a: f64, b: f64) -> f64 {
    f64::from_bits(a.to_bits().max(b.to_bits()))
}
