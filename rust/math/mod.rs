//! exp, expm1, log, log1p, tanh, erf and sigmoid as vector functions of plain operations.
//!
//! Each says the same lines as its namesake in tests/reference_math.py: an argument is reduced exactly, a polynomial does
//! the rest, selects stand for branches. Zeros keep their sign, NaN travels, results below the least normal number are as exact
//! as any. Largest errors in units of the last place, of every float32 and of some millions of float64:
//!
//! | | exp | expm1 | log | log1p | tanh | erf | sigmoid |
//! |---|---|---|---|---|---|---|---|
//! | float32 | 0.91 | 1.73 | 0.84 | 1.40 | 1.50 | 1.74 | 1.97 |
//! | float64 | 0.86 | 1.48 | 0.83 | 1.38 | 1.41 | 1.46 | 1.87 |

mod constants;
#[cfg(test)]
pub(crate) mod golden;

pub use constants::Math;
use fearless_simd::prelude::*;

/// `x`, but no less than `least`; NaN stays.
#[inline(always)]
pub fn at_least<S: Simd, V: SimdFloat<S, Element = T>, T: Math>(x: V, least: T) -> V {
    // Of a NaN and a number x86 takes the second one, others the NaN: both are x.
    V::splat(x.token(), least).max(x)
}

/// `x`, but no more than `most`; NaN stays.
#[inline(always)]
pub fn at_most<S: Simd, V: SimdFloat<S, Element = T>, T: Math>(x: V, most: T) -> V {
    V::splat(x.token(), most).min(x)
}

/// Horner's rule, the coefficient of the highest power first.
#[inline(always)]
fn in_a_row<S: Simd, V: SimdFloat<S, Element = T>, T: Math>(x: V, coefficients: &[T]) -> V {
    let mut sum = V::splat(x.token(), coefficients[0]);
    for k in 1..coefficients.len() {
        sum = sum * x + coefficients[k];
    }
    sum
}

/// Horner's rule in x² for the even and for the odd powers, side by side; the coefficient of the highest power first.
#[inline(always)]
pub(crate) fn polynomial<S: Simd, V: SimdFloat<S, Element = T>, T: Math>(x: V, coefficients: &[T]) -> V {
    let (square, last) = (x * x, coefficients.len() - 1);
    let mut sums = [V::splat(x.token(), coefficients[0]), V::splat(x.token(), coefficients[1])];
    for k in 2..=last {
        sums[k % 2] = sums[k % 2] * square + coefficients[k];
    }
    sums[1 - last % 2] * x + sums[last % 2]
}

/// x = n·ln 2 + high - low with |high - low| ≤ ln 2 / 2, as (shifted, high, low): `high` is exact, and n, next to
/// x·log2(e), stands in the low bits of `shifted`.
#[inline(always)]
fn reduce<S: Simd, V: SimdFloat<S, Element = T>, T: Math>(x: V) -> (V, V, V) {
    let shifted = x * T::LOG2_E + T::SHIFTER;
    let n = shifted - T::SHIFTER;
    (shifted, x - n * T::LN2_HIGH, n * T::LN2_LOW)
}

/// e^r - 1 = r + r²·P(r) for r = high - low; `low` is added where its digits still count.
#[inline(always)]
fn expm1_reduced<S: Simd, V: SimdFloat<S, Element = T>, T: Math>(high: V, low: V) -> V {
    let r = high - low;
    (r * r * polynomial(r, T::EXPM1) - low) + high
}

/// Two powers of two whose product is 2^n: each is a normal number where 2^n no longer is.
#[inline(always)]
fn powers<S: Simd, V: SimdFloat<S, Element = T>, T: Math>(shifted: V) -> (V, V) {
    let sum = shifted.to_bits() - T::SHIFTER_LESS_BIASES;
    let half = sum >> 1;
    (V::from_bits(half << T::FRACTION_BITS), V::from_bits((sum - half) << T::FRACTION_BITS))
}

