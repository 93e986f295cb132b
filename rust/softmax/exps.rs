//! The largest element of a row, the exponentials of what the others are below it, and their sum.

use fearless_simd::prelude::*;

use super::{Shape, formula::Exp};
use crate::{
    array::Input,
    map::{Map, WIDEST, map},
    math::{Math, log},
    prefetch::prefetch,
    reduce::{BLOCK, fold_partials},
    row_sums::{OfRows, ROWS, Rows, SEGMENT, Value, at_once, sum_short_rows},
    simd::TILE_VECTORS,
};

/// m and s of rows side by side.
#[derive(Clone, Copy, Debug)]
pub(super) struct Totals<T> {
    pub(super) max: [T; ROWS],
    pub(super) sum: OfRows,
}

impl<T> Totals<T> {
    /// The logarithms of the sums, as many as a vector has elements.
    #[inline(always)]
    pub(super) fn logs<S: Simd>(&self, simd: S) -> OfRows {
        let mut logs = [0.0; ROWS];
        let sums = S::f64s::from_slice(simd, &self.sum[..S::f64s::LEN]);
        log(sums).store_slice(&mut logs[..S::f64s::LEN]);
        logs
    }
}

/// Room for exponentials of rows: short ones at a stride of whole tiles with zeros behind them.
#[derive(Debug)]
pub(super) struct Exps<T> {
    room: Vec<T>,
    stride: usize,
}

impl<T: Math> Exps<T> {
    /// Room for rows of that length; all exponentials of a row that is longer than a block stay only if they are to be kept.
    #[inline(always)]
    pub(super) fn new<S: Simd>(_simd: S, len: usize, is_kept: bool) -> Self {
        let stride = match len {
            _ if at_once::<S>(len) > 1 => len.next_multiple_of(TILE_VECTORS * S::f64s::LEN),
            _ if is_kept => len.min(SEGMENT),
            _ => len.min(BLOCK),
        };
        Self { room: vec![T::ZERO; stride * at_once::<S>(len)], stride }
    }

    /// The exponentials of row `i`, and what follows them.
    #[inline(always)]
    pub(super) fn row(&self, i: usize) -> &[T] {
        &self.room[i * self.stride..]
    }

    /// Of `count` rows of `len` elements, at most a segment, side by side in `x`, which may go on.
    #[inline(always)]
    pub(super) fn of_rows<S: Simd>(&mut self, simd: S, x: &[T], len: usize, count: usize) -> Totals<T> {
        if at_once::<S>(len) > 1 { self.of_short_rows(simd, x, len, count) } else { self.of_row(simd, x, len) }
    }

    #[inline(always)]
    fn of_row<S: Simd>(&mut self, simd: S, x: &[T], len: usize) -> Totals<T> {
        let max = largest(simd, &x[..len]);
        let mut totals = Totals { max: [max; ROWS], sum: [0.0; ROWS] };
        totals.sum[0] = self.add_up(simd, &x[..len], max);
        totals
    }

    /// Of a row of several segments.
    #[inline(always)]
    pub(super) fn of_long_row<S: Simd>(
        &mut self,
        simd: S,
        shape: Shape,
        row: usize,
        x: &Input,
        room: &mut Vec<T>,
    ) -> Totals<T> {
        let (mut max, mut sum) = (-T::INFINITY, 0.0);
        for block in shape.segments(row) {
            max = larger(max, largest(simd, x.block(simd, shape.start(block), block.len, room)));
        }
        for block in shape.segments(row) {
            sum += self.add_up(simd, x.block(simd, shape.start(block), block.len, room), max);
        }
        Totals { max: [max; ROWS], sum: [sum; ROWS] }
    }

    /// The sum over a part of a row, at most a segment.
    #[inline(never)]
    fn add_up<S: Simd>(&mut self, simd: S, x: &[T], max: T) -> f64 {
        simd.vectorize(
            #[inline(always)]
            || self.add_up_blocks(simd, x, max),
        )
    }

