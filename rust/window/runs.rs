//! Runs: elements with even steps between them on the side of the plane, one after another on the side of the windows.
//!
//! Plain loops over slices of known lengths, inlined where the CPU level is known, of which the compiler makes vectors: at step 2
//! too, that of most pools.

use super::Tap;
use crate::dtype::Compute;

impl Tap {
    /// Calls `work` with each window and the element of the plane that the tap meets in it.
    #[inline(always)]
    pub(crate) fn gather<T: Compute>(&self, plane: &[T], windows: &mut [T], mut work: impl FnMut(&mut T, T)) {
        for row in self.rows() {
            let ([from, to], len) = (self.run(row), self.len());
            let windows = &mut windows[to..to + len];
            gather(
                &plane[from..],
                self.step,
                len,
                #[inline(always)]
                |i, value| work(&mut windows[i], value),
            );
        }
    }

    /// Adds what belongs to each window to the element of the plane that the tap meets in it.
    #[inline(always)]
    pub(crate) fn scatter_add<T: Compute>(&self, windows: &[T], plane: &mut [T]) {
        for row in self.rows() {
            let [from, to] = self.run(row);
            scatter_add(&windows[to..to + self.len()], &mut plane[from..], self.step);
        }
    }
}

/// Calls `work` with the position and value of `len` elements.
#[inline(always)]
fn gather<T: Compute>(from: &[T], step: usize, len: usize, mut work: impl FnMut(usize, T)) {
    if step == 1 {
        let from = &from[..len];
        for i in 0..len {
            work(i, from[i]);
        }
    } else if step == 2 && len > 0 {
        let pairs = &from.as_chunks::<2>().0[..len - 1];
        for i in 0..len - 1 {
            work(i, pairs[i][0]);
        }
        work(len - 1, from[2 * (len - 1)]);
    } else {
        for i in 0..len {
            work(i, from[i * step]);
        }
    }
}

/// Adds each element to the one in its place.
#[inline(always)]
fn scatter_add<T: Compute>(from: &[T], to: &mut [T], step: usize) {
    let len = from.len();
    if step == 1 {
        let to = &mut to[..len];
        for i in 0..len {
            to[i] += from[i];
        }
    } else if step == 2 && len > 0 {
        let (pairs, from) = (&mut to.as_chunks_mut::<2>().0[..len - 1], &from[..len]);
        for i in 0..len - 1 {
            pairs[i][0] += from[i];
        }
        to[2 * (len - 1)] += from[len - 1];
    } else {
        for i in 0..len {
            to[i * step] += from[i];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_end_with_their_last_element() {
        for step in 1..5 {
            for len in 0..9 {
                let count = if len == 0 { 0 } else { (len - 1) * step + 1 };
                let plane: Vec<f64> = (0..count).map(|i| i as f64).collect();
                let mut found = vec![];
                gather(&plane, step, len, |i, value| found.push((i, value)));
                assert_eq!(found, (0..len).map(|i| (i, (i * step) as f64)).collect::<Vec<_>>());
                let (ones, mut sums) = (vec![1.0; len], plane.clone());
                scatter_add(&ones, &mut sums, step);
                let added = |i: usize| i as f64 + f64::from(u8::from(i.is_multiple_of(step)));
                assert_eq!(sums, (0..count).map(added).collect::<Vec<_>>());
            }
        }
    }
}
