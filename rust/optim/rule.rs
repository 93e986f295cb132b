//! What a rule is, and the list of rules.

use fearless_simd::prelude::*;

use super::{
    adadelta::Adadelta, adafactor::Adafactor, adagrad::Adagrad, adam::Adam, adamax::Adamax, adan::Adan,
    ademamix::AdEmaMix, asgd::Asgd, lamb::Lamb, lars::Lars, lion::Lion, muon::Muon, nadam::NAdam, pipeline,
    radam::RAdam, rmsprop::RmsProp, rprop::Rprop, schedulefree_adamw::ScheduleFreeAdamW, sgd::Sgd, table::Rows,
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

    /// May the first two states be means over rows and columns instead?
    const FACTORED: bool = false;

    /// Does the update need norms of the whole tensor? Then a sweep takes that of the parameter and that of `measure`.
    const MEASURES: bool = false;

    /// What is measured, of one element.
    #[inline(always)]
    fn measure<S: Simd, V: SimdFloat<S, Element = T>>(&self, param: V, _grad: V, _state: [V; N]) -> V {
        param
    }

    /// The rule for a tensor with these norms.
    #[must_use]
    fn measured(self, _norms: Norms) -> Self {
        self
    }

    /// The rule for a tensor whose second moment is factored, its first two states being means of rows and columns, or not.
    #[must_use]
    fn of_tensor(self, _factored: bool) -> Self {
        self
    }

    /// How the means of rows and columns are averaged.
    fn factoring(&self) -> Factoring<T> {
        Factoring::default()
    }
}

/// What was measured of a tensor.
#[derive(Clone, Copy, Debug)]
pub struct Norms {
    /// Elements.
    pub len: usize,
    /// 2-norm of the parameter.
    pub param: f64,
    /// 2-norm of what the rule measures.
    pub measured: f64,
}

/// A factored second moment's scalars.
#[derive(Clone, Copy, Debug, Default)]
pub struct Factoring<T> {
    /// Weight of a new mean.
    pub one_minus_beta2: T,
    /// The least that ratios are taken by.
    pub eps: T,
}

/// Declares a rule's scalars: numbers, computed in float64 and rounded once to the compute type, then flags (0 or 1), then
/// numbers that stay in float64. Derived numbers are the rule's own, 0 until it sets them.
macro_rules! scalars {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            numbers: $($number:ident),*;
            flags: $($flag:ident),*;
            $(exact: $($exact:ident),*;)?
            $(derived: $($derived:ident),*;)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug)]
        $vis struct $name<T> {
            $($number: T,)*
            $($flag: bool,)*
            $($($exact: f64,)*)?
            $($($derived: T,)*)?
        }

        impl $name<f64> {
            /// The scalars' names in the order of [`Self::new`].
            #[allow(unreachable_pub)]
            pub const SCALARS: &'static [&'static str] =
                &[$(stringify!($number),)* $(stringify!($flag),)* $($(stringify!($exact),)*)?];
        }

        impl<T: crate::dtype::Compute> $name<T> {
            /// The rule with these scalars, in the order of [`Self::SCALARS`]; those left out are 0.
            #[must_use]
            #[allow(unreachable_pub)]
            pub fn new(scalars: &[f64]) -> Self {
                let mut scalars = scalars.iter().copied();
                let mut next = || scalars.next().unwrap_or(0.0);
                Self {
                    $($number: T::from_f64(next()),)*
                    $($flag: next() != 0.0,)*
                    $($($exact: next(),)*)?
                    $($($derived: T::default(),)*)?
                }
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
    /// Are norms taken before the update?
    pub measures: bool,
    /// May the first two states be means over rows and columns instead?
    pub factored: bool,
    /// The write pass with this rule.
    pub(super) run: Run,
}

/// The write pass with some rule.
pub(super) type Run = fn(&pipeline::Pass<'_>, &mut Rows);

impl Entry {
    /// A rule that is no optimizer.
    pub(super) const fn internal(name: &'static str, scalars: &'static [&'static str], run: Run) -> Self {
        Self { name, state: &[], scalars, measures: false, factored: false, run }
    }
}

macro_rules! rules {
    ($($name:literal => $rule:ident, $state:literal;)*) => {
        /// The rules by name: a row here makes one exist.
        pub const RULES: &[Entry] = &[$(Entry {
            name: $name,
            state: &<$rule<f64> as Rule<f64, $state>>::STATE,
            scalars: $rule::SCALARS,
            measures: <$rule<f64> as Rule<f64, $state>>::MEASURES,
            factored: <$rule<f64> as Rule<f64, $state>>::FACTORED,
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
    "lamb" => Lamb, 2;
    "lars" => Lars, 1;
    "adafactor" => Adafactor, 3;
    "muon" => Muon, 2;
    "adan" => Adan, 4;
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
