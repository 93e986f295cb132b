//! The formulas of an element.

use fearless_simd::prelude::*;

use crate::{
    map::Map,
    math::{Math, exp},
};

/// exp(x - m)
#[derive(Clone, Copy)]
pub(super) struct Exp<T> {
    pub(super) max: T,
}

impl<T: Math> Map<T, 1> for Exp<T> {
    #[inline(always)]
    fn of<S: Simd, V: SimdFloat<S, Element = T>>(self, [x]: [V; 1]) -> V {
        exp(x - self.max)
    }
}

/// (x - m) - log(s)
#[derive(Clone, Copy)]
pub(super) struct Log<T> {
    pub(super) max: T,
    pub(super) log: T,
}

impl<T: Math> Map<T, 1> for Log<T> {
    #[inline(always)]
    fn of<S: Simd, V: SimdFloat<S, Element = T>>(self, [x]: [V; 1]) -> V {
        (x - self.max) - self.log
    }
}

/// e·factor, less the numbers of a table where there is one.
#[derive(Clone, Copy)]
pub(super) struct Scale<T> {
    pub(super) factor: T,
}

impl<T: Math> Map<T, 1> for Scale<T> {
    #[inline(always)]
    fn of<S: Simd, V: SimdFloat<S, Element = T>>(self, [e]: [V; 1]) -> V {
        e * self.factor
    }
}

impl<T: Math> Map<T, 2> for Scale<T> {
    #[inline(always)]
    fn of<S: Simd, V: SimdFloat<S, Element = T>>(self, [e, table]: [V; 2]) -> V {
        e * self.factor - table
    }
}

/// e·factor - q'·scale with q' = q·keep + base, times the class's weight.
#[derive(Clone, Copy)]
pub(super) struct ScaleLess<T> {
    pub(super) factor: T,
    pub(super) keep: T,
    pub(super) base: T,
    pub(super) scale: T,
}

impl<T: Math> Map<T, 3> for ScaleLess<T> {
    #[inline(always)]
    fn of<S: Simd, V: SimdFloat<S, Element = T>>(self, [e, q, weight]: [V; 3]) -> V {
        e * self.factor - (q * self.keep + self.base) * weight * self.scale
    }
}

/// y·(dy - sum)
#[derive(Clone, Copy)]
pub(super) struct SoftmaxBackward<T> {
    pub(super) sum: T,
}

impl<T: Math> Map<T, 2> for SoftmaxBackward<T> {
    #[inline(always)]
    fn of<S: Simd, V: SimdFloat<S, Element = T>>(self, [dy, y]: [V; 2]) -> V {
        y * (dy - self.sum)
    }
}

/// dy - exp(y)·sum
#[derive(Clone, Copy)]
pub(super) struct LogSoftmaxBackward<T> {
    pub(super) sum: T,
}

impl<T: Math> Map<T, 2> for LogSoftmaxBackward<T> {
    #[inline(always)]
    fn of<S: Simd, V: SimdFloat<S, Element = T>>(self, [dy, y]: [V; 2]) -> V {
        dy - exp(y) * self.sum
    }
}
