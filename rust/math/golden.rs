//! Bits that the oracle wrote down (tests/golden/math.txt), and vector functions run over slices at every level.

use std::{collections::HashMap, fmt::Debug};

use fearless_simd::prelude::*;

use super::Math;
use crate::{dispatch, simd::Isa};

/// A vector function of two arguments.
pub(crate) trait Function<T: Math>: Copy {
    fn of<S: Simd, V: SimdFloat<S, Element = T>>(&self, x: V, dy: V) -> V;
}

/// `function` of all elements at the highest level, after the other levels gave the same bits.
pub(crate) fn on_all_levels<T: Math, F: Function<T>>(function: F, x: &[T], dy: &[T]) -> Vec<T> {
    let mut results = Isa::available().into_iter().map(|isa| {
        let mut out = vec![T::ZERO; x.len()];
        dispatch!(isa, simd => walk(simd, function, x, dy, &mut out));
        out
    });
    let first = results.next().unwrap();
    for other in results {
        assert_same_bits(&other, &first);
    }
    first
}

#[inline(always)]
fn walk<S: Simd, T: Math, F: Function<T>>(simd: S, function: F, x: &[T], dy: &[T], out: &mut [T]) {
    let n = <T::Native<S> as SimdBase<S>>::LEN;
    for at in (0..x.len()).step_by(n) {
        let (mut a, mut b) = (T::Native::<S>::splat(simd, T::ONE), T::Native::<S>::splat(simd, T::ONE));
        let end = x.len().min(at + n);
        a.as_mut_slice()[..end - at].copy_from_slice(&x[at..end]);
        b.as_mut_slice()[..end - at].copy_from_slice(&dy[at..end]);
        out[at..end].copy_from_slice(&function.of(a, b).as_slice()[..end - at]);
    }
}

/// Equal bits, NaN being equal to NaN.
pub(crate) fn assert_same_bits<T: Math>(got: &[T], want: &[T]) {
    assert_eq!(got.len(), want.len());
    for i in 0..got.len() {
        let (a, b) = (got[i].to_f64(), want[i].to_f64());
        assert!(a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan(), "element {i}: {a:e} instead of {b:e}");
    }
}

/// The file: a row is a type, a name, scalars with commas between them (or -), and bits in hexadecimal.
pub(crate) struct Golden(HashMap<(&'static str, &'static str), (&'static str, Vec<u64>)>);

impl Golden {
    pub(crate) fn read() -> Self {
        let mut rows = HashMap::new();
        for line in include_str!("../../tests/golden/math.txt").lines() {
            let mut words = line.split(' ');
            let mut next = || words.next().unwrap();
            let (key, scalars) = ((next(), next()), next());
            let bits = words.map(|word| u64::from_str_radix(word, 16).unwrap()).collect();
            assert!(rows.insert(key, (scalars, bits)).is_none());
        }
        Self(rows)
    }

    /// The names of the rows of float64.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().filter(|key| key.0 == "f64").map(|key| key.1)
    }

    pub(crate) fn scalars(&self, name: &'static str) -> Vec<f64> {
        let (scalars, _) = &self.0[&("f64", name)];
        scalars.split(',').filter(|word| *word != "-").map(|word| word.parse().unwrap()).collect()
    }

    fn f32s(&self, name: &'static str) -> Vec<f32> {
        self.0[&("f32", name)].1.iter().map(|bits| f32::from_bits(*bits as u32)).collect()
    }

    fn f64s(&self, name: &'static str) -> Vec<f64> {
        self.0[&("f64", name)].1.iter().map(|bits| f64::from_bits(*bits)).collect()
    }

    pub(crate) fn check_f32<F: Function<f32>>(&self, name: &'static str, function: F) {
        check(name, &on_all_levels(function, &self.f32s("x"), &self.f32s("dy")), &self.f32s(name));
    }

    pub(crate) fn check_f64<F: Function<f64>>(&self, name: &'static str, function: F) {
        check(name, &on_all_levels(function, &self.f64s("x"), &self.f64s("dy")), &self.f64s(name));
    }
}

fn check<T: Math + Debug>(name: &str, got: &[T], want: &[T]) {
    assert!(want.len() > 100, "{name}");
    println!("{name}"); // stands above the element that differs
    assert_same_bits(got, want);
}
