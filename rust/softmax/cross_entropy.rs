//! Cross entropy of the softmax, and its gradient in the same pass.
//!
//! With targets q' = q·(1 - smoothing) + smoothing / classes and class weights w, a row's loss is Σ w·q'·(log(s) - (x - m)) in
//! float64. Its gradient is e·(scale·W / s) - w·q'·scale in the compute type, W = Σ w·q', scale = 1 / divisor.

use std::ops::Range;

use fearless_simd::prelude::*;

use super::{
    Block, Shape,
    exps::{Exps, Totals},
    formula::{Scale, ScaleLess},
    sum_of,
    targets::{Settings, Targets},
    terms::{Expected, Surprise},
};
use crate::{
    array::{Input, Output, Part},
    dispatch,
    dtype::DType,
    map::map_row,
    math::Math,
    parallel,
    row_sums::{OfRows, ROWS, Rows, SEGMENT, at_once, sum_rows},
    simd::Isa,
};

/// Rows that one thread works on.
struct Piece<'a> {
    rows: Range<usize>,
    losses: &'a mut [f64],
    dx: Option<Part<'a>>,
}

/// The loss of each row to `losses`, the gradient to `dx` if it is wanted; returns the rows' mean and
/// what it divides by, or their sum and 1.
pub fn cross_entropy(
    isa: Isa,
    settings: &Settings<'_>,
    x: &Input,
    losses: &mut [f64],
    dx: Option<&mut Output>,
) -> (f64, f64) {
    let divisor = settings.divisor(isa, losses);
    match x.dtype().compute() {
        DType::F64 => run::<f64>(isa, settings, x, divisor, losses, dx),
        _ => run::<f32>(isa, settings, x, divisor, losses, dx),
    }
    // Where nothing counts there is no mean, though smoothing may leave a sum.
    (if divisor == 0.0 { f64::NAN } else { sum_of(isa, losses) / divisor }, divisor)
}

fn run<T: Math>(
    isa: Isa,
    settings: &Settings<'_>,
    x: &Input,
    divisor: f64,
    losses: &mut [f64],
    dx: Option<&mut Output>,
) {
    let (shape, targets) = (settings.shape, Targets::<T>::new(isa, settings, 1.0 / divisor));
    let mut parts = dx.map(|dx| dx.parts(shape.ends()).into_iter());
    let piece = |(rows, losses)| Piece { rows, losses, dx: parts.as_mut().and_then(Iterator::next) };
    let mut pieces: Vec<_> = shape.pieces().zip(losses.chunks_mut(shape.turn())).map(piece).collect();
    let pass = Pass { shape, x, targets };
    parallel::for_each_mut(&mut pieces, shape.is_large(), &|_, piece| {
        dispatch!(isa, simd => pass.work_on(simd, piece));
    });
}

struct Pass<'a, T> {
    shape: Shape,
    x: &'a Input,
    targets: Targets<'a, T>,
}

/// Room for a block in the compute type.
struct Room<T> {
    x: Vec<T>,
    q: Vec<T>,
    exps: Exps<T>,
    staged: Vec<T>,
}

/// Elements of some rows with their targets, and what is known of the rows.
#[derive(Clone, Copy)]
struct Known<'a, T> {
    block: Block,
    x: &'a [T],
    /// Probabilities, if the targets are such.
    q: &'a [T],
    totals: &'a Totals<T>,
    logs: &'a OfRows,
}

impl<T: Math> Known<'_, T> {
    #[inline(always)]
    fn surprise(&self, i: usize) -> Surprise {
        Surprise { max: self.totals.max[i].to_f64(), log: self.logs[i] }
    }
}

/// Sums over rows: of w·q', of the losses, of the losses that smoothing adds.
#[derive(Default)]
struct Sums {
    weight: OfRows,
    loss: OfRows,
    rest: OfRows,
}

