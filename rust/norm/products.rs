//! What the gradients of a norm add up.

use fearless_simd::prelude::*;

use crate::{
    row_sums::Terms,
    simd::{TILE_VECTORS, Tile},
};

/// g and g·x̂ with g = dy or dy·weight
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Products {
    pub(super) mean: f64,
    pub(super) rstd: f64,
}

impl Products {
    #[inline(always)]
    pub(super) fn of_tiles<S: Simd>(self, g: Tile<S, f64>, mut x: Tile<S, f64>) -> [Tile<S, f64>; 2] {
        for i in 0..TILE_VECTORS {
            x[i] = g[i] * ((x[i] - self.mean) * self.rstd);
        }
        [g, x]
    }
}

impl Terms<2, 2> for Products {
    #[inline(always)]
    fn of<S: Simd>(self, _simd: S, [dy, x]: [Tile<S, f64>; 2]) -> [Tile<S, f64>; 2] {
        self.of_tiles::<S>(dy, x)
    }
}

impl Terms<3, 2> for Products {
    #[inline(always)]
    fn of<S: Simd>(self, _simd: S, [mut dy, x, weight]: [Tile<S, f64>; 3]) -> [Tile<S, f64>; 2] {
        for i in 0..TILE_VECTORS {
            dy[i] *= weight[i];
        }
        self.of_tiles::<S>(dy, x)
    }
}
