//! The largest element of each window; NaN is larger than all else, and of equal elements the first counts.

use fearless_simd::prelude::*;

use super::{Tap, Windows, passes, passes::Room};
use crate::{
    array::{Input, Output},
    dtype::{Compute, DType},
    map::WIDEST,
    simd::Isa,
};

/// Writes the largest element of each window of `x`.
pub fn forward(isa: Isa, windows: Windows, x: &Input, y: &mut Output) {
    match x.dtype().compute() {
        DType::F64 => forward_as::<f64>(isa, windows, x, y),
        _ => forward_as::<f32>(isa, windows, x, y),
    }
}

fn forward_as<T: Compute>(isa: Isa, windows: Windows, x: &Input, y: &mut Output) {
    let work = Forward { windows, taps: windows.all_taps(), x };
    passes::run::<T>(isa, windows.is_large(), [windows.planes(), windows.windows()], y, &work);
}

struct Forward<'a> {
    windows: Windows,
    taps: Vec<Tap>,
    x: &'a Input,
}

impl<T: Compute> passes::Fill<T> for Forward<'_> {
    #[inline(always)]
    fn fill<S: Simd>(&self, simd: S, index: usize, plane: &mut [T], room: &mut Room<T>) {
        let Room { inputs: [room_x, _], values: best, columns: met, .. } = room;
        let len = self.windows.plane();
        let x = self.x.block(simd, index * len, len, room_x);
        start(best, plane.len());
        for tap in &self.taps {
            meet(tap, x, met, best.len());
            keep_larger(simd, met, best);
        }
        plane.copy_from_slice(&best[..plane.len()]);
    }
}

/// Room for a number of each window, in whole vectors of any level; nothing is larger than the numbers.
#[inline(always)]
fn start<T: Compute>(room: &mut Vec<T>, windows: usize) {
    room.clear();
    room.resize(windows.next_multiple_of(WIDEST), T::from_f64(f64::NEG_INFINITY));
}

/// What the tap meets in each window, in the padding what is never larger.
#[inline(always)]
fn meet<T: Compute>(tap: &Tap, x: &[T], met: &mut Vec<T>, windows: usize) {
    start(met, windows);
    tap.gather(
        x,
        met,
        #[inline(always)]
        |to, value| *to = value,
    );
}

/// Does the value take the place of the best one so far?
#[inline(always)]
fn is_larger<S: Simd, V: SimdFloat<S>>(value: V, best: V) -> V::Mask {
    value.simd_gt(best) | value.is_nan()
}

#[inline(always)]
fn keep_larger<S: Simd, T: Compute>(simd: S, met: &[T], best: &mut [T]) {
    let wide = <T::Native<S> as SimdBase<S>>::LEN;
    for at in (0..best.len()).step_by(wide) {
        let value = T::Native::<S>::from_slice(simd, &met[at..at + wide]);
        let kept = T::Native::<S>::from_slice(simd, &best[at..at + wide]);
        is_larger(value, kept).select(value, kept).store_slice(&mut best[at..at + wide]);
    }
}

/// Adds each window's `dy` to the element of `dx` that was its largest, in the order of windows.
pub fn backward(isa: Isa, windows: Windows, [x, dy]: [&Input; 2], dx: &mut Output) {
    match x.dtype().compute() {
        DType::F64 => backward_as::<f64>(isa, windows, [x, dy], dx),
        _ => backward_as::<f32>(isa, windows, [x, dy], dx),
    }
}

fn backward_as<T: Compute>(isa: Isa, windows: Windows, inputs: [&Input; 2], dx: &mut Output) {
    let taps = windows.all_taps();
    let work = Backward { windows, first: first_inside(&windows, &taps), taps, inputs };
    passes::run::<T>(isa, windows.is_large(), [windows.planes(), windows.plane()], dx, &work);
}

struct Backward<'a, T> {
    windows: Windows,
    taps: Vec<Tap>,
    /// For each window the number of the first tap inside the plane.
    first: Vec<T>,
    inputs: [&'a Input; 2],
}

/// For each window the number of the first tap inside the plane, -1 where all are in the padding. Numbers of taps are exact in the
/// compute type.
fn first_inside<T: Compute>(windows: &Windows, taps: &[Tap]) -> Vec<T> {
    let mut first = vec![T::from_f64(-1.0); windows.windows().next_multiple_of(WIDEST)];
    for (k, tap) in taps.iter().enumerate().rev() {
        for row in tap.rows() {
            let [_, to] = tap.run(row);
            first[to..to + tap.len()].fill(T::from_f64(k as f64));
        }
    }
    first
}