/// e^x = 2^n·e^r.
#[inline(always)]
pub fn exp<S: Simd, V: SimdFloat<S, Element = T>, T: Math>(x: V) -> V {
    let x = at_most(at_least(x, T::EXP_LEAST), T::EXP_MOST);
    let (shifted, high, low) = reduce(x);
    let (a, b) = powers(shifted);
    (expm1_reduced(high, low) + T::ONE) * a * b
}

/// e^x of x ≤ 0, the same bits with less work; of other x nothing is promised but that NaN travels. 2^(n + lift) is a normal
/// number for all of them, so the last product alone is rounded below the least one.
#[inline(always)]
pub fn exp_of_negative<S: Simd, V: SimdFloat<S, Element = T>, T: Math>(x: V) -> V {
    let x = at_least(x, T::EXP_LEAST);
    let lifted = x * T::LOG2_E + T::LIFTED_SHIFTER;
    let n = lifted - T::LIFTED_SHIFTER;
    let power = V::from_bits(lifted.to_bits() << T::FRACTION_BITS);
    (expm1_reduced(x - n * T::LN2_HIGH, n * T::LN2_LOW) + T::ONE) * power * T::LOWERED
}

/// e^x - 1 = 2^n·(e^r - 1) + (2^n - 1), exact about 0. With 2^n = a·b: (a·(e^r - 1) + (a - 1/b))·b.
#[inline(always)]
pub fn expm1<S: Simd, V: SimdFloat<S, Element = T>, T: Math>(x: V) -> V {
    let (shifted, high, low) = reduce(at_most(at_least(x, T::EXPM1_LEAST), T::EXP_MOST));
    let (a, b) = powers(shifted);
    let inverse = V::from_bits(V::Bits::splat(x.token(), T::ONE_TWICE) - b.to_bits());
    ((expm1_reduced(high, low) * a + (a - inverse)) * b).copysign(x)
}

/// tanh(x) = x + x·z·P(z), z = x², below 9/16, from there 1 - 2e / (1 + e) with e = e^(-2x), odd.
#[inline(always)]
pub fn tanh<S: Simd, V: SimdFloat<S, Element = T>, T: Math>(x: V) -> V {
    let (a, one) = (x.abs(), V::splat(x.token(), T::ONE));
    let z = a * a;
    let near = a + a * (z * polynomial(z, T::TANH));
    let e = exp_of_negative(a * -T::TWO);
    let far = one - (e + e) / (e + T::ONE);
    a.simd_lt(V::splat(x.token(), T::from_f64(0.5625))).select(near, far).copysign(x)
}

/// 1 / (1 + e^-x), with z = e^-|x| alone: nothing overflows, and small results keep their digits. What the sum 1 + z lost
/// is taken off the quotient.
#[inline(always)]
pub fn sigmoid<S: Simd, V: SimdFloat<S, Element = T>, T: Math>(x: V) -> V {
    let (zero, one) = (V::splat(x.token(), T::ZERO), V::splat(x.token(), T::ONE));
    let z = exp_of_negative(-x.abs());
    let sum = z + T::ONE;
    let lost = z - (sum - T::ONE);
    let y = x.simd_lt(zero).select(z, one) / sum;
    y - y * lost
}

/// x = 2^n·m with m between √½ and √2, as (n + bias + 2^fraction bits, m); x positive and normal.
#[inline(always)]
fn split<S: Simd, V: SimdFloat<S, Element = T>, T: Math>(x: V) -> (V, V) {
    let lifted = x.to_bits() + T::ONE_LESS_SQRT_HALF;
    let exponent = V::from_bits((lifted >> T::FRACTION_BITS) | T::WHOLE);
    (exponent, V::from_bits((lifted & T::FRACTION) + T::SQRT_HALF_BITS))
}

/// n·ln 2 + log(1 + f) with s = f / (2 + f): log(1 + f) = f - f²/2 + s·(f²/2 + R), R = s²·P(s²) from the series of atanh.
#[inline(always)]
fn log_reduced<S: Simd, V: SimdFloat<S, Element = T>, T: Math>(n: V, f: V) -> V {
    let half = f * f * T::HALF;
    let s = f / (f + T::TWO);
    let z = s * s;
    let rest = s * (half + z * polynomial(z, T::LOG)) + n * T::LN2_LOW;
    n * T::LN2_HIGH - ((half - rest) - f)
}

