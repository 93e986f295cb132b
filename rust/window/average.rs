//! The mean of each window.

use fearless_simd::prelude::*;

use super::{Tap, Windows, passes, passes::Room};
use crate::{
    array::{Input, Output},
    dtype::{Compute, DType},
    simd::Isa,
};

/// Writes the mean of each window of `x`: the sum from +0.0 in the order of taps, over the number of all taps, padding counted,
/// or of those inside.
pub fn forward(isa: Isa, windows: Windows, counts_padding: bool, x: &Input, y: &mut Output) {
    match x.dtype().compute() {
        DType::F64 => forward_as::<f64>(isa, windows, counts_padding, x, y),
        _ => forward_as::<f32>(isa, windows, counts_padding, x, y),
    }
}

fn forward_as<T: Compute>(isa: Isa, windows: Windows, counts_padding: bool, x: &Input, y: &mut Output) {
    let work = Forward { pool: Pool::<T>::new(windows, counts_padding), x };
    passes::run::<T>(isa, windows.is_large(), [windows.planes(), windows.windows()], y, &work);
}

/// Writes to each element of `dx` the sum of dy over count of the windows that met it: from +0.0, in the order of taps.
pub fn backward(isa: Isa, windows: Windows, counts_padding: bool, dy: &Input, dx: &mut Output) {
    match dy.dtype().compute() {
        DType::F64 => backward_as::<f64>(isa, windows, counts_padding, dy, dx),
        _ => backward_as::<f32>(isa, windows, counts_padding, dy, dx),
    }
}

fn backward_as<T: Compute>(isa: Isa, windows: Windows, counts_padding: bool, dy: &Input, dx: &mut Output) {
    let work = Backward { pool: Pool::<T>::new(windows, counts_padding), dy };
    passes::run::<T>(isa, windows.is_large(), [windows.planes(), windows.plane()], dx, &work);
}

/// The taps, and by what each window divides.
struct Pool<T> {
    windows: Windows,
    taps: Vec<Tap>,
    counts: Vec<T>,
}

impl<T: Compute> Pool<T> {
    fn new(windows: Windows, counts_padding: bool) -> Self {
        let (taps, mut counts) = (windows.all_taps(), vec![0_usize; windows.windows()]);
        for tap in &taps {
            for row in tap.rows() {
                let [_, to] = tap.run(row);
                counts[to..to + tap.len()].iter_mut().for_each(|count| *count += 1);
            }
        }
        let number = |count: usize| if counts_padding { windows.taps() } else { count.max(1) };
        Self { windows, taps, counts: counts.into_iter().map(|count| T::from_f64(number(count) as f64)).collect() }
    }

    #[inline(always)]
    fn mean(&self, x: &[T], y: &mut [T]) {
        y.fill(T::default());
        for tap in &self.taps {
            tap.gather(
                x,
                y,
                #[inline(always)]
                |sum, value| *sum += value,
            );
        }
        for (y, count) in y.iter_mut().zip(&self.counts) {
            *y /= *count;
        }
    }

    #[inline(always)]
    fn spread(&self, dy: &[T], shares: &mut [T], dx: &mut [T]) {
        for i in 0..shares.len() {
            shares[i] = dy[i] / self.counts[i];
        }
        dx.fill(T::default());
        for tap in &self.taps {
            tap.scatter_add(shares, dx);
        }
    }
}

struct Forward<'a, T> {
    pool: Pool<T>,
    x: &'a Input,
}

impl<T: Compute> passes::Fill<T> for Forward<'_, T> {
    #[inline(always)]
    fn fill<S: Simd>(&self, simd: S, index: usize, plane: &mut [T], room: &mut Room<T>) {
        let len = self.pool.windows.plane();
        self.pool.mean(self.x.block(simd, index * len, len, &mut room.inputs[0]), plane);
    }
}

struct Backward<'a, T> {
    pool: Pool<T>,
    dy: &'a Input,
}

impl<T: Compute> passes::Fill<T> for Backward<'_, T> {
    #[inline(always)]
    fn fill<S: Simd>(&self, simd: S, index: usize, plane: &mut [T], room: &mut Room<T>) {
        let count = self.pool.windows.windows();
        let dy = self.dy.block(simd, index * count, count, &mut room.inputs[0]);
        room.values.resize(count, T::default());
        self.pool.spread(dy, &mut room.values, plane);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::Axis;

    /// Windows of two with padding over 1 2 4: 0 1 | 1 2 | 2 4 | 4 0.
    #[test]
    fn means_by_hand() {
        let flat = Axis { input: 1, kernel: 1, stride: 1, padding: 0, dilation: 1 };
        let axis = Axis { input: 3, kernel: 2, stride: 1, padding: 1, dilation: 1 };
        let windows = Windows { samples: 1, channels: 1, axes: [flat, axis] };
        for (counts_padding, first, last) in [(true, 0.5, 2.0), (false, 1.0, 4.0)] {
            let pool = Pool::<f64>::new(windows, counts_padding);
            let mut y = [f64::NAN; 4];
            pool.mean(&[1.0, 2.0, 4.0], &mut y);
            assert_eq!(y, [first, 1.5, 3.0, last]);
            let mut dx = [f64::NAN; 3];
            pool.spread(&[1.0, 2.0, 4.0, 8.0], &mut [0.0; 4], &mut dx);
            assert_eq!(dx, if counts_padding { [1.5, 3.0, 6.0] } else { [2.0, 3.0, 10.0] });
        }
    }
}
