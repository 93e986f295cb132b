//! Activations made of pieces.

use fearless_simd::prelude::*;

use super::{Activation, Elu, HardTanh, LeakyRelu, Relu, SoftSign, within};
use crate::math::{Math, at_least, at_most, exp_of_negative, expm1};

impl<T: Math> Activation<T> for Relu<T> {
    #[inline(always)]
    fn forward<S: Simd, V: SimdFloat<S, Element = T>>(&self, x: V) -> V {
        let zero = V::splat(x.token(), T::ZERO);
        x.simd_le(zero).select(zero, x)
    }

    #[inline(always)]
    fn backward<S: Simd, V: SimdFloat<S, Element = T>>(&self, x: V, dy: V) -> V {
        let zero = V::splat(x.token(), T::ZERO);
        x.simd_gt(zero).select(dy, x.simd_le(zero).select(zero, x))
    }
}

impl<T: Math> Activation<T> for LeakyRelu<T> {
    #[inline(always)]
    fn forward<S: Simd, V: SimdFloat<S, Element = T>>(&self, x: V) -> V {
        let zero = V::splat(x.token(), T::ZERO);
        x.simd_gt(zero).select(x, x * self.negative_slope)
    }

    #[inline(always)]
    fn backward<S: Simd, V: SimdFloat<S, Element = T>>(&self, x: V, dy: V) -> V {
        let zero = V::splat(x.token(), T::ZERO);
        let slope = V::splat(x.token(), self.negative_slope);
        x.simd_gt(zero).select(dy, dy * x.simd_le(zero).select(slope, x))
    }
}

impl<T: Math> Activation<T> for HardTanh<T> {
    #[inline(always)]
    fn forward<S: Simd, V: SimdFloat<S, Element = T>>(&self, x: V) -> V {
        at_most(at_least(x, self.min_val), self.max_val)
    }

    #[inline(always)]
    fn backward<S: Simd, V: SimdFloat<S, Element = T>>(&self, x: V, dy: V) -> V {
        let (min_val, max_val) = (V::splat(x.token(), self.min_val), V::splat(x.token(), self.max_val));
        let outside = x.is_nan().select(x, V::splat(x.token(), T::ZERO));
        (x.simd_gt(min_val) & x.simd_lt(max_val)).select(dy, outside)
    }
}

impl<T: Math> Activation<T> for SoftSign<T> {
    #[inline(always)]
    fn forward<S: Simd, V: SimdFloat<S, Element = T>>(&self, x: V) -> V {
        let x = within(x, T::MAX);
        x / (x.abs() + T::ONE)
    }

    /// 1 / (1 + |x|)².
    #[inline(always)]
    fn backward<S: Simd, V: SimdFloat<S, Element = T>>(&self, x: V, dy: V) -> V {
        let t = x.abs() + T::ONE;
        dy / (t * t)
    }
}

impl<T: Math> Activation<T> for Elu<T> {
    #[inline(always)]
    fn forward<S: Simd, V: SimdFloat<S, Element = T>>(&self, x: V) -> V {
        let zero = V::splat(x.token(), T::ZERO);
        x.simd_gt(zero).select(x, expm1(x) * self.alpha)
    }

    #[inline(always)]
    fn backward<S: Simd, V: SimdFloat<S, Element = T>>(&self, x: V, dy: V) -> V {
        let zero = V::splat(x.token(), T::ZERO);
        x.simd_gt(zero).select(dy, dy * (exp_of_negative(x) * self.alpha))
    }
}