/// The logarithm `y` of `x`, but -Inf of 0, NaN below, and Inf of Inf.
#[inline(always)]
fn log_or_limit<S: Simd, V: SimdFloat<S, Element = T>, T: Math>(x: V, y: V) -> V {
    let (zero, infinity) = (V::splat(x.token(), T::ZERO), V::splat(x.token(), T::INFINITY));
    let limit = x.simd_eq(zero).select(-infinity, V::splat(x.token(), T::NAN));
    let y = x.simd_gt(zero).select(y, limit);
    x.simd_eq(infinity).select(x, y)
}

/// log(x) = n·ln 2 + log(m); numbers below the least normal one are scaled up first.
#[inline(always)]
pub fn log<S: Simd, V: SimdFloat<S, Element = T>, T: Math>(x: V) -> V {
    let tiny = x.simd_lt(V::splat(x.token(), T::LEAST));
    let (exponent, m) = split(tiny.select(x * T::TINY_SCALE, x));
    let bias = tiny.select(V::splat(x.token(), T::TINY_BIAS), V::splat(x.token(), T::BIAS));
    log_or_limit(x, log_reduced(exponent - bias, m - T::ONE))
}

/// log(1 + x), exact about 0.
#[inline(always)]
pub fn log1p<S: Simd, V: SimdFloat<S, Element = T>, T: Math>(x: V) -> V {
    log_or_limit(x + T::ONE, log1p_inside(x)).copysign(x)
}

/// log(1 + x) of finite x > -1, 0 without its sign: what the sum u = 1 + x lost, `lost`·2^-n, is added to m - 1.
#[inline(always)]
pub(crate) fn log1p_inside<S: Simd, V: SimdFloat<S, Element = T>, T: Math>(x: V) -> V {
    let u = x + T::ONE;
    let back = u - T::ONE;
    let lost = (V::splat(x.token(), T::ONE) - (u - back)) + (x - back);
    let (exponent, m) = split(u);
    // 2^(1 - n): 2^-n of the largest u is no number of its own.
    let scale = V::from_bits((m.to_bits() - u.to_bits()) + T::TWO_BITS);
    let f = (m - T::ONE) + lost * scale * T::HALF;
    log_reduced(exponent - T::BIAS, f)
}

