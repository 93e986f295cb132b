//! Activations with a derivative everywhere.
//!
//! x is brought within ± [`Math::FAR`] where a tail that is 0 there would meet Inf; nothing else changes.

use fearless_simd::prelude::*;

use super::{Activation, Gelu, GeluTanh, Sigmoid, Silu, Softplus, Tanh, within};
use crate::math::{Math, at_least, erf, exp_of_negative, log1p_inside, sigmoid, tanh};

/// Φ(x) = (1 + erf(x / √2)) / 2.
#[inline(always)]
fn normal_cdf<S: Simd, V: SimdFloat<S, Element = T>, T: Math>(x: V) -> V {
    (erf(x * T::from_f64(std::f64::consts::FRAC_1_SQRT_2)) + T::ONE) * T::HALF
}

/// φ(x) = e^(-x²/2) / √(2π).
#[inline(always)]
fn normal_pdf<S: Simd, V: SimdFloat<S, Element = T>, T: Math>(x: V) -> V {
    exp_of_negative(x * x * -T::HALF) * T::from_f64(0.398_942_280_401_432_7)
}

/// σ(x) and its derivative σ(x)·σ(-x), by one exponential and one division.
#[inline(always)]
fn logistic<S: Simd, V: SimdFloat<S, Element = T>, T: Math>(x: V) -> (V, V) {
    let (zero, one) = (V::splat(x.token(), T::ZERO), V::splat(x.token(), T::ONE));
    let z = exp_of_negative(-x.abs());
    let large = one / (z + T::ONE);
    let small = z * large;
    (x.simd_lt(zero).select(small, large), small * large)
}

impl<T: Math> Activation<T> for Gelu<T> {
    #[inline(always)]
    fn forward<S: Simd, V: SimdFloat<S, Element = T>>(&self, x: V) -> V {
        let x = at_least(x, -T::FAR);
        x * normal_cdf(x)
    }

    /// Φ + x·φ.
    #[inline(always)]
    fn backward<S: Simd, V: SimdFloat<S, Element = T>>(&self, x: V, dy: V) -> V {
        let x = within(x, T::FAR);
        dy * (normal_cdf(x) + x * normal_pdf(x))
    }
}

impl<T: Math> GeluTanh<T> {
    /// 2u and its derivative.
    #[inline(always)]
    fn argument<S: Simd, V: SimdFloat<S, Element = T>>(x: V) -> (V, V) {
        let sqrt_8_over_pi = T::from_f64(1.595_769_121_605_730_7);
        let square = x * x;
        let u = x * (square * T::from_f64(0.044_715) + T::ONE) * sqrt_8_over_pi;
        (u, (square * T::from_f64(0.134_145) + T::ONE) * sqrt_8_over_pi)
    }
}

impl<T: Math> Activation<T> for GeluTanh<T> {
    #[inline(always)]
    fn forward<S: Simd, V: SimdFloat<S, Element = T>>(&self, x: V) -> V {
        let x = at_least(x, -T::FAR);
        let (u, _) = Self::argument(x);
        x * sigmoid(u)
    }

    /// σ(2u) + x·σ'(2u)·2u'.
    #[inline(always)]
    fn backward<S: Simd, V: SimdFloat<S, Element = T>>(&self, x: V, dy: V) -> V {
        let x = within(x, T::FAR);
        let (u, du) = Self::argument(x);
        let (y, slope) = logistic(u);
        dy * (y + x * slope * du)
    }
}

impl<T: Math> Activation<T> for Silu<T> {
    #[inline(always)]
    fn forward<S: Simd, V: SimdFloat<S, Element = T>>(&self, x: V) -> V {
        let x = at_least(x, -T::FAR);
        x * sigmoid(x)
    }

    /// σ + x·σ'.
    #[inline(always)]
    fn backward<S: Simd, V: SimdFloat<S, Element = T>>(&self, x: V, dy: V) -> V {
        let x = within(x, T::FAR);
        let (y, slope) = logistic(x);
        dy * (y + x * slope)
    }
}

impl<T: Math> Activation<T> for Sigmoid<T> {
    #[inline(always)]
    fn forward<S: Simd, V: SimdFloat<S, Element = T>>(&self, x: V) -> V {
        sigmoid(x)
    }

    #[inline(always)]
    fn backward<S: Simd, V: SimdFloat<S, Element = T>>(&self, x: V, dy: V) -> V {
        dy * logistic(x).1
    }
}

impl<T: Math> Activation<T> for Tanh<T> {
    #[inline(always)]
    fn forward<S: Simd, V: SimdFloat<S, Element = T>>(&self, x: V) -> V {
        tanh(x)
    }

    /// 1 - tanh² = 4·σ'(2x), which keeps its digits where tanh nears 1.
    #[inline(always)]
    fn backward<S: Simd, V: SimdFloat<S, Element = T>>(&self, x: V, dy: V) -> V {
        dy * (logistic(x * T::TWO).1 * T::from_f64(4.0))
    }
}

impl<T: Math> Activation<T> for Softplus<T> {
    /// log(1 + e^z) = max(z, 0) + log(1 + e^-|z|).
    #[inline(always)]
    fn forward<S: Simd, V: SimdFloat<S, Element = T>>(&self, x: V) -> V {
        let (zero, threshold) = (V::splat(x.token(), T::ZERO), V::splat(x.token(), self.threshold));
        let z = x * self.beta;
        let y = (z.simd_gt(zero).select(z, zero) + log1p_inside(exp_of_negative(-z.abs()))) * self.inv_beta;
        z.simd_gt(threshold).select(x, y)
    }

    #[inline(always)]
    fn backward<S: Simd, V: SimdFloat<S, Element = T>>(&self, x: V, dy: V) -> V {
        let z = x * self.beta;
        let linear = z.simd_gt(V::splat(x.token(), self.threshold));
        linear.select(dy, dy * sigmoid(z))
    }
}
