//! Activations: functions of one element and their derivatives, and the list of them.
//!
//! Definitions and values at kinks are PyTorch's. Beyond that NaN travels backward too, and at ±Inf stands the limit.

mod apply;
pub(crate) mod bias;
mod kernel;
mod kinked;
mod smooth;

use std::marker::PhantomData;

pub use apply::{Inputs, Outputs};
use fearless_simd::prelude::*;

use crate::{
    dtype::DType,
    error::Error,
    math::{Math, at_least, at_most},
    simd::Isa,
};

/// Elements that go through one pass after another, at most: what stays in the first cache.
pub(crate) const BLOCK: usize = 2048;

/// Elements of a piece of work, at least.
const PIECE: usize = 16 * 1024;

/// Pieces of a large one.
const PIECES: usize = 64;

/// A function of one element: written once with plain operators, each operation rounded once, in the written order.
pub trait Activation<T: Math>: Copy + Send + Sync {
    /// The value at `x`.
    fn forward<S: Simd, V: SimdFloat<S, Element = T>>(&self, x: V) -> V;

    /// `dy` times the derivative at `x`.
    fn backward<S: Simd, V: SimdFloat<S, Element = T>>(&self, x: V, dy: V) -> V;
}

/// An activation of the list.
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// Names of its scalars, numbers that are computed in float64 and rounded once to the compute type.
    pub scalars: &'static [&'static str],
    run: fn(Isa, &[f64], Inputs<'_>, &mut Outputs<'_>) -> Result<(), Error>,
}

impl Entry {
    /// y of the inputs, or with `dy` the gradients.
    pub fn run(&self, isa: Isa, scalars: &[f64], inputs: Inputs<'_>, outputs: &mut Outputs<'_>) -> Result<(), Error> {
        (self.run)(isa, scalars, inputs, outputs)
    }
}

/// The activation of that name.
pub fn find(name: &str) -> Result<&'static Entry, Error> {
    let found = ACTIVATIONS.iter().find(|entry| entry.name == name);
    found.ok_or_else(|| Error::UnknownActivation(name.to_owned()))
}