/// erf(x) = x + x·P(x²) below 9/8, from there 1 - Q(x - center)⁴, odd: the fourth root of 1 - erf is a far shorter polynomial.
#[inline(always)]
pub fn erf<S: Simd, V: SimdFloat<S, Element = T>, T: Math>(x: V) -> V {
    let (a, one) = (x.abs(), V::splat(x.token(), T::ONE));
    // The sum of even and odd powers of numbers about 1 would cost a third of a unit.
    let near = a + a * in_a_row(a * a, T::ERF_NEAR);
    let root = polynomial(at_most(a, T::ERF_MOST) - T::ERF_CENTER, T::ERF_FAR);
    let square = root * root;
    let far = one - square * square;
    a.simd_lt(V::splat(x.token(), T::from_f64(1.125))).select(near, far).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::{
        golden::{Function, Golden, assert_same_bits, on_all_levels},
        *,
    };

    /// The functions under their names as types.
    macro_rules! functions {
        ($($name:ident),*) => {
            mod of {
                $(#[allow(non_camel_case_types)]
                #[derive(Clone, Copy)]
                pub(super) struct $name;)*
            }

            $(impl<T: Math> Function<T> for of::$name {
                #[inline(always)]
                fn of<S: Simd, V: SimdFloat<S, Element = T>>(&self, x: V, _: V) -> V {
                    $name(x)
                }
            })*

            #[test]
            fn every_function_has_the_bits_of_the_oracle_at_every_level() {
                let golden = Golden::read();
                $(
                    golden.check_f32(stringify!($name), of::$name);
                    golden.check_f64(stringify!($name), of::$name);
                )*
            }
        };
    }
    functions!(exp, expm1, log, log1p, tanh, erf, sigmoid);

    #[track_caller]
    fn assert_values<F: Function<f32> + Function<f64>>(function: F, pairs: &[(f64, f64)]) {
        let (x, want): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
        assert_same_bits(&on_all_levels::<f64, _>(function, &x, &x), &want);
        let (x, want): (Vec<f32>, Vec<f32>) = pairs.iter().map(|&(x, y)| (x as f32, y as f32)).unzip();
        assert_same_bits(&on_all_levels::<f32, _>(function, &x, &x), &want);
    }

    const INF: f64 = f64::INFINITY;
    const NAN: f64 = f64::NAN;

    #[test]
    fn values_by_hand_are_exact() {
        assert_values(of::exp, &[(0.0, 1.0), (-0.0, 1.0), (std::f64::consts::LN_2, 2.0)]);
        assert_values(of::log, &[(1.0, 0.0), (2.0, std::f64::consts::LN_2), (0.5, -std::f64::consts::LN_2)]);
        assert_values(of::log1p, &[(1.0, std::f64::consts::LN_2), (-0.5, -std::f64::consts::LN_2)]);
        assert_values(of::sigmoid, &[(0.0, 0.5), (-0.0, 0.5), (40.0, 1.0)]);
        assert_values(of::tanh, &[(20.0, 1.0), (-20.0, -1.0)]);
        assert_values(of::erf, &[(6.0, 1.0), (-6.0, -1.0)]);
    }

    #[test]
    fn limits_are_reached_and_nan_travels() {
        assert_values(of::exp, &[(INF, INF), (-INF, 0.0), (NAN, NAN), (1e38, INF), (-1e38, 0.0)]);
        assert_values(of::expm1, &[(INF, INF), (-INF, -1.0), (NAN, NAN), (1e38, INF), (-1e38, -1.0)]);
        assert_values(of::log, &[(INF, INF), (-INF, NAN), (NAN, NAN), (0.0, -INF), (-0.0, -INF), (-1.0, NAN)]);
        assert_values(of::log1p, &[(INF, INF), (-INF, NAN), (NAN, NAN), (-1.0, -INF), (-2.0, NAN)]);
        assert_values(of::tanh, &[(INF, 1.0), (-INF, -1.0), (NAN, NAN), (1e38, 1.0)]);
        assert_values(of::erf, &[(INF, 1.0), (-INF, -1.0), (NAN, NAN), (1e38, 1.0)]);
        assert_values(of::sigmoid, &[(INF, 1.0), (-INF, 0.0), (NAN, NAN), (-1e38, 0.0)]);
    }

    /// Where a function is x to the last place, it is x: zeros with their sign, and numbers below the least normal one.
    #[test]
    fn odd_functions_keep_zeros_and_tiny_numbers() {
        let tiny = f64::from(f32::from_bits(3));
        let same = [(0.0, 0.0), (-0.0, -0.0), (tiny, tiny), (-tiny, -tiny)];
        assert_values(of::expm1, &same);
        assert_values(of::log1p, &same);
        assert_values(of::tanh, &same);
        let least = f64::from_bits(1);
        for x in [least, -least] {
            assert_same_bits(&on_all_levels(of::tanh, &[x], &[x]), &[x]);
            assert_same_bits(&on_all_levels(of::erf, &[x, 0.0 * x], &[x, x]), &[x, 0.0 * x]);
        }
    }

    /// e^-745 lies between the two smallest numbers above 0, e^-103 likewise in float32.
    #[test]
    fn results_below_the_least_normal_number_are_rounded_once() {
        assert_same_bits(&on_all_levels::<f64, _>(of::exp, &[-745.0, -746.0], &[0.0; 2]), &[f64::from_bits(1), 0.0]);
        assert_same_bits(&on_all_levels::<f32, _>(of::exp, &[-103.0, -104.0], &[0.0; 2]), &[f32::from_bits(1), 0.0]);
        let log_least = (-1074.0 * std::f64::consts::LN_2, -149.0 * std::f64::consts::LN_2);
        assert_same_bits(&on_all_levels::<f64, _>(of::log, &[f64::from_bits(1)], &[0.0]), &[log_least.0]);
        assert_same_bits(&on_all_levels::<f32, _>(of::log, &[f32::from_bits(1)], &[0.0]), &[log_least.1 as f32]);
    }
}
