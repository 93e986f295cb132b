//! The formulas of an element, from statistics to outputs and from sums to gradients.

use fearless_simd::prelude::*;

use super::map::Map;
use crate::dtype::Compute;

/// x̂ = ((x - mean) - rest)·rstd, the mean as a number of the compute type and what that leaves of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Normalize<T> {
    pub(super) mean: T,
    pub(super) rest: T,
    pub(super) rstd: T,
}

impl<T: Compute> Normalize<T> {
    pub(super) fn new(mean: f64, rstd: f64) -> Self {
        let [mean, rest] = split(mean);
        Self { mean, rest, rstd: T::from_f64(rstd) }
    }

    #[inline(always)]
    fn x_hat<S: Simd, V: SimdFloat<S, Element = T>>(self, x: V) -> V {
        ((x - self.mean) - self.rest) * self.rstd
    }
}

/// A number of the compute type and the rest, which is 0 where there is no number left.
pub(super) fn split<T: Compute>(x: f64) -> [T; 2] {
    let near = T::from_f64(x);
    let rest = x - near.to_f64();
    [near, T::from_f64(if rest.is_finite() { rest } else { 0.0 })]
}

/// x̂
impl<T: Compute> Map<T, 1> for Normalize<T> {
    #[inline(always)]
    fn of<S: Simd, V: SimdFloat<S, Element = T>>(self, [x]: [V; 1]) -> V {
        self.x_hat(x)
    }
}

/// x̂·weight
impl<T: Compute> Map<T, 2> for Normalize<T> {
    #[inline(always)]
    fn of<S: Simd, V: SimdFloat<S, Element = T>>(self, [x, weight]: [V; 2]) -> V {
        self.x_hat(x) * weight
    }
}

/// x̂·weight + bias
impl<T: Compute> Map<T, 3> for Normalize<T> {
    #[inline(always)]
    fn of<S: Simd, V: SimdFloat<S, Element = T>>(self, [x, weight, bias]: [V; 3]) -> V {
        self.x_hat(x) * weight + bias
    }
}

/// x + y
#[derive(Clone, Copy, Debug)]
pub(super) struct Add;

impl<T: Compute> Map<T, 2> for Add {
    #[inline(always)]
    fn of<S: Simd, V: SimdFloat<S, Element = T>>(self, [x, y]: [V; 2]) -> V {
        x + y
    }
}

/// dx = (g - mean_g - x̂·mean_gx)·rstd
#[derive(Clone, Copy, Debug)]
pub(super) struct Differentiate<T> {
    pub(super) normalize: Normalize<T>,
    /// Mean of g over the row, 0 where nothing is centred.
    pub(super) mean_g: T,
    /// Mean of g·x̂ over the row.
    pub(super) mean_gx: T,
}

/// g = dy
impl<T: Compute> Map<T, 2> for Differentiate<T> {
    #[inline(always)]
    fn of<S: Simd, V: SimdFloat<S, Element = T>>(self, [x, dy]: [V; 2]) -> V {
        (dy - self.mean_g - self.normalize.x_hat(x) * self.mean_gx) * self.normalize.rstd
    }
}

/// g = dy·weight
impl<T: Compute> Map<T, 3> for Differentiate<T> {
    #[inline(always)]
    fn of<S: Simd, V: SimdFloat<S, Element = T>>(self, [x, dy, weight]: [V; 3]) -> V {
        (dy * weight - self.mean_g - self.normalize.x_hat(x) * self.mean_gx) * self.normalize.rstd
    }
}