impl<T: Math> Pass<'_, T> {
    #[inline(always)]
    fn work_on<S: Simd>(&self, simd: S, piece: &mut Piece<'_>) {
        let (len, step) = (self.shape.len, self.shape.batch::<S>());
        let exps = Exps::new(simd, len, piece.dx.is_some());
        let mut room = Room { x: vec![], q: vec![], exps, staged: vec![] };
        for row in piece.rows.clone().step_by(step) {
            if len <= SEGMENT {
                let block = Block { row, at: 0, len, count: step.min(piece.rows.end - row) };
                self.rows(simd, block, piece, &mut room);
            } else {
                self.long_row(simd, row, piece, &mut room);
            }
        }
    }

    #[inline(always)]
    fn rows<S: Simd>(&self, simd: S, block: Block, piece: &mut Piece<'_>, room: &mut Room<T>) {
        let (Room { x, q, exps, staged }, start, len) = (room, self.shape.start(block), block.len * block.count);
        let inputs = [self.x.block(simd, start, len, x), self.targets.block(simd, start, len, q)];
        let first = block.row - piece.rows.start;
        let losses = &mut piece.losses[first..first + block.count];
        match &mut piece.dx {
            None => self.groups(simd, block, inputs, exps, losses, None),
            Some(dx) => dx.fill(
                simd,
                start,
                len,
                staged,
                #[inline(always)]
                |dx| self.groups(simd, block, inputs, exps, losses, Some(dx)),
            ),
        }
    }

    /// As many rows of a block at a time as are summed at once.
    #[inline(never)]
    fn groups<S: Simd>(
        &self,
        simd: S,
        block: Block,
        inputs: [&[T]; 2],
        exps: &mut Exps<T>,
        losses: &mut [f64],
        dx: Option<&mut [T]>,
    ) {
        simd.vectorize(
            #[inline(always)]
            || self.each_group(simd, block, inputs, (exps, losses), dx),
        );
    }

    #[inline(always)]
    fn each_group<S: Simd>(
        &self,
        simd: S,
        Block { row, len, count, .. }: Block,
        [x, q]: [&[T]; 2],
        (exps, losses): (&mut Exps<T>, &mut [f64]),
        mut dx: Option<&mut [T]>,
    ) {
        let step = at_once::<S>(len);
        for first in (0..count).step_by(step) {
            let block = Block { row: row + first, at: 0, len, count: step.min(count - first) };
            let (x, q) = (&x[first * len..], if q.is_empty() { q } else { &q[first * len..] });
            let totals = &exps.of_rows(simd, x, len, block.count);
            let (logs, mut sums) = (&totals.logs(simd), Sums::default());
            let known = Known { block, x, q, totals, logs };
            self.add(simd, known, &mut sums);
            let gains = self.finish(block, &sums, &mut losses[first..]);
            if let Some(dx) = &mut dx {
                self.write(simd, known, exps, &gains, &mut dx[first * len..]);
            }
        }
    }

    #[inline(never)]
    fn long_row<S: Simd>(&self, simd: S, row: usize, piece: &mut Piece<'_>, room: &mut Room<T>) {
        simd.vectorize(
            #[inline(always)]
            || self.segments(simd, row, piece, room),
        );
    }

    /// A row of several segments: read for the largest element, for the sum, for the loss and for the gradient.
    #[inline(always)]
    fn segments<S: Simd>(&self, simd: S, row: usize, piece: &mut Piece<'_>, room: &mut Room<T>) {
        let Room { x: room, q: room_q, exps, staged } = room;
        let totals = &exps.of_long_row(simd, self.shape, row, self.x, room);
        let (logs, mut sums) = (&totals.logs(simd), Sums::default());
        for block in self.shape.segments(row) {
            let start = self.shape.start(block);
            let x = self.x.block(simd, start, block.len, room);
            let q = self.targets.block(simd, start, block.len, room_q);
            self.add(simd, Known { block, x, q, totals, logs }, &mut sums);
        }
        let block = Block { row, at: 0, len: self.shape.len, count: 1 };
        let gains = self.finish(block, &sums, &mut piece.losses[row - piece.rows.start..]);
        let Some(dx) = &mut piece.dx else { return };
        for block in self.shape.segments(row) {
            let start = self.shape.start(block);
            let x = self.x.block(simd, start, block.len, room);
            let q = self.targets.block(simd, start, block.len, room_q);
            exps.again(simd, x, totals.max[0]);
            let known = Known { block, x, q, totals, logs };
            dx.fill(
                simd,
                start,
                block.len,
                staged,
                #[inline(always)]
                |dx| self.write(simd, known, exps, &gains, dx),
            );
        }
    }

    #[inline(always)]
    fn add<S: Simd>(&self, simd: S, known: Known<'_, T>, sums: &mut Sums) {
        let (Block { len, count, .. }, targets) = (known.block, &self.targets);
        for i in 0..count {
            if let Some((place, weight)) = targets.label_in(known.block, i) {
                sums.weight[i] += weight;
                sums.loss[i] += weight * known.surprise(i).of_element(known.x[i * len + place].to_f64());
            }
        }
        if !targets.has_labels() {
            self.add_expected(simd, known, sums);
        } else if targets.base > 0.0 {
            self.add_rest(simd, known, sums);
        }
    }

    /// What smoothing adds to labels.
    #[inline(never)]
    fn add_rest<S: Simd>(&self, simd: S, known: Known<'_, T>, sums: &mut Sums) {
        let (Known { block, x, .. }, mut terms) = (known, [Surprise::default(); ROWS]);
        let Block { len, count, .. } = block;
        for i in 0..count {
            terms[i] = known.surprise(i);
        }
        let [rest] = simd.vectorize(
            #[inline(always)]
            || match self.targets.weight(block) {
                None => sum_rows(simd, &Rows { inputs: [x], strides: [len], len, count }, &terms),
                Some(w) => sum_rows(simd, &Rows { inputs: [x, w], strides: [len, 0], len, count }, &terms),
            },
        );
        add_each(&mut sums.rest, &rest);
    }

    /// Of probabilities.
    #[inline(never)]
    fn add_expected<S: Simd>(&self, simd: S, known: Known<'_, T>, sums: &mut Sums) {
        let (Known { block, x, q, .. }, targets, mut terms) = (known, &self.targets, [Expected::default(); ROWS]);
        let Block { len, count, .. } = block;
        for i in 0..count {
            terms[i] = Expected { surprise: known.surprise(i), keep: targets.keep, base: targets.base };
        }
        let Some(weight) = targets.weight(block) else { return };
        let [weight, loss] = simd.vectorize(
            #[inline(always)]
            || sum_rows(simd, &Rows { inputs: [x, q, weight], strides: [len, len, 0], len, count }, &terms),
        );
        add_each(&mut sums.weight, &weight);
        add_each(&mut sums.loss, &loss);
    }

    /// Each row's loss, and returns scale·W.
    #[inline(always)]
    fn finish(&self, block: Block, sums: &Sums, losses: &mut [f64]) -> OfRows {
        let (targets, mut gains) = (&self.targets, [0.0; ROWS]);
        for i in 0..block.count {
            losses[i] = 0.0;
            if targets.is_ignored(block.row + i) {
                continue;
            }
            let (mut loss, mut weight) = (sums.loss[i], sums.weight[i]);
            if targets.has_labels() && targets.base > 0.0 {
                loss += targets.base * sums.rest[i];
                weight += targets.base * targets.weight_sum;
            }
            losses[i] = loss;
            gains[i] = targets.scale * weight;
        }
        gains
    }

    #[inline(never)]
    fn write<S: Simd>(&self, simd: S, known: Known<'_, T>, exps: &Exps<T>, gains: &OfRows, dx: &mut [T]) {
        simd.vectorize(
            #[inline(always)]
            || self.write_rows(simd, known, exps, gains, dx),
        );
    }

    #[inline(always)]
    fn write_rows<S: Simd>(&self, simd: S, known: Known<'_, T>, exps: &Exps<T>, gains: &OfRows, dx: &mut [T]) {
        let (Known { block, q, totals, .. }, targets) = (known, &self.targets);
        let (rounded, len) = (T::from_f64, block.len);
        let (keep, base, scale) = (rounded(targets.keep), rounded(targets.base), rounded(targets.scale));
        for i in 0..block.count {
            let (e, dx, factor) = (exps.row(i), &mut dx[i * len..], rounded(gains[i] / totals.sum[i]));
            if targets.has_labels() {
                match targets.table(block, i) {
                    None => map_row(simd, [e], dx, len, Scale { factor }),
                    Some(table) => map_row(simd, [e, table], dx, len, Scale { factor }),
                }
                if let Some((place, weight)) = targets.label_in(block, i) {
                    dx[place] = minus(dx[place], rounded(targets.scale * weight));
                }
                continue;
            }
            let (q, formula) = (&q[i * len..], ScaleLess { factor, keep, base, scale });
            if let Some(weight) = targets.weight(block) {
                map_row(simd, [e, q, weight], dx, len, formula);
            }
        }
    }
}

/// a - b, rounded once: float64 has more than twice the digits of float32.
#[inline(always)]
fn minus<T: Math>(a: T, b: T) -> T {
    T::from_f64(a.to_f64() - b.to_f64())
}

#[inline(always)]
fn add_each(sums: &mut OfRows, others: &OfRows) {
    for i in 0..ROWS {
        sums[i] += others[i];
    }
}
