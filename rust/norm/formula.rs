//! The formulas of an element, from statistics to outputs and from sums to gradients.

use fearless_simd::prelude::*;

use crate::dtype::Compute;
use crate::map::Map;

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

/// x̂·weight, one weight for all elements.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weighted<T> {
    normalize: Normalize<T>,
    weight: T,
}

/// x̂·weight + bias, one of each for all elements.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shifted<T> {
    weighted: Weighted<T>,
    bias: T,
}

impl<T> Normalize<T> {
    pub(super) const fn times(self, weight: T) -> Weighted<T> {
        Weighted { normalize: self, weight }
    }
}

impl<T> Weighted<T> {
    pub(super) const fn plus(self, bias: T) -> Shifted<T> {
        Shifted { weighted: self, bias }
    }
}

impl<T: Compute> Map<T, 1> for Weighted<T> {
    #[inline(always)]
    fn of<S: Simd, V: SimdFloat<S, Element = T>>(self, [x]: [V; 1]) -> V {
        self.normalize.x_hat(x) * self.weight
    }
}

impl<T: Compute> Map<T, 1> for Shifted<T> {
    #[inline(always)]
    fn of<S: Simd, V: SimdFloat<S, Element = T>>(self, [x]: [V; 1]) -> V {
        self.weighted.normalize.x_hat(x) * self.weighted.weight + self.bias
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

/// g = dy·weight, one weight for all elements.
#[derive(Clone, Copy, Debug)]
pub(super) struct DifferentiateWeighted<T> {
    formula: Differentiate<T>,
    weight: T,
}

impl<T> Differentiate<T> {
    pub(super) const fn times(self, weight: T) -> DifferentiateWeighted<T> {
        DifferentiateWeighted { formula: self, weight }
    }
}

impl<T: Compute> Map<T, 2> for DifferentiateWeighted<T> {
    #[inline(always)]
    fn of<S: Simd, V: SimdFloat<S, Element = T>>(self, [x, dy]: [V; 2]) -> V {
        let Differentiate { normalize, mean_g, mean_gx } = self.formula;
        (dy * self.weight - mean_g - normalize.x_hat(x) * mean_gx) * normalize.rstd
    }
}

/// The same with numbers that differ from element to element: channels on the last axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct EachOwn;

#[inline(always)]
fn own_x_hat<S: Simd, V: SimdFloat<S>>([x, mean, rest, rstd]: [V; 4]) -> V {
    ((x - mean) - rest) * rstd
}

/// x̂
impl<T: Compute> Map<T, 4> for EachOwn {
    #[inline(always)]
    fn of<S: Simd, V: SimdFloat<S, Element = T>>(self, numbers: [V; 4]) -> V {
        own_x_hat(numbers)
    }
}

/// x̂·weight
impl<T: Compute> Map<T, 5> for EachOwn {
    #[inline(always)]
    fn of<S: Simd, V: SimdFloat<S, Element = T>>(self, [x, mean, rest, rstd, weight]: [V; 5]) -> V {
        own_x_hat([x, mean, rest, rstd]) * weight
    }
}

/// x̂·weight + bias
impl<T: Compute> Map<T, 6> for EachOwn {
    #[inline(always)]
    fn of<S: Simd, V: SimdFloat<S, Element = T>>(self, [x, mean, rest, rstd, weight, bias]: [V; 6]) -> V {
        own_x_hat([x, mean, rest, rstd]) * weight + bias
    }
}

/// dx with g = dy
impl<T: Compute> Map<T, 7> for EachOwn {
    #[inline(always)]
    fn of<S: Simd, V: SimdFloat<S, Element = T>>(self, [x, mean, rest, rstd, mean_g, mean_gx, g]: [V; 7]) -> V {
        (g - mean_g - own_x_hat([x, mean, rest, rstd]) * mean_gx) * rstd
    }
}

/// dx with g = dy·weight
impl<T: Compute> Map<T, 8> for EachOwn {
    #[inline(always)]
    fn of<S: Simd, V: SimdFloat<S, Element = T>>(
        self,
        [x, mean, rest, rstd, mean_g, mean_gx, dy, weight]: [V; 8],
    ) -> V {
        (dy * weight - mean_g - own_x_hat([x, mean, rest, rstd]) * mean_gx) * rstd
    }
}
