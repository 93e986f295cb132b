//! What is folded around a rule: the way of a gradient before it, and what follows a new parameter after it.
//!
//! Work goes strip by strip: a strip's arrays stay in the first-level cache from the first loop over them to the last, so each
//! part is a loop of its own, made once for a compute type, and parts add up instead of multiplying with the rules.

use fearless_simd::prelude::*;

use super::{bits::Bits, stage::Copies};
use crate::{
    dtype::{Compute, Values, ValuesMut, load_native, store_native},
    simd::{TILE_VECTORS, Tile, tile_len},
};

/// Elements of a strip, a multiple of the sums' lanes.
pub const STRIP: usize = 512;

/// What a gradient is multiplied by and clamped to, in this order.
#[derive(Clone, Copy, Debug)]
pub struct Preparation<T> {
    /// First factor.
    pub first: T,
    /// Then the range around zero, if there is one.
    pub limit: Option<T>,
    /// Then the second factor.
    pub second: T,
}

impl<T: Compute> Preparation<T> {
    /// From float64, each number rounded once.
    #[must_use]
    pub fn new(first: f64, limit: Option<f64>, second: f64) -> Self {
        Self { first: T::from_f64(first), limit: limit.map(T::from_f64), second: T::from_f64(second) }
    }
}

/// Room for a strip in the compute type.
#[derive(Debug)]
pub struct Scratch<T> {
    /// Gradient on its way to the rule.
    pub grad: [T; STRIP],
    /// Parameter on its way to a 16-bit array, or to be measured.
    pub param: [T; STRIP],
    /// What a rule measures.
    pub measured: [T; STRIP],
    /// A factor for each element.
    pub factors: [T; STRIP],
    /// Means of rows and columns for each element.
    pub means: [[T; STRIP]; 2],
    /// Random words.
    pub words: [u32; STRIP],
}

impl<T: Compute> Default for Scratch<T> {
    fn default() -> Self {
        let zeros = [T::default(); STRIP];
        Self { grad: zeros, param: zeros, measured: zeros, factors: zeros, means: [zeros; 2], words: [0; STRIP] }
    }
}

/// Mask, first factor, clamp, second factor, a factor an element: `len` elements, a multiple of the tile.
#[inline(never)]
pub fn prepare<S: Simd, T: Compute>(
    simd: S,
    grad: Values<'_>,
    kept: Option<Bits<'_>>,
    how: Preparation<T>,
    factors: Option<&[T]>,
    out: &mut [T],
    len: usize,
) {
    simd.vectorize(
        #[inline(always)]
        || {
            let mut at = 0;
            while at < len {
                grad.prefetch(at, tile_len::<S, T>());
                let tile = masked::<S, T>(simd, T::load(simd, grad, at), kept, at);
                let tile = clamped::<S, T>(simd, scaled::<S, T>(tile, how.first), how.limit);
                let mut tile = scaled::<S, T>(tile, how.second);
                if let Some(factors) = factors {
                    let factors = load_native::<S, T>(simd, factors, at);
                    for k in 0..TILE_VECTORS {
                        tile[k] *= factors[k];
                    }
                }
                store_native::<S, T>(tile, out, at);
                at += tile_len::<S, T>();
            }
        },
    );
}

#[inline(always)]
fn masked<S: Simd, T: Compute>(simd: S, tile: Tile<S, T>, kept: Option<Bits<'_>>, at: usize) -> Tile<S, T> {
    match kept {
        Some(kept) => kept.keep::<S, T>(simd, tile, at),
        None => tile,
    }
}

#[inline(always)]
fn scaled<S: Simd, T: Compute>(mut tile: Tile<S, T>, factor: T) -> Tile<S, T> {
    for k in 0..TILE_VECTORS {
        tile[k] *= factor;
    }
    tile
}

/// NaN stays NaN.
#[inline(always)]
fn clamped<S: Simd, T: Compute>(simd: S, mut tile: Tile<S, T>, limit: Option<T>) -> Tile<S, T> {
    if let Some(limit) = limit {
        let (low, high) = (T::Native::<S>::splat(simd, -limit), T::Native::<S>::splat(simd, limit));
        for k in 0..TILE_VECTORS {
            let below = tile[k].simd_gt(high).select(high, tile[k]);
            tile[k] = below.simd_lt(low).select(low, below);
        }
    }
    tile
}

/// What happens to a strip after the rule.
#[derive(Clone, Copy, Debug)]
pub struct Finish<'a, T> {
    /// Pruned elements become zero, with all that belongs to them.
    pub kept: Option<Bits<'a>>,
    /// The moving average's step towards the parameter: 1 - decay.
    pub ema_weight: T,
    /// The parameter in the compute type and random words, if it is yet to be rounded.
    pub unrounded: Option<(&'a [T], &'a [u32])>,
}

impl<T: Compute> Finish<'_, T> {
    /// Mask, rounding and store, moving average, shadow copy: `len` elements, a multiple of the tile.
    #[inline(never)]
    pub fn run<S: Simd>(
        self,
        simd: S,
        param: &mut ValuesMut<'_>,
        state: &mut [ValuesMut<'_>],
        copies: &mut Copies<'_>,
        len: usize,
    ) {
        simd.vectorize(
            #[inline(always)]
            || {
                let mut at = 0;
                while at < len {
                    self.settle(simd, param, state, at);
                    self.follow(simd, param, copies, at);
                    at += tile_len::<S, T>();
                }
            },
        );
    }

    #[inline(always)]
    fn settle<S: Simd>(self, simd: S, param: &mut ValuesMut<'_>, state: &mut [ValuesMut<'_>], at: usize) {
        if self.unrounded.is_none() && self.kept.is_none() {
            return;
        }
        let mut tile = match self.unrounded {
            Some((computed, _)) => load_native(simd, computed, at),
            None => T::load(simd, param.as_values(), at),
        };
        tile = masked::<S, T>(simd, tile, self.kept, at);
        if let Some((_, words)) = self.unrounded {
            tile = T::round_randomly(simd, tile, param, &words[at..]);
        }
        T::store(simd, tile, param, at);
        if self.kept.is_some() {
            for values in state {
                let tile = masked::<S, T>(simd, T::load(simd, values.as_values(), at), self.kept, at);
                T::store(simd, tile, values, at);
            }
        }
    }

    /// The copies follow the parameter as it is stored.
    #[inline(always)]
    fn follow<S: Simd>(self, simd: S, param: &ValuesMut<'_>, copies: &mut Copies<'_>, at: usize) {
        if copies.ema.is_absent() && copies.shadow.is_absent() {
            return;
        }
        copies.ema.as_values().prefetch(at, tile_len::<S, T>());
        copies.shadow.as_values().prefetch(at, tile_len::<S, T>());
        let param = T::load(simd, param.as_values(), at);
        if !copies.ema.is_absent() {
            let mut ema = T::load(simd, copies.ema.as_values(), at);
            for k in 0..TILE_VECTORS {
                ema[k] += (param[k] - ema[k]) * self.ema_weight;
            }
            T::store(simd, masked::<S, T>(simd, ema, self.kept, at), &mut copies.ema, at);
        }
        T::store(simd, param, &mut copies.shadow, at);
    }
}
