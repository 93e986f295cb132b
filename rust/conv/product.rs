//! Products of matrices whose bits depend on their shapes alone: each product and each sum is rounded once, in the written order.

use fearless_simd::prelude::*;

use crate::{dtype::Compute, map::WIDEST};

/// A matrix by rows: its elements, and from a row to the next.
pub(super) type Rows<'a, T> = (&'a [T], usize);

/// The same to write.
pub(super) type RowsMut<'a, T> = (&'a mut [T], usize);

/// Elements of a row that whole vectors fill, of any level; rows that follow each other do not meet in the same lines of a cache.
pub(super) const fn padded(len: usize) -> usize {
    let vectors = len.div_ceil(WIDEST);
    (vectors + (vectors + 1) % 2) * WIDEST
}

/// c = a·b, or c + a·b if it `adds`: for each element a sum from +0.0 in the order of the inner axis. The shape is that of c and the
/// inner axis; rows of b are padded.
#[inline(never)]
pub(super) fn product<S: Simd, T: Compute>(
    simd: S,
    shape: [usize; 3],
    a: Rows<'_, T>,
    b: Rows<'_, T>,
    c: RowsMut<'_, T>,
    adds: bool,
) {
    simd.vectorize(
        #[inline(always)]
        || panels(simd, shape, a, b, c, adds),
    );
}

#[inline(always)]
fn panels<S: Simd, T: Compute>(
    simd: S,
    [rows, columns, inner]: [usize; 3],
    a: Rows<'_, T>,
    b: Rows<'_, T>,
    (c, stride): RowsMut<'_, T>,
    adds: bool,
) {
    for j in (0..columns).step_by(<T::Native<S> as SimdBase<S>>::LEN) {
        let (b, mut i) = ((&b.0[j..], b.1), 0);
        while i < rows {
            let a = (&a.0[i * a.1..], a.1);
            let c = (&mut c[i * stride + j..], stride);
            let tile = Tile { inner, columns: columns - j, adds };
            i += match rows - i {
                16.. if WIDEST == <S::f32s as SimdBase<S>>::LEN => tile.write::<S, T, 16>(simd, a, b, c),
                8.. => tile.write::<S, T, 8>(simd, a, b, c),
                4.. => tile.write::<S, T, 4>(simd, a, b, c),
                2.. => tile.write::<S, T, 2>(simd, a, b, c),
                _ => tile.write::<S, T, 1>(simd, a, b, c),
            };
        }
    }
}

/// Some rows of c, a vector of each, or its first columns.
struct Tile {
    inner: usize,
    columns: usize,
    adds: bool,
}

impl Tile {
    #[inline(always)]
    fn write<S: Simd, T: Compute, const M: usize>(
        self,
        simd: S,
        a: Rows<'_, T>,
        b: Rows<'_, T>,
        (c, stride): RowsMut<'_, T>,
    ) -> usize {
        let wide = <T::Native<S> as SimdBase<S>>::LEN;
        let sums = sums::<S, T, M>(simd, self.inner, a, b);
        for m in 0..M {
            let row = &mut c[m * stride..];
            if self.columns < wide {
                self.write_part(simd, sums[m], &mut row[..self.columns]);
            } else {
                self.write_vector(simd, sums[m], &mut row[..wide]);
            }
        }
        M
    }

    #[inline(always)]
    fn write_vector<S: Simd, V: SimdFloat<S>>(&self, simd: S, sum: V, row: &mut [V::Element]) {
        let sum = if self.adds { V::from_slice(simd, row) + sum } else { sum };
        sum.store_slice(row);
    }

    #[inline(always)]
    fn write_part<S: Simd, V: SimdFloat<S>>(&self, simd: S, sum: V, row: &mut [V::Element]) {
        let mut room = [V::Element::default(); WIDEST];
        room[..row.len()].copy_from_slice(row);
        self.write_vector(simd, sum, &mut room[..V::LEN]);
        row.copy_from_slice(&room[..row.len()]);
    }
}

/// The first `M` rows of a times the first vector of the rows of b.
#[inline(always)]
fn sums<S: Simd, T: Compute, const M: usize>(
    simd: S,
    inner: usize,
    a: Rows<'_, T>,
    (mut b, stride): Rows<'_, T>,
) -> [T::Native<S>; M] {
    let wide = <T::Native<S> as SimdBase<S>>::LEN;
    let (mut sums, mut rows) = ([T::Native::<S>::splat(simd, T::default()); M], [&a.0[..inner]; M]);
    for m in 0..M {
        rows[m] = &a.0[m * a.1..m * a.1 + inner];
    }
    for k in 0..inner {
        let vector = T::Native::<S>::from_slice(simd, &b[..wide]);
        for m in 0..M {
            sums[m] += vector * rows[m][k];
        }
        b = &b[stride.min(b.len())..];
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{dispatch, simd::Isa};

    /// Numbers whose sums are rounded.
    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| (((i + seed) * 2_654_435_761 % 65_537) as f32 - 32_768.0) / 9973.0).collect()
    }

    #[test]
    fn every_level_sums_in_the_order_of_the_inner_axis() {
        for (rows, columns, inner) in [(1, 1, 1), (31, 3, 7), (16, 16, 9), (7, 33, 20), (8, 50, 1)] {
            let (wide, high) = (padded(columns), columns + 3);
            let (a, b) = (numbers(rows * (inner + 2), 1), numbers(inner * wide, 2));
            for (isa, adds) in Isa::available().into_iter().flat_map(|isa| [(isa, false), (isa, true)]) {
                let before = numbers(rows * high, 3);
                let mut c = before.clone();
                let shape = [rows, columns, inner];
                dispatch!(isa, simd => product(simd, shape, (&a, inner + 2), (&b, wide), (&mut c, high), adds));
                for (at, &got) in c.iter().enumerate() {
                    let (i, j) = (at / high, at % high);
                    let sum = || (0..inner).fold(0.0, |sum, k| sum + b[k * wide + j] * a[i * (inner + 2) + k]);
                    let want = match (j < columns, adds) {
                        (true, true) => before[at] + sum(),
                        (true, false) => sum(),
                        _ => before[at],
                    };
                    assert_eq!(got.to_bits(), want.to_bits(), "{isa:?} {shape:?} {i} {j}");
                }
            }
        }
    }

    #[test]
    fn rows_have_an_odd_number_of_vectors() {
        assert_eq!([0, 1, 16, 17, 32, 33].map(padded), [16, 16, 16, 48, 48, 48]);
    }
}