impl<T: Compute> passes::Fill<T> for Backward<'_, T> {
    #[inline(always)]
    fn fill<S: Simd>(&self, simd: S, index: usize, plane: &mut [T], room: &mut Room<T>) {
        let (len, count) = (self.windows.plane(), self.windows.windows());
        let Room { inputs: [room_x, room_dy], values: best, columns: met, taps: which } = room;
        let x = self.inputs[0].block(simd, index * len, len, room_x);
        let dy = self.inputs[1].block(simd, index * count, count, room_dy);
        start(best, count);
        which.clear();
        which.extend_from_slice(&self.first);
        for (k, tap) in self.taps.iter().enumerate() {
            meet(tap, x, met, count);
            note_larger(simd, T::from_f64(k as f64), met, best, which);
        }
        plane.fill(T::default());
        give(self.windows.axes[1].output(), &self.taps, which, dy, plane);
    }
}

/// Where tap `k` met a larger element than those before it, that and the tap's number are noted.
#[inline(always)]
fn note_larger<S: Simd, T: Compute>(simd: S, k: T, met: &[T], best: &mut [T], which: &mut [T]) {
    let (wide, number) = (<T::Native<S> as SimdBase<S>>::LEN, T::Native::<S>::splat(simd, k));
    for at in (0..best.len()).step_by(wide) {
        let value = T::Native::<S>::from_slice(simd, &met[at..at + wide]);
        let kept = T::Native::<S>::from_slice(simd, &best[at..at + wide]);
        let noted = T::Native::<S>::from_slice(simd, &which[at..at + wide]);
        let is_larger = is_larger(value, kept);
        is_larger.select(value, kept).store_slice(&mut best[at..at + wide]);
        is_larger.select(number, noted).store_slice(&mut which[at..at + wide]);
    }
}

/// Adds each window's `dy` to the element that its tap met.
#[inline(always)]
fn give<T: Compute>(width: usize, taps: &[Tap], which: &[T], dy: &[T], dx: &mut [T]) {
    for (row, dy) in dy.chunks_exact(width.max(1)).enumerate() {
        let which = &which[row * width..(row + 1) * width];
        for column in 0..width {
            let k = which[column].to_f64();
            if k >= 0.0 {
                dx[taps[k as usize].place(row, column)] += dy[column];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{dispatch, window::Axis};

    const INF: f64 = f64::INFINITY;
    const FLAT: Axis = Axis { input: 1, kernel: 1, stride: 1, padding: 0, dilation: 1 };

    /// The gradient of a row of elements, each window giving 1, 10, 100, and so on.
    fn given(axis: Axis, x: &[f64]) -> Vec<f64> {
        let windows = Windows { samples: 1, channels: 1, axes: [FLAT, axis] };
        let (taps, count) = (windows.all_taps(), windows.windows());
        let (mut best, mut met, mut which) = (vec![], vec![], first_inside(&windows, &taps));
        start(&mut best, count);
        for (k, tap) in taps.iter().enumerate() {
            meet(tap, x, &mut met, count);
            dispatch!(Isa::choose(None).unwrap(), simd => note_larger(simd, k as f64, &met, &mut best, &mut which));
        }
        let (dy, mut dx) = ((0..count as i32).map(|i| 10_f64.powi(i)).collect::<Vec<_>>(), vec![0.0; x.len()]);
        give(count, &taps, &which, &dy, &mut dx);
        dx
    }

    #[test]
    fn the_first_of_the_largest_gets_the_gradient() {
        let axis = Axis { input: 5, kernel: 3, stride: 1, padding: 0, dilation: 1 };
        assert_eq!(given(axis, &[1.0, 3.0, 3.0, 2.0, 0.0]), [0.0, 11.0, 100.0, 0.0, 0.0]);
        assert_eq!(given(axis, &[-INF; 5]), [1.0, 10.0, 100.0, 0.0, 0.0]);
        assert_eq!(given(axis, &[INF, 1.0, f64::NAN, 1.0, INF]), [0.0, 0.0, 111.0, 0.0, 0.0]);
    }

    #[test]
    fn padding_gets_nothing() {
        let axis = Axis { input: 2, kernel: 2, stride: 1, padding: 1, dilation: 1 };
        assert_eq!(given(axis, &[-INF, -INF]), [11.0, 100.0]);
        let outside = Axis { input: 1, kernel: 2, stride: 1, padding: 1, dilation: 2 };
        assert_eq!(given(outside, &[1.0]), [0.0]);
    }
}
