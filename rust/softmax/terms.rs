//! What the passes add up, in float64.

use fearless_simd::prelude::*;

use crate::{
    row_sums::Terms,
    simd::{TILE_VECTORS, Tile},
};

/// dy·y
#[derive(Clone, Copy)]
pub(super) struct Product;

impl Terms<2, 1> for Product {
    #[inline(always)]
    fn of<S: Simd>(self, _simd: S, [mut dy, y]: [Tile<S, f64>; 2]) -> [Tile<S, f64>; 1] {
        for i in 0..TILE_VECTORS {
            dy[i] *= y[i];
        }
        [dy]
    }
}

/// -log of the softmax: log(s) - (x - m), times the class's weight where there is one.
#[derive(Clone, Copy, Default)]
pub(super) struct Surprise {
    pub(super) max: f64,
    pub(super) log: f64,
}

impl Surprise {
    #[inline(always)]
    fn of_tile<S: Simd>(self, mut x: Tile<S, f64>) -> Tile<S, f64> {
        for i in 0..TILE_VECTORS {
            x[i] = S::f64s::splat(x[i].token(), self.log) - (x[i] - self.max);
        }
        x
    }

    /// That of one element.
    #[inline(always)]
    pub(super) fn of_element(self, x: f64) -> f64 {
        self.log - (x - self.max)
    }
}

impl Terms<1, 1> for Surprise {
    #[inline(always)]
    fn of<S: Simd>(self, _simd: S, [x]: [Tile<S, f64>; 1]) -> [Tile<S, f64>; 1] {
        [self.of_tile::<S>(x)]
    }
}

impl Terms<2, 1> for Surprise {
    #[inline(always)]
    fn of<S: Simd>(self, _simd: S, [x, weight]: [Tile<S, f64>; 2]) -> [Tile<S, f64>; 1] {
        let mut terms = self.of_tile::<S>(x);
        for i in 0..TILE_VECTORS {
            terms[i] = weight[i] * terms[i];
        }
        [terms]
    }
}

/// q' = q·keep + base, times the class's weight, and that times the surprise.
#[derive(Clone, Copy, Default)]
pub(super) struct Expected {
    pub(super) surprise: Surprise,
    pub(super) keep: f64,
    pub(super) base: f64,
}

impl Terms<3, 2> for Expected {
    #[inline(always)]
    fn of<S: Simd>(self, _simd: S, [x, mut q, weight]: [Tile<S, f64>; 3]) -> [Tile<S, f64>; 2] {
        let mut losses = self.surprise.of_tile::<S>(x);
        for i in 0..TILE_VECTORS {
            q[i] = (q[i] * self.keep + self.base) * weight[i];
            losses[i] = q[i] * losses[i];
        }
        [q, losses]
    }
}