    #[inline(always)]
    fn add_up_blocks<S: Simd>(&mut self, simd: S, x: &[T], max: T) -> f64 {
        let (blocks, mut partials) = (x.len().div_ceil(BLOCK), [0.0; SEGMENT / BLOCK]);
        for block in 0..blocks {
            let at = block * BLOCK;
            let (len, place) = (BLOCK.min(x.len() - at), if self.stride <= BLOCK { 0 } else { at });
            let e = &mut self.room[place..place + len];
            map(simd, [&x[at..at + len]], e, Exp { max });
            let [sums] = sum_short_rows(simd, &Rows { inputs: [e], strides: [0], len, count: 1 }, &[Value; ROWS]);
            partials[block] = sums[0];
        }
        fold_partials(simd, &mut partials[..blocks])
    }

    /// The exponentials of a part of a row, at most a segment, whose totals are known.
    #[inline(always)]
    pub(super) fn again<S: Simd>(&mut self, simd: S, x: &[T], max: T) {
        map(simd, [x], &mut self.room[..x.len()], Exp { max });
    }

    #[inline(never)]
    fn of_short_rows<S: Simd>(&mut self, simd: S, x: &[T], len: usize, count: usize) -> Totals<T> {
        simd.vectorize(
            #[inline(always)]
            || self.side_by_side(simd, x, len, count),
        )
    }

    #[inline(always)]
    fn side_by_side<S: Simd>(&mut self, simd: S, x: &[T], len: usize, count: usize) -> Totals<T> {
        let (wide, stride, max) =
            (<T::Native<S> as SimdBase<S>>::LEN, self.stride, largest_of_rows(simd, x, len, count));
        for i in 0..count {
            let (start, exp) = (i * len, Exp { max: max[i] });
            if len < wide {
                let e = exp.of([few(simd, &x[start..], len)]);
                e.store_slice(&mut self.room[i * stride..i * stride + wide]);
            } else {
                map(simd, [&x[start..start + len]], &mut self.room[i * stride..i * stride + len], exp);
            }
        }
        let rows = Rows { inputs: [&self.room], strides: [stride], len: stride, count };
        let [sum] = sum_short_rows(simd, &rows, &[Value; ROWS]);
        Totals { max, sum }
    }
}

/// Fewer elements than a vector has, -Inf behind them; `x` begins with them and may go on.
#[inline(always)]
fn few<S: Simd, T: Math>(simd: S, x: &[T], len: usize) -> T::Native<S> {
    let wide = <T::Native<S> as SimdBase<S>>::LEN;
    if x.len() < wide {
        let mut padded = [-T::INFINITY; WIDEST];
        padded[..len].copy_from_slice(&x[..len]);
        return T::Native::<S>::from_slice(simd, &padded[..wide]);
    }
    let mut places = [T::ZERO; WIDEST];
    for i in 0..WIDEST {
        places[i] = T::from_f64(i as f64);
    }
    let is_inside = T::Native::<S>::from_slice(simd, &places[..wide]).simd_lt(T::from_f64(len as f64));
    is_inside.select(T::Native::<S>::from_slice(simd, &x[..wide]), T::Native::<S>::splat(simd, -T::INFINITY))
}

/// The largest of some elements in each place of a vector; where there is a NaN nothing is promised: the sum will be NaN.
#[inline(always)]
fn largest_vector<S: Simd, T: Math>(simd: S, x: &[T], len: usize) -> T::Native<S> {
    let wide = <T::Native<S> as SimdBase<S>>::LEN;
    if len < wide {
        return few(simd, x, len);
    }
    let mut max = T::Native::<S>::from_slice(simd, &x[len - wide..len]);
    let mut at = 0;
    while at + wide <= len {
        max = max.max(T::Native::<S>::from_slice(simd, &x[at..at + wide]));
        at += wide;
    }
    max
}

