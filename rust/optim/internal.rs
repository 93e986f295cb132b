//! Rules that are no optimizers: the sweep that a step is measured against, and what functions over arrays do.

use fearless_simd::prelude::*;

use super::{
    row::MAX_STATE,
    rule::{Entry, Rule, scalars},
};
use crate::dtype::Compute;

/// Not an optimizer: the traffic of one and next to no arithmetic, the limit that a step is measured against.
pub const SWEEP: Entry = Entry::internal("sweep", &[], |pass, rows| pass.run(rows, |_| Sweep, |_| Sweep));

/// Multiplies by a scalar, without gradient or state.
pub const SCALE: Entry = Entry::internal("scale", Scale::SCALARS, |pass, rows| pass.run(rows, Scale::new, Scale::new));

/// Clamps to a range around zero, without gradient or state.
pub const CLAMP: Entry = Entry::internal("clamp", Clamp::SCALARS, |pass, rows| pass.run(rows, Clamp::new, Clamp::new));

/// Moves towards the state, without gradient; the state stays.
pub const LERP: Entry = Entry {
    state: &["end"],
    ..Entry::internal("lerp", Lerp::SCALARS, |pass, rows| pass.run(rows, Lerp::new, Lerp::new))
};

/// Adds a multiple of the gradient, without state.
pub const AXPY: Entry = Entry::internal("axpy", Axpy::SCALARS, |pass, rows| pass.run(rows, Axpy::new, Axpy::new));

/// Becomes a multiple of the gradient, without state.
pub const ASSIGN: Entry =
    Entry::internal("assign", Assign::SCALARS, |pass, rows| pass.run(rows, Assign::new, Assign::new));

/// Adds the gradient to everything.
#[derive(Clone, Copy, Debug)]
struct Sweep;

impl<T: Compute> Rule<T, MAX_STATE> for Sweep {
    const STATE: [&'static str; MAX_STATE] = [""; MAX_STATE];

    #[inline(always)]
    fn step<S: Simd, V: SimdFloat<S, Element = T>>(
        &self,
        param: V,
        grad: V,
        [a, b, c, d]: [V; MAX_STATE],
    ) -> (V, [V; MAX_STATE]) {
        (param + grad, [a + grad, b + grad, c + grad, d + grad])
    }
}

scalars! {
    /// p *= factor
    struct Scale {
        numbers: factor;
        flags: ;
    }
}

impl<T: Compute> Rule<T, 0> for Scale<T> {
    const STATE: [&'static str; 0] = [];

    #[inline(always)]
    fn step<S: Simd, V: SimdFloat<S, Element = T>>(&self, param: V, _grad: V, _state: [V; 0]) -> (V, [V; 0]) {
        (param * self.factor, [])
    }
}

scalars! {
    /// p = limit where p > limit, -limit where p < -limit
    struct Clamp {
        numbers: limit;
        flags: ;
    }
}

impl<T: Compute> Rule<T, 0> for Clamp<T> {
    const STATE: [&'static str; 0] = [];

    #[inline(always)]
    fn step<S: Simd, V: SimdFloat<S, Element = T>>(&self, param: V, _grad: V, _state: [V; 0]) -> (V, [V; 0]) {
        let (low, high) = (V::splat(param.token(), -self.limit), V::splat(param.token(), self.limit));
        let below = param.simd_gt(high).select(high, param);
        (below.simd_lt(low).select(low, below), [])
    }
}

scalars! {
    /// p += (end - p)·weight
    struct Lerp {
        numbers: weight;
        flags: ;
    }
}

impl<T: Compute> Rule<T, 1> for Lerp<T> {
    const STATE: [&'static str; 1] = ["end"];

    #[inline(always)]
    fn step<S: Simd, V: SimdFloat<S, Element = T>>(&self, param: V, _grad: V, [end]: [V; 1]) -> (V, [V; 1]) {
        (param + (end - param) * self.weight, [end])
    }
}

scalars! {
    /// p += factor·g
    struct Axpy {
        numbers: factor;
        flags: ;
    }
}

impl<T: Compute> Rule<T, 0> for Axpy<T> {
    const STATE: [&'static str; 0] = [];

    #[inline(always)]
    fn step<S: Simd, V: SimdFloat<S, Element = T>>(&self, param: V, grad: V, _state: [V; 0]) -> (V, [V; 0]) {
        (param + grad * self.factor, [])
    }
}

scalars! {
    /// p = factor·g
    struct Assign {
        numbers: factor;
        flags: ;
    }
}

impl<T: Compute> Rule<T, 0> for Assign<T> {
    const STATE: [&'static str; 0] = [];

    #[inline(always)]
    fn step<S: Simd, V: SimdFloat<S, Element = T>>(&self, _param: V, grad: V, _state: [V; 0]) -> (V, [V; 0]) {
        (grad * self.factor, [])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::rule::by_hand;

    /// p = 1, g = 2 and a factor of 1/4; p = 3 clamped to 2; p = 1 a quarter of the way to 5.
    #[test]
    fn each_by_hand() {
        assert_eq!(by_hand(&Axpy::<f64>::new(&[0.25]), 1.0, 2.0, []).0, 1.5);
        assert_eq!(by_hand(&Assign::<f64>::new(&[0.25]), 1.0, 2.0, []).0, 0.5);
        assert_eq!(by_hand(&Scale::<f64>::new(&[0.25]), 2.0, 0.0, []).0, 0.5);
        assert_eq!(by_hand(&Clamp::<f64>::new(&[2.0]), 3.0, 0.0, []).0, 2.0);
        assert_eq!(by_hand(&Clamp::<f64>::new(&[2.0]), -3.0, 0.0, []).0, -2.0);
        assert_eq!(by_hand(&Lerp::<f64>::new(&[0.25]), 1.0, 0.0, [5.0]), (2.0, [5.0]));
    }
}