macro_rules! activations {
    ($($(#[$meta:meta])* $name:literal => $activation:ident($($scalar:ident),*);)*) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Copy, Debug)]
            pub struct $activation<T> {
                $($scalar: T,)*
                compute: PhantomData<T>,
            }

            impl<T: Math> $activation<T> {
                /// The activation with these scalars.
                #[must_use]
                pub fn new([$($scalar),*]: [f64; <[&str]>::len(&[$(stringify!($scalar)),*])]) -> Self {
                    Self { $($scalar: T::from_f64($scalar),)* compute: PhantomData }
                }

                fn of(scalars: &[f64]) -> Result<Self, Error> {
                    let (want, got) = (<[&str]>::len(&[$(stringify!($scalar)),*]), scalars.len());
                    scalars.try_into().map(Self::new).map_err(|_| Error::Length { what: "scalars", want, got })
                }
            }
        )*

        /// The activations by name: a row here makes one exist.
        pub const ACTIVATIONS: &[Entry] = &[$(Entry {
            name: $name,
            scalars: &[$(stringify!($scalar)),*],
            run: |isa, scalars, inputs, outputs| {
                match inputs.x.dtype().compute() {
                    DType::F64 => apply::run(isa, &$activation::<f64>::of(scalars)?, inputs, outputs),
                    _ => apply::run(isa, &$activation::<f32>::of(scalars)?, inputs, outputs),
                }
                Ok(())
            },
        }),*];

        /// Calls `$visit!(name, type, scalars)` for each row.
        #[cfg(test)]
        macro_rules! for_each_activation {
            ($visit:ident) => { $($visit!($name, $activation);)* };
        }
    };
}

activations! {
    /// x·Φ(x) with the normal distribution Φ(x) = (1 + erf(x / √2)) / 2.
    "gelu" => Gelu();
    /// x·(1 + tanh(u)) / 2 with u = √(2/π)·(x + 0.044715·x³), that is x·σ(2u).
    "gelu_tanh" => GeluTanh();
    /// x·σ(x) with the logistic function σ.
    "silu" => Silu();
    /// σ(x) = 1 / (1 + e^-x).
    "sigmoid" => Sigmoid();
    /// tanh(x).
    "tanh" => Tanh();
    /// log(1 + e^(βx)) / β, x itself where βx is above the threshold.
    "softplus" => Softplus(beta, inv_beta, threshold);
    /// x between the limits.
    "hardtanh" => HardTanh(min_val, max_val);
    /// x / (1 + |x|).
    "softsign" => SoftSign();
    /// x above 0, else 0.
    "relu" => Relu();
    /// x above 0, else x times the slope.
    "leaky_relu" => LeakyRelu(negative_slope);
    /// x above 0, else α·(e^x - 1).
    "elu" => Elu(alpha);
}

/// `x` between ± `far`; NaN stays.
#[inline(always)]
fn within<S: Simd, V: SimdFloat<S, Element = T>, T: Math>(x: V, far: T) -> V {
    at_most(at_least(x, -far), far)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::golden::{Function, Golden, assert_same_bits, on_all_levels};

    /// An activation forward.
    #[derive(Clone, Copy)]
    struct Forward<A>(A);
    /// An activation backward.
    #[derive(Clone, Copy)]
    struct Backward<A>(A);

    impl<T: Math, A: Activation<T>> Function<T> for Forward<A> {
        #[inline(always)]
        fn of<S: Simd, V: SimdFloat<S, Element = T>>(&self, x: V, _dy: V) -> V {
            self.0.forward(x)
        }
    }

    impl<T: Math, A: Activation<T>> Function<T> for Backward<A> {
        #[inline(always)]
        fn of<S: Simd, V: SimdFloat<S, Element = T>>(&self, x: V, dy: V) -> V {
            self.0.backward(x, dy)
        }
    }

    fn forward<A: Activation<f64>>(activation: A, x: &[f64]) -> Vec<f64> {
        on_all_levels(Forward(activation), x, x)
    }

    /// The derivative.
    fn slope<A: Activation<f64>>(activation: A, x: &[f64]) -> Vec<f64> {
        on_all_levels(Backward(activation), x, &vec![1.0; x.len()])
    }

    #[test]
    fn every_activation_has_the_bits_of_the_oracle_at_every_level() {
        let golden = Golden::read();
        macro_rules! check {
            ($name:literal, $activation:ident) => {{
                let scalars = golden.scalars($name);
                let single = $activation::<f32>::new(scalars.as_slice().try_into().unwrap());
                let double = $activation::<f64>::new(scalars.as_slice().try_into().unwrap());
                let backward = concat!($name, "_backward");
                golden.check_f32($name, Forward(single));
                golden.check_f32(backward, Backward(single));
                golden.check_f64($name, Forward(double));
                golden.check_f64(backward, Backward(double));
            }};
        }
        for_each_activation!(check);
        assert_eq!(golden.names().filter(|name| name.ends_with("_backward")).count(), ACTIVATIONS.len());
    }

    #[test]
    fn kinks_belong_where_pytorch_puts_them() {
        let x = [-2.0, -1.0, -0.0, 0.0, 0.5, 1.0, 2.0];
        assert_same_bits(&forward(Relu::new([]), &x), &[0.0, 0.0, 0.0, 0.0, 0.5, 1.0, 2.0]);
        assert_same_bits(&slope(Relu::new([]), &x), &[0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
        assert_same_bits(&forward(LeakyRelu::new([0.25]), &x), &[-0.5, -0.25, -0.0, 0.0, 0.5, 1.0, 2.0]);
        assert_same_bits(&slope(LeakyRelu::new([0.25]), &x), &[0.25, 0.25, 0.25, 0.25, 1.0, 1.0, 1.0]);
        assert_same_bits(&forward(HardTanh::new([-1.0, 1.0]), &x), &[-1.0, -1.0, -0.0, 0.0, 0.5, 1.0, 1.0]);
        assert_same_bits(&slope(HardTanh::new([-1.0, 1.0]), &x), &[0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0]);
        assert_same_bits(&slope(Elu::new([2.0]), &x)[2..], &[2.0, 2.0, 1.0, 1.0, 1.0]);
        assert_same_bits(&forward(SoftSign::new([]), &[-1.0, 0.0, 3.0]), &[-0.5, 0.0, 0.75]);
        assert_same_bits(&slope(SoftSign::new([]), &[-1.0, 0.0, 3.0]), &[0.25, 1.0, 0.0625]);
    }

    /// σ(0) = 1/2, its slope 1/4; Φ(0) = 1/2; softplus above the threshold is the identity.
    #[test]
    fn values_by_hand() {
        let x = [-0.0, 0.0];
        assert_same_bits(&forward(Sigmoid::new([]), &x), &[0.5, 0.5]);
        assert_same_bits(&slope(Sigmoid::new([]), &x), &[0.25, 0.25]);
        assert_same_bits(&slope(Tanh::new([]), &x), &[1.0, 1.0]);
        for slopes in [slope(Gelu::new([]), &x), slope(GeluTanh::new([]), &x), slope(Silu::new([]), &x)] {
            assert_same_bits(&slopes, &[0.5, 0.5]);
        }
        let softplus = Softplus::new([2.0, 0.5, 20.0]);
        assert_same_bits(&forward(softplus, &[0.0, 10.5]), &[std::f64::consts::LN_2 / 2.0, 10.5]);
        assert_same_bits(&slope(softplus, &[0.0, 10.5]), &[0.5, 1.0]);
    }

    #[test]
    fn nan_travels_and_infinity_gives_the_limit() {
        let golden = Golden::read();
        let x = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300];
        macro_rules! check {
            ($name:literal, $activation:ident) => {{
                let activation = $activation::new(golden.scalars($name).as_slice().try_into().unwrap());
                for y in [forward(activation, &x), slope(activation, &x)] {
                    assert!(y[0].is_nan() && y[1..].iter().all(|y| !y.is_nan()), "{} {y:?}", $name);
                    assert!(y[1] == y[3] || y[1].is_infinite() && y[3] == 1e300, "{} {y:?}", $name);
                }
            }};
        }
        for_each_activation!(check);
    }
}
