//! Windows that slide over planes, and pools.
//!
//! An array has samples, channels and planes of rows and columns. A window's elements are its taps, in C order; the elements that
//! a tap meets as the window slides over a row are a run with even steps.

pub mod average;
pub mod max;
pub(crate) mod passes;
mod runs;

use std::ops::Range;

/// One axis of a plane, and how the window slides along it.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    /// Elements.
    pub input: usize,
    /// Elements of the window.
    pub kernel: usize,
    /// From a window to the next.
    pub stride: usize,
    /// Elements that are thought before and behind the axis.
    pub padding: usize,
    /// From an element of the window to the next.
    pub dilation: usize,
}

impl Axis {
    /// Windows: as many as lie inside axis and padding.
    #[must_use]
    pub const fn output(&self) -> usize {
        let reach = self.dilation * self.kernel.saturating_sub(1) + 1;
        let padded = self.input + 2 * self.padding;
        if self.kernel == 0 || self.stride == 0 || padded < reach { 0 } else { (padded - reach) / self.stride + 1 }
    }

    /// Windows whose element `k` lies inside the axis.
    fn inside(&self, k: usize) -> Range<usize> {
        let shift = k * self.dilation;
        let end = (self.input + self.padding).saturating_sub(shift).div_ceil(self.stride).min(self.output());
        let start = self.padding.saturating_sub(shift).div_ceil(self.stride).min(end);
        start..end
    }
}

/// An array and the windows over its planes.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    /// Samples.
    pub samples: usize,
    /// Channels.
    pub channels: usize,
    /// Rows and columns.
    pub axes: [Axis; 2],
}

impl Windows {
    /// Planes.
    #[must_use]
    pub const fn planes(&self) -> usize {
        self.samples * self.channels
    }

    /// Elements of a plane.
    #[must_use]
    pub const fn plane(&self) -> usize {
        self.axes[0].input * self.axes[1].input
    }

    /// Windows of a plane.
    #[must_use]
    pub const fn windows(&self) -> usize {
        self.axes[0].output() * self.axes[1].output()
    }

    /// Taps of a window.
    #[must_use]
    pub const fn taps(&self) -> usize {
        self.axes[0].kernel * self.axes[1].kernel
    }

    /// Does a window after the other begin at the next element, in a plane as broad as there are windows?
    pub(crate) fn keeps_width(&self) -> bool {
        let [rows, columns] = self.axes;
        rows.stride == 1 && columns.stride == 1 && columns.output() == columns.input
    }

    pub(crate) fn all_taps(&self) -> Vec<Tap> {
        (0..self.taps()).map(|k| Tap::new(self, k)).collect()
    }
}

/// One element of the window, and where it meets the plane.
#[derive(Clone, Debug)]
pub(crate) struct Tap {
    /// Rows of windows in which it lies inside the plane; none if it does in no window.
    rows: Range<usize>,
    /// Windows of such a row.
    columns: Range<usize>,
    /// The element of the plane under it in window 0, if that were inside.
    first: isize,
    /// From a row of windows to the next, in the plane and in the windows.
    pitches: [usize; 2],
    /// From a window of a row to the next, in the plane.
    step: usize,
}

impl Tap {
    fn new(windows: &Windows, k: usize) -> Self {
        let [rows, columns] = windows.axes;
        let [i, j] = [k / columns.kernel, k % columns.kernel];
        let row = (i * rows.dilation) as isize - rows.padding as isize;
        let column = (j * columns.dilation) as isize - columns.padding as isize;
        let inside = columns.inside(j);
        Self {
            rows: if inside.is_empty() { 0..0 } else { rows.inside(i) },
            columns: inside,
            first: row * columns.input as isize + column,
            pitches: [rows.stride * columns.input, columns.output()],
            step: columns.stride,
        }
    }

    /// The tap in some rows of windows, as if the first were row 0.
    pub(crate) fn within(&self, rows: &Range<usize>) -> Self {
        let start = self.rows.start.max(rows.start) - rows.start;
        let end = self.rows.end.min(rows.end).saturating_sub(rows.start);
        let first = self.first + (rows.start * self.pitches[0]) as isize;
        Self { rows: if start < end { start..end } else { 0..0 }, columns: self.columns.clone(), first, ..*self }
    }

    /// Rows of windows in which it lies inside the plane.
    #[inline(always)]
    pub(crate) fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// Windows of such a row in which it does.
    #[inline(always)]
    pub(crate) fn columns(&self) -> Range<usize> {
        self.columns.clone()
    }

    /// Windows of a row.
    #[inline(always)]
    pub(crate) fn width(&self) -> usize {
        self.pitches[1]
    }

    /// Where the run of a row begins, in the plane and in the windows.
    #[inline(always)]
    pub(crate) fn run(&self, row: usize) -> [usize; 2] {
        [self.place(row, self.columns.start), row * self.pitches[1] + self.columns.start]
    }

    /// The element of the plane that it meets in a window.
    #[inline(always)]
    fn place(&self, row: usize, column: usize) -> usize {
        (row * self.pitches[0] + column * self.step).wrapping_add_signed(self.first)
    }

    /// Windows of a run.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.columns.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: [usize; 5] = [1, 2, 3, 5, 8];

    fn axes() -> impl Iterator<Item = Axis> {
        let all = SIZES.iter().flat_map(|&input| (1..4).map(move |kernel| (input, kernel)));
        let all = all.flat_map(|(input, kernel)| (1..4).map(move |stride| (input, kernel, stride)));
        let all = all
            .flat_map(|sizes| (0..3).flat_map(move |padding| (1..4).map(move |dilation| (sizes, padding, dilation))));
        all.map(|((input, kernel, stride), padding, dilation)| Axis { input, kernel, stride, padding, dilation })
    }

    #[test]
    fn windows_and_their_insides_are_those_found_by_trying() {
        for axis in axes() {
            let at = |o: usize, k: usize| (o * axis.stride + k * axis.dilation) as isize - axis.padding as isize;
            let end = (axis.input + axis.padding) as isize;
            let outputs = (0..100).take_while(|&o| at(o, axis.kernel - 1) < end).count();
            assert_eq!(axis.output(), outputs, "{axis:?}");
            for k in 0..axis.kernel {
                let inside = (0..outputs).filter(|&o| (0..axis.input as isize).contains(&at(o, k)));
                assert_eq!(axis.inside(k).collect::<Vec<_>>(), inside.collect::<Vec<_>>(), "{axis:?} {k}");
            }
        }
    }

    #[test]
    fn a_window_that_does_not_fit_has_no_output() {
        let axis = Axis { input: 2, kernel: 2, stride: 1, padding: 0, dilation: 2 };
        assert_eq!(axis.output(), 0);
        assert_eq!(Axis { dilation: 1, ..axis }.output(), 1);
        assert_eq!(Axis { stride: 0, dilation: 1, ..axis }.output(), 0);
    }
}
