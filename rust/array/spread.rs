//! Values that many elements share: a factor for each unit of a tensor, a mean for each row or column of its matrices.

use fearless_simd::prelude::*;

use crate::dtype::Compute;

/// A short table that stands for one number an element, elements counted in C order.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Spread<'a> {
    /// Each number belongs to `run` elements, one after another.
    Repeat {
        /// The numbers, exact in the compute type.
        table: &'a [f64],
        /// Elements a number.
        run: usize,
    },
    /// Matrices of `rows` rows: the numbers of a matrix belong to its columns.
    Cycle {
        /// The numbers of all matrices, exact in the compute type.
        table: &'a [f64],
        /// Columns of a matrix.
        columns: usize,
        /// Elements of a matrix.
        matrix: usize,
    },
}

impl Spread<'_> {
    /// Writes the numbers of the elements from `first` on; past the last element the last number is repeated.
    pub(crate) fn fill<S: Simd, T: Compute>(self, simd: S, first: usize, out: &mut [T]) {
        simd.vectorize(
            #[inline(always)]
            || self.fill_in_order(first, out),
        );
    }

    #[inline(always)]
    fn fill_in_order<T: Compute>(self, first: usize, out: &mut [T]) {
        let mut at = 0;
        while at < out.len() {
            at += match self {
                Spread::Repeat { table, run } => repeat(table, run, first + at, &mut out[at..]),
                Spread::Cycle { table, columns, matrix } => cycle(table, columns, matrix, first + at, &mut out[at..]),
            };
        }
    }
}

#[inline(always)]
fn repeat<T: Compute>(table: &[f64], run: usize, element: usize, out: &mut [T]) -> usize {
    let count = out.len().min(run - element % run);
    out[..count].fill(T::from_f64(table[(element / run).min(table.len() - 1)]));
    count
}

#[inline(always)]
fn cycle<T: Compute>(table: &[f64], columns: usize, matrix: usize, element: usize, out: &mut [T]) -> usize {
    let column = element % columns;
    let count = out.len().min(columns - column);
    let first = (element / matrix * columns).min(table.len() - columns) + column;
    for (out, &number) in out[..count].iter_mut().zip(&table[first..]) {
        *out = T::from_f64(number);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_spread_over_elements_in_c_order() {
        let mut out = [0_f32; 14];
        Spread::Repeat { table: &[1.0, 2.0, 3.0], run: 4 }.fill_in_order(2, &mut out[..12]);
        assert_eq!(out[..12], [1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0]);
        let columns = Spread::Cycle { table: &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], columns: 3, matrix: 6 };
        columns.fill_in_order(1, &mut out);
        assert_eq!(out, [2.0, 3.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 4.0, 5.0, 6.0, 4.0, 5.0, 6.0]);
    }
}
