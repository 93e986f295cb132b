//! Columns: what each tap meets in a block of windows, and back.

use super::{Block, Conv};
use crate::{dtype::Compute, window::Tap};

/// Fills (channels, taps) rows with what the taps meet in the planes of a group; 0 in the padding.
#[inline(always)]
pub(super) fn unfold<T: Compute>(conv: &Conv, block: &Block, x: &[T], columns: &mut [T], stride: usize) {
    let (plane, taps) = (conv.windows.plane(), block.taps.len());
    for k in 0..conv.depth() {
        let x = &x[k / taps * plane..(k / taps + 1) * plane];
        let row = &mut columns[k * stride..k * stride + block.len];
        meet(&block.taps[k % taps], x, row, conv.windows.keeps_width());
    }
}

/// What one tap meets in a plane.
#[inline(always)]
fn meet<T: Compute>(tap: &Tap, x: &[T], out: &mut [T], keeps_width: bool) {
    let (width, rows) = (tap.width(), tap.rows());
    out[..rows.start * width].fill(T::default());
    out[rows.end * width..].fill(T::default());
    if rows.is_empty() {
        return;
    }
    if keeps_width {
        // One copy of all rows is faster than one of each; what it carries over a row's end belongs to the padding.
        let [from, to] = tap.run(rows.start);
        let len = (rows.len() - 1) * width + tap.len();
        out[to..to + len].copy_from_slice(&x[from..from + len]);
    } else {
        tap.gather(
            x,
            out,
            #[inline(always)]
            |to, value| *to = value,
        );
    }
    clear_ends(tap, out);
}

/// Zeros in the windows of the tap's rows in which it is in the padding.
#[inline(always)]
fn clear_ends<T: Compute>(tap: &Tap, out: &mut [T]) {
    let (inside, width) = (tap.columns(), tap.width());
    for column in (0..inside.start).chain(inside.end..width) {
        for row in tap.rows() {
            out[row * width + column] = T::default();
        }
    }
}

/// Adds (channels, taps) rows to the elements that the taps met in the planes of a group, in the order of rows; what belongs to
/// the padding may be lost.
#[inline(always)]
pub(super) fn fold<T: Compute>(conv: &Conv, block: &Block, columns: &mut [T], stride: usize, dx: &mut [T]) {
    let (plane, taps) = (conv.windows.plane(), block.taps.len());
    for k in 0..conv.depth() {
        let dx = &mut dx[k / taps * plane..(k / taps + 1) * plane];
        let row = &mut columns[k * stride..k * stride + block.len];
        add_back(&block.taps[k % taps], row, dx, conv.windows.keeps_width());
    }
}

/// Adds what belongs to each window to the element that the tap met.
#[inline(always)]
fn add_back<T: Compute>(tap: &Tap, columns: &mut [T], dx: &mut [T], keeps_width: bool) {
    if !keeps_width || tap.rows().is_empty() {
        return tap.scatter_add(columns, dx);
    }
    // One sum of all rows is faster than one of each; a sum that began at +0.0 does not change by the zeros.
    clear_ends(tap, columns);
    let [to, from] = tap.run(tap.rows().start);
    let len = (tap.rows().len() - 1) * tap.width() + tap.len();
    let (columns, dx) = (&columns[from..from + len], &mut dx[to..to + len]);
    for i in 0..len {
        dx[i] += columns[i];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::{Axis, Windows};

    fn conv(axes: [Axis; 2]) -> Conv {
        Conv { windows: Windows { samples: 1, channels: 1, axes }, features: 1, groups: 1 }
    }

    /// Columns of a plane, tap by tap.
    fn unfolded(conv: &Conv, x: &[f64]) -> Vec<Vec<f64>> {
        let (block, mut columns) = (&conv.blocks()[0], vec![f64::NAN; conv.depth() * 100]);
        unfold(conv, block, x, &mut columns, 100);
        columns.chunks(100).map(|row| row[..block.len].to_vec()).collect()
    }

    /// A window of two by two over 1 2 3 / 4 5 6.
    #[test]
    fn taps_meet_their_elements() {
        let axis = Axis { input: 2, kernel: 2, stride: 1, padding: 0, dilation: 1 };
        let columns = unfolded(&conv([axis, Axis { input: 3, ..axis }]), &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(columns, [[1.0, 2.0], [2.0, 3.0], [4.0, 5.0], [5.0, 6.0]]);
    }

    /// Three by three with padding keeps the size: one copy a plane, whose ends are padding.
    #[test]
    fn padding_is_zero_where_rows_are_copied_at_once() {
        let axis = Axis { input: 2, kernel: 3, stride: 1, padding: 1, dilation: 1 };
        let columns = unfolded(&conv([axis, axis]), &[1.0, 2.0, 3.0, 4.0]);
        assert_eq!(columns[0], [0.0, 0.0, 0.0, 1.0]);
        assert_eq!(columns[1], [0.0, 0.0, 1.0, 2.0]);
        assert_eq!(columns[2], [0.0, 0.0, 2.0, 0.0]);
        assert_eq!(columns[3], [0.0, 1.0, 0.0, 3.0]);
        assert_eq!(columns[4], [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(columns[5], [2.0, 0.0, 4.0, 0.0]);
        assert_eq!(columns[6], [0.0, 3.0, 0.0, 0.0]);
        assert_eq!(columns[8], [4.0, 0.0, 0.0, 0.0]);
    }

    /// Three by three with padding over two by two: every tap but the middle one meets fewer than four elements.
    #[test]
    fn padding_is_not_folded() {
        let axis = Axis { input: 2, kernel: 3, stride: 1, padding: 1, dilation: 1 };
        let (conv, mut sums) = (conv([axis, axis]), [0.0; 4]);
        let mut columns: Vec<f64> = (0..36).map(|i| f64::from(i % 4 + 1)).collect();
        fold(&conv, &conv.blocks()[0], &mut columns, 4, &mut sums);
        assert_eq!(sums, [10.0; 4]);
    }

    #[test]
    fn folding_counts_the_taps_that_met_an_element() {
        let rows = Axis { input: 5, kernel: 3, stride: 2, padding: 1, dilation: 1 };
        let columns = Axis { input: 4, kernel: 2, stride: 1, padding: 0, dilation: 2 };
        let conv = conv([rows, columns]);
        let mut counts = vec![0.0; conv.windows.plane()];
        for block in conv.blocks() {
            fold(&conv, &block, &mut vec![1.0; conv.depth() * block.len], block.len, &mut counts);
        }
        // Rows are met 1, 2, 1, 2, 1 times, columns once.
        let want: Vec<f64> = [1.0, 2.0, 1.0, 2.0, 1.0].iter().flat_map(|&count| [count; 4]).collect();
        assert_eq!(counts, want);
    }
}
