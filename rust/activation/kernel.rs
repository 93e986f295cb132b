//! The loops over an activation, the only code that each of them has for itself.

use fearless_simd::prelude::*;

use super::Activation;
use crate::{
    dispatch,
    map::{Map, map},
    math::Math,
    simd::Isa,
};

/// An activation over elements of the compute type, its name forgotten.
pub(super) trait Kernel<T>: Sync {
    /// y of `x`.
    fn forward(&self, isa: Isa, x: &[T], y: &mut [T]);

    /// dx of `x` and `dy`.
    fn backward(&self, isa: Isa, x: &[T], dy: &[T], dx: &mut [T]);
}

#[derive(Clone, Copy)]
struct Forward<A>(A);

#[derive(Clone, Copy)]
struct Backward<A>(A);

impl<T: Math, A: Activation<T>> Map<T, 1> for Forward<A> {
    #[inline(always)]
    fn of<S: Simd, V: SimdFloat<S, Element = T>>(self, [x]: [V; 1]) -> V {
        self.0.forward(x)
    }
}

impl<T: Math, A: Activation<T>> Map<T, 2> for Backward<A> {
    #[inline(always)]
    fn of<S: Simd, V: SimdFloat<S, Element = T>>(self, [x, dy]: [V; 2]) -> V {
        self.0.backward(x, dy)
    }
}

impl<T: Math, A: Activation<T>> Kernel<T> for A {
    fn forward(&self, isa: Isa, x: &[T], y: &mut [T]) {
        dispatch!(isa, simd => map(simd, [x], y, Forward(*self)));
    }

    fn backward(&self, isa: Isa, x: &[T], dy: &[T], dx: &mut [T]) {
        dispatch!(isa, simd => map(simd, [x, dy], dx, Backward(*self)));
    }
}