/// The largest element of a row, or of a part of it.
#[inline(always)]
fn largest<S: Simd, T: Math>(simd: S, x: &[T]) -> T {
    let wide = <T::Native<S> as SimdBase<S>>::LEN;
    let (tile, mut at) = (TILE_VECTORS * wide, 0);
    let mut tops = [T::Native::<S>::splat(simd, -T::INFINITY); TILE_VECTORS];
    while at + tile <= x.len() {
        prefetch(x, at, tile);
        for k in 0..TILE_VECTORS {
            let place = at + k * wide;
            tops[k] = tops[k].max(T::Native::<S>::from_slice(simd, &x[place..place + wide]));
        }
        at += tile;
    }
    tops[0] = tops[0].max(largest_vector(simd, &x[at..], x.len() - at));
    let mut all = [-T::INFINITY; WIDEST];
    (tops[0].max(tops[1])).max(tops[2].max(tops[3])).store_slice(&mut all[..wide]);
    let mut max = all[0];
    for i in 1..wide {
        max = larger(max, all[i]);
    }
    max
}

/// The larger of two numbers.
#[inline(always)]
fn larger<T: Math>(a: T, b: T) -> T {
    if b > a { b } else { a }
}

/// The largest element of each row: rows share vectors as in the fold of their sums.
#[inline(always)]
fn largest_of_rows<S: Simd, T: Math>(simd: S, x: &[T], len: usize, count: usize) -> [T; ROWS] {
    let (wide, mut half) = (<T::Native<S> as SimdBase<S>>::LEN, S::f64s::LEN / 2);
    let mut rows = [T::Native::<S>::splat(simd, -T::INFINITY); ROWS];
    for i in 0..count {
        rows[i] = largest_vector(simd, &x[i * len..], len);
    }
    while half > 0 {
        for k in 0..half {
            let (a, b) = (rows[k], rows[k + half]);
            rows[k] = a.zip_low(b).max(a.zip_high(b));
        }
        half /= 2;
    }
    // A vector of float32 has two elements left of each row, of which one is stored.
    let (pairs, apart) = (rows[0].zip_low(rows[0]).max(rows[0].zip_high(rows[0])), wide / S::f64s::LEN);
    let (mut all, mut max) = ([T::ZERO; WIDEST], [T::ZERO; ROWS]);
    (if apart == 1 { rows[0] } else { pairs }).store_slice(&mut all[..wide]);
    for i in 0..S::f64s::LEN {
        max[i] = all[i * apart];
    }
    max
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{dispatch, simd::Isa};

    /// Rows whose largest elements stand in every place in turn, none above 0.
    fn rows(len: usize, count: usize) -> Vec<f64> {
        let element = |k: usize| if k % len == k / len % len { -0.5 } else { -2.0 - (k % 7) as f64 };
        (0..len * count).map(element).collect()
    }

    #[inline(always)]
    fn check<S: Simd, T: Math>(simd: S, len: usize) {
        let count = at_once::<S>(len);
        let wide = rows(len, count);
        let x: Vec<T> = wide.iter().map(|&x| T::from_f64(x)).collect();
        let mut exps = Exps::<T>::new(simd, len, true);
        let totals = exps.of_rows(simd, &x, len, count);
        for i in 0..count {
            assert_eq!(totals.max[i].to_f64(), -0.5, "row {i} of {count}, {len} elements");
            let want: f64 = wide[i * len..(i + 1) * len].iter().map(|x| (x + 0.5).exp()).sum();
            assert!((totals.sum[i] - want).abs() <= 1e-6 * want, "row {i} of {count}, {len} elements");
        }
    }

    #[test]
    fn rows_of_every_length_have_their_own_maximum_and_sum() {
        for isa in Isa::available() {
            for len in (1..70).chain([127, 128, 129, 511, 512, 513, 4095, 4097, 9000]) {
                dispatch!(isa, simd => check::<_, f32>(simd, len));
                dispatch!(isa, simd => check::<_, f64>(simd, len));
            }
        }
    }

    /// e^0 + e^(-ln 2) = 3/2, whose logarithm is that of 3 less that of 2.
    #[test]
    fn totals_by_hand() {
        for isa in Isa::available() {
            dispatch!(isa, simd => {
                let mut exps = Exps::<f64>::new(simd, 2, true);
                let totals = exps.of_rows(simd, &[0.0, -std::f64::consts::LN_2], 2, 1);
                assert_eq!((totals.max[0], totals.sum[0]), (0.0, 1.5));
                assert_eq!(totals.logs(simd)[0], 1.5_f64.ln());
                assert_eq!(exps.row(0)[..3], [1.0, 0.5, 0.0]);
            });
        }
    }
}
