//! One output element of the elements at its place in some inputs.

use fearless_simd::prelude::*;

use crate::{
    dtype::Compute,
    prefetch::{prefetch, prefetch_these},
};

/// Elements of the widest vector.
pub(crate) const WIDEST: usize = 16;

/// A function of the elements of `K` inputs.
pub(crate) trait Map<T: Compute, const K: usize>: Copy {
    fn of<S: Simd, V: SimdFloat<S, Element = T>>(self, inputs: [V; K]) -> V;
}

/// Fills `out`; the inputs have as many elements. The last vector overlaps the one before it, where there is one.
#[inline(always)]
pub(crate) fn map<S: Simd, T: Compute, F: Map<T, K>, const K: usize>(simd: S, inputs: [&[T]; K], out: &mut [T], f: F) {
    map_before(simd, inputs, out, f, Next { inputs: 0, after: 0 });
}

/// What is read after a map: the same of the first inputs, but so many elements further on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Next {
    pub(crate) inputs: usize,
    pub(crate) after: usize,
}

/// [`map`], asking for what is read next: a cache fills while arithmetic goes on.
#[inline(always)]
pub(crate) fn map_before<S: Simd, T: Compute, F: Map<T, K>, const K: usize>(
    simd: S,
    inputs: [&[T]; K],
    out: &mut [T],
    f: F,
    next: Next,
) {
    let (len, wide) = (out.len(), <T::Native<S> as SimdBase<S>>::LEN);
    if len < wide {
        return map_few(simd, inputs, out, f);
    }
    let mut at = 0;
    while at + wide <= len {
        prefetch(out, at, wide);
        for k in 0..K.min(next.inputs) {
            prefetch_these(inputs[k], at + next.after, wide);
        }
        map_vector(simd, inputs, out, at, f);
        at += wide;
    }
    if at < len {
        map_vector(simd, inputs, out, len - wide, f);
    }
}

/// Fills a row of `len` elements. The slices begin with it and may go on: what stands behind a short row in `out` is lost, so
/// that rows are filled in their order.
#[inline(always)]
pub(crate) fn map_row<S: Simd, T: Compute, F: Map<T, K>, const K: usize>(
    simd: S,
    mut inputs: [&[T]; K],
    out: &mut [T],
    len: usize,
    f: F,
) {
    let wide = <T::Native<S> as SimdBase<S>>::LEN;
    let mut has_room = len < wide && out.len() >= wide;
    for k in 0..K {
        has_room &= inputs[k].len() >= wide;
    }
    if has_room {
        return map_vector(simd, inputs, out, 0, f);
    }
    for k in 0..K {
        inputs[k] = &inputs[k][..len];
    }
    map(simd, inputs, &mut out[..len], f);
}

#[inline(always)]
fn map_vector<S: Simd, T: Compute, F: Map<T, K>, const K: usize>(
    simd: S,
    inputs: [&[T]; K],
    out: &mut [T],
    at: usize,
    f: F,
) {
    let wide = <T::Native<S> as SimdBase<S>>::LEN;
    let mut values = [T::Native::<S>::splat(simd, T::default()); K];
    for k in 0..K {
        values[k] = T::Native::<S>::from_slice(simd, &inputs[k][at..at + wide]);
    }
    f.of::<S, T::Native<S>>(values).store_slice(&mut out[at..at + wide]);
}

/// Fewer elements than a vector has.
#[inline(always)]
fn map_few<S: Simd, T: Compute, F: Map<T, K>, const K: usize>(simd: S, inputs: [&[T]; K], out: &mut [T], f: F) {
    let len = out.len();
    let (mut padded, mut result) = ([[T::default(); WIDEST]; K], [T::default(); WIDEST]);
    let mut slices = [&[][..]; K];
    for (k, padded) in padded.iter_mut().enumerate() {
        padded[..len].copy_from_slice(&inputs[k][..len]);
        slices[k] = padded;
    }
    map_vector(simd, slices, &mut result, 0, f);
    out.copy_from_slice(&result[..len]);
}

/// x + y
#[derive(Clone, Copy, Debug)]
pub(crate) struct Add;

impl<T: Compute> Map<T, 2> for Add {
    #[inline(always)]
    fn of<S: Simd, V: SimdFloat<S, Element = T>>(self, [x, y]: [V; 2]) -> V {
        x + y
    }
}
