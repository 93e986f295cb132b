//! What a rule is, and the list of rules.

use fearless_simd::prelude::*;

use super::{
    adadelta::Adadelta, adagrad::Adagrad, adam::Adam, adamax::Adamax, adan::Adan, ademamix::AdEmaMix, asgd::Asgd,
    lion::Lion, nadam::NAdam, pipeline, radam::RAdam, rmsprop::RmsProp, rprop::Rprop,
    schedulefree_adamw::ScheduleFreeAdamW, sgd::Sgd, table::Rows,
};
use crate::{dtype::Compute, error::Error};

/// One element's update: a pure function of parameter, gradient and `N` state values.
///
/// Written once with plain operators; `V` is a vector of `T` at some CPU level. Each operation is rounded once, in the
/// written order. No closures (they lose the CPU level) and no `mul_add` (it rounds once where the formula rounds twice).
pub trait Rule<T: Compute, const N: usize>: Copy + Send + Sync {
    /// Names of the state values, in order. A state array that a setting does without reads as zeros.
    const STATE: [&'static str; N];

    /// The update.
    fn step<S: Simd, V: SimdFloat<S, Element = T>>(&self, param: V, grad: V, state: [V; N]) -> (V, [V; N]);
}

/// Declares a rule's scalars: numbers, computed in float64 and rounded once to the compute type, then flags (0 or 1).
macro_rules! scalars {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            numbers: $($number:ident),*;
            flags: $($flag:ident),*;
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug)]
        $vis struct $name<T> {
            $($number: T,)*
            $($flag: bool,)*
        }

        impl $name<f64> {
            /// The scalars' names in the order of [`Self::new`].
            #[allow(unreachable_pub)]
            pub const SCALARS: &'static [&'static str] = &[$(stringify!($number),)* $(stringify!($flag),)*];
        }

        impl<T: crate::dtype::Compute> $name<T> {
            /// The rule with these scalars, in the order of [`Self::SCALARS`]; those left out are 0.
            #[must_use]
            #[allow(unreachable_pub)]
            pub fn new(scalars: &[f64]) -> Self {
                let mut scalars = scalars.iter().copied();
                let mut next = || scalars.next().unwrap_or(0.0);
                Self { $($number: T::from_f64(next()),)* $($flag: next() != 0.0,)* }
            }
        }
    };
}
pub(super) use scalars;

/// a where a > b, else b: NaN in `b` stays.
#[inline(always)]
pub(super) fn larger<S: Simd, V: SimdFloat<S>>(a: V, b: V) -> V {
    a.simd_gt(b).select(a, b)
}

/// 1 where x > 0, -1 where x < 0, else 0.
#[inline(always)]
pub(super) fn sign<S: Simd, V: SimdFloat<S, Element = T>, T: Compute>(x: V) -> V {
    let (zero, one) = (V::splat(x.token(), T::default()), V::splat(x.token(), T::from_f64(1.0)));
    x.simd_gt(zero).select(one, x.simd_lt(zero).select(-one, zero))
}

/// A rule of the list.
#[derive(Debug)]
pub struct Entry {
    /// The name that [`find`] knows.
    pub name: &'static str,
    /// Names of its state arrays.
    pub state: &'static [&'static str],
    /// Names of its scalars.
    pub scalars: &'static [&'static str],
    /// The write pass with this rule.
    pub(super) run: fn(&pipeline::Pass<'_>, &mut Rows),
}

macro_rules! rules {
    ($($name:literal => $rule:ident, $state:literal;)*) => {
        /// The rules by name: a row here makes one exist.
        pub const RULES: &[Entry] = &[$(Entry {
            name: $name,
            state: &<$rule<f64> as Rule<f64, $state>>::STATE,
            scalars: $rule::SCALARS,
            run: |pass, rows| pass.run(rows, $rule::<f32>::new, $rule::<f64>::new),
        }),*];
    };
}

rules! {
    "sgd" => Sgd, 1;
    "adagrad" => Adagrad, 1;
    "rmsprop" => RmsProp, 3;
    "adadelta" => Adadelta, 2;
    "adam" => Adam, 3;
    "adamw" => Adam, 3;
    "adamax" => Adamax, 2;
    "nadam" => NAdam, 2;
    "radam" => RAdam, 2;
    "rprop" => Rprop, 2;
    "asgd" => Asgd, 1;
    "lion" => Lion, 1;
    "ademamix" => AdEmaMix, 3;
    "schedulefree_adamw" => ScheduleFreeAdamW, 2;
    "adan" => Adan, 4;
}

/// Not an optimizer: the traffic of one and next to no arithmetic, the limit that a step is measured against.
pub const SWEEP: Entry =
    Entry { name: "sweep", state: &[], scalars: &[], run: |pass, rows| pass.run(rows, |_| Sweep, |_| Sweep) };

/// Multiplies by a scalar, without gradient or state.
pub const SCALE: Entry = Entry {
    name: "scale",
    state: &[],
    scalars: Scale::SCALARS,
    run: |pass, rows| pass.run(rows, Scale::new, Scale::new),
};

/// Clamps to a range around zero, without gradient or state.
pub const CLAMP: Entry = Entry {
    name: "clamp",
    state: &[],
    scalars: Clamp::SCALARS,
    run: |pass, rows| pass.run(rows, Clamp::new, Clamp::new),
};

/// Moves towards the state, without gradient; the state stays.
pub const LERP: Entry = Entry {
    name: "lerp",
    state: &["end"],
    scalars: Lerp::SCALARS,
    run: |pass, rows| pass.run(rows, Lerp::new, Lerp::new),
};

/// Adds the gradient to everything.
#[derive(Clone, Copy, Debug)]
struct Sweep;

impl<T: Compute> Rule<T, 4> for Sweep {
    const STATE: [&'static str; 4] = [""; 4];

    #[inline(always)]
    fn step<S: Simd, V: SimdFloat<S, Element = T>>(&self, param: V, grad: V, [a, b, c, d]: [V; 4]) -> (V, [V; 4]) {
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

/// The rule of that name.
pub fn find(name: &str) -> Result<&'static Entry, Error> {
    RULES.iter().find(|rule| rule.name == name).ok_or_else(|| Error::UnknownRule(name.to_owned()))
}

/// One update outside of any array, for the hand-worked tests.
#[cfg(test)]
pub(super) fn by_hand<R: Rule<f64, N>, const N: usize>(
    rule: &R,
    param: f64,
    grad: f64,
    state: [f64; N],
) -> (f64, [f64; N]) {
    #[inline(always)]
    fn update<S: Simd, R: Rule<f64, N>, const N: usize>(
        simd: S,
        rule: &R,
        x: [f64; 2],
        state: [f64; N],
    ) -> (f64, [f64; N]) {
        let state = state.map(|x| S::f64s::splat(simd, x));
        let (param, state) = rule.step(S::f64s::splat(simd, x[0]), S::f64s::splat(simd, x[1]), state);
        (param[0], state.map(|x| x[0]))
    }
    let isa = crate::simd::Isa::choose(None).unwrap();
    crate::dispatch!(isa, simd => update(simd, rule, [param, grad], state))
}
