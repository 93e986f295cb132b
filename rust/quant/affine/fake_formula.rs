//! What fake quantization does to an element, and its gradients.

use fearless_simd::prelude::*;

use crate::{map::Map, math::Math};

/// The numbers of an element.
#[derive(Clone, Copy)]
struct Numbers<V> {
    scale: V,
    inverse: V,
    low: V,
    high: V,
    is_reciprocal: bool,
}

impl<V> Numbers<V> {
    /// Numbers of each element.
    #[inline(always)]
    fn each<S: Simd, T: Math>(same: Same<T>, scale: V, zero: V) -> Self
    where
        V: SimdFloat<S, Element = T>,
    {
        let [low, high] = [V::splat(scale.token(), same.low), V::splat(scale.token(), same.high)];
        let inverse = V::splat(scale.token(), T::ONE) / scale;
        Self { scale, inverse, low: low - zero, high: high - zero, is_reciprocal: same.is_reciprocal }
    }

    /// x / scale, and its nearest integer, if that is at most a step outside the bounds; NaN stays.
    #[inline(always)]
    fn scaled<S: Simd, T: Math>(self, x: V) -> [V; 2]
    where
        V: SimdFloat<S, Element = T>,
    {
        let scaled = if self.is_reciprocal { x * self.inverse } else { x / self.scale };
        // Of a NaN and a number x86 takes the second one.
        let near = (self.high + T::ONE).min((self.low - T::ONE).max(scaled));
        [scaled, (near + T::SHIFTER) - T::SHIFTER]
    }

    #[inline(always)]
    fn forward<S: Simd, T: Math>(self, x: V) -> V
    where
        V: SimdFloat<S, Element = T>,
    {
        let [_, rounded] = self.scaled(x);
        self.high.min(self.low.max(rounded)) * self.scale
    }

    #[inline(always)]
    fn straight<S: Simd, T: Math>(self, x: V, dy: V) -> V
    where
        V: SimdFloat<S, Element = T>,
    {
        let [_, rounded] = self.scaled(x);
        let outside = x.is_nan().select(x, V::splat(x.token(), T::ZERO));
        (rounded.simd_ge(self.low) & rounded.simd_le(self.high)).select(dy, outside)
    }

    #[inline(always)]
    fn learned<S: Simd, T: Math>(self, x: V, dy: V) -> V
    where
        V: SimdFloat<S, Element = T>,
    {
        let [scaled, rounded] = self.scaled(x);
        let below = rounded.simd_lt(self.low).select(self.low, rounded - scaled);
        rounded.simd_gt(self.high).select(self.high, below) * dy
    }
}

/// The numbers of one scale; with a scale and a zero point for each element, those of the rest.
#[derive(Clone, Copy)]
pub(super) struct Same<T> {
    scale: T,
    low: T,
    high: T,
    is_reciprocal: bool,
}

impl<T: Math> Same<T> {
    pub(super) fn new(bounds: [f64; 2], is_reciprocal: bool, scale: f64, zero: f64) -> Self {
        let [low, high] = bounds.map(|bound| T::from_f64(bound - zero));
        Self { scale: T::from_f64(scale), low, high, is_reciprocal }
    }

    #[inline(always)]
    fn numbers<S: Simd, V: SimdFloat<S, Element = T>>(self, x: V) -> Numbers<V> {
        Numbers::each(self, V::splat(x.token(), self.scale), V::splat(x.token(), T::ZERO))
    }
}

/// y
#[derive(Clone, Copy)]
pub(super) struct Forward<T>(pub(super) Same<T>);

/// dx
#[derive(Clone, Copy)]
pub(super) struct Straight<T>(pub(super) Same<T>);

/// dy times the derivative by the scale
#[derive(Clone, Copy)]
pub(super) struct Learned<T>(pub(super) Same<T>);

impl<T: Math> Map<T, 1> for Forward<T> {
    #[inline(always)]
    fn of<S: Simd, V: SimdFloat<S, Element = T>>(self, [x]: [V; 1]) -> V {
        self.0.numbers::<S, V>(x).forward(x)
    }
}

impl<T: Math> Map<T, 3> for Forward<T> {
    #[inline(always)]
    fn of<S: Simd, V: SimdFloat<S, Element = T>>(self, [x, scale, zero]: [V; 3]) -> V {
        Numbers::each(self.0, scale, zero).forward(x)
    }
}

macro_rules! gradients {
    ($($name:ident: $function:ident;)*) => {$(
        impl<T: Math> Map<T, 2> for $name<T> {
            #[inline(always)]
            fn of<S: Simd, V: SimdFloat<S, Element = T>>(self, [x, dy]: [V; 2]) -> V {
                self.0.numbers::<S, V>(x).$function(x, dy)
            }
        }

        impl<T: Math> Map<T, 4> for $name<T> {
            #[inline(always)]
            fn of<S: Simd, V: SimdFloat<S, Element = T>>(self, [x, dy, scale, zero]: [V; 4]) -> V {
                Numbers::each(self.0, scale, zero).$function(x, dy)
            }
        }
    )*};
}

gradients! {
    Straight: straight;
    Learned: learned;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{dispatch, map::map, simd::Isa};

    /// Steps of 0.5 and codes from -4 to 3: 0.3 is 0.6 steps and becomes one, 0.75 is halfway and becomes two, 9 is too far.
    #[test]
    fn numbers_by_hand() {
        let same = Same::<f64>::new([-4.0, 3.0], false, 0.5, 0.0);
        let (x, dy, mut out) = ([0.3, 0.75, 9.0, -9.0], [1.0; 4], [0.0; 4]);
        for isa in Isa::available() {
            dispatch!(isa, simd => map(simd, [&x], &mut out, Forward(same)));
            assert_eq!(out, [0.5, 1.0, 1.5, -2.0]);
            dispatch!(isa, simd => map(simd, [&x, &dy], &mut out, Straight(same)));
            assert_eq!(out, [1.0, 1.0, 0.0, 0.0]);
            dispatch!(isa, simd => map(simd, [&x, &dy], &mut out, Learned(same)));
            assert_eq!(out, [0.4, 0.5, 3.0, -4.0]);
        }
    }
}
