//! Norms whose statistics belong to a row: layer, RMS, group, instance and weight norm, forward.

use std::ops::Range;

use fearless_simd::prelude::*;

use super::{
    LARGE, PIECE, PIECES,
    affine::{Block, Place, Weights},
    formula::Normalize,
    moments::{self, Moments},
};
use crate::{
    array::{Input, Output, Part, buffer::STAGE, reading::round_through},
    dispatch,
    dtype::{Compute, DType},
    map::{Add, Next, map, map_before},
    parallel,
    row_sums::{OfRows, ROWS, SEGMENT, at_once},
    simd::Isa,
};

/// What a row is divided by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Divisor {
    /// √(variance + eps), after the mean is taken away.
    Deviation(f64),
    /// √(mean of squares + eps)
    RootMeanSquare(f64),
    /// √(sum of squares)
    Length,
}

/// Rows that are normalized, each on its own.
#[derive(Clone, Copy, Debug)]
pub struct RowNorm {
    /// Rows.
    pub rows: usize,
    /// Elements of a row.
    pub len: usize,
    /// Which weight belongs to an element.
    pub place: Place,
    /// What a row is divided by.
    pub divisor: Divisor,
}

impl RowNorm {
    /// Weights.
    #[must_use]
    pub const fn places(&self) -> usize {
        match self.place {
            Place::Element => self.len,
            Place::Channel { groups, run } => groups * (self.len / run),
        }
    }

    pub(super) const fn is_centred(&self) -> bool {
        matches!(self.divisor, Divisor::Deviation(_))
    }

    /// 1 by what rows with these sums of squares are divided by.
    #[inline(always)]
    fn rstds<S: Simd>(&self, simd: S, squares: &OfRows, count: usize) -> OfRows {
        let mut rstds = [0.0; ROWS];
        for at in (0..count).step_by(S::f64s::LEN) {
            let squares = S::f64s::from_slice(simd, &squares[at..at + S::f64s::LEN]);
            let square = match self.divisor {
                Divisor::Deviation(eps) | Divisor::RootMeanSquare(eps) => squares / self.len as f64 + eps,
                Divisor::Length => squares,
            };
            (S::f64s::splat(simd, 1.0) / square.sqrt()).store_slice(&mut rstds[at..at + S::f64s::LEN]);
        }
        rstds
    }

    /// Rows that are worth a turn: fixed by the shape.
    pub(super) fn turn(&self) -> usize {
        let worth = (PIECE / self.len.max(1)).max(1);
        self.rows.div_ceil(PIECES).max(worth).next_multiple_of(ROWS)
    }

    pub(super) fn is_large(&self) -> bool {
        self.rows * self.len >= LARGE
    }
}

/// What is read.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The rows.
    pub x: &'a Input,
    /// Added to them before anything else, if there is one.
    pub residual: Option<&'a Input>,
    /// Factors of the normalized elements.
    pub weight: Option<&'a Input>,
    /// Then added; there is a weight too.
    pub bias: Option<&'a Input>,
}

/// What is written.
#[derive(Debug)]
pub struct Outputs<'a> {
    /// The normalized rows.
    pub y: &'a mut Output,
    /// The rows with the residual added.
    pub sum: Option<&'a mut Output>,
    /// A mean for each row.
    pub mean: &'a mut [f64],
    /// And 1 by what it was divided by.
    pub rstd: &'a mut [f64],
}

/// Rows that one thread works on.
struct Piece<'a> {
    rows: Range<usize>,
    y: Part<'a>,
    sum: Option<Part<'a>>,
    mean: &'a mut [f64],
    rstd: &'a mut [f64],
}

/// Normalizes all rows.
pub fn forward(isa: Isa, norm: RowNorm, inputs: Inputs<'_>, outputs: Outputs<'_>) {
    match inputs.x.dtype().compute() {
        DType::F64 => run::<f64>(isa, norm, inputs, outputs),
        _ => run::<f32>(isa, norm, inputs, outputs),
    }
}

fn run<T: Compute>(isa: Isa, norm: RowNorm, inputs: Inputs<'_>, outputs: Outputs<'_>) {
    let [weight, bias] =
        [inputs.weight, inputs.bias].map(|input| Some(Weights::<T>::new(isa, norm.place, norm.len, input?)));
    let forward = Forward { norm, inputs, weight, bias };
    parallel::for_each_mut(&mut pieces(&norm, outputs), norm.is_large(), &|_, piece| {
        dispatch!(isa, simd => forward.work_on(simd, piece));
    });
}

fn pieces<'a>(norm: &RowNorm, outputs: Outputs<'a>) -> Vec<Piece<'a>> {
    let turn = norm.turn();
    let starts = || (0..norm.rows).step_by(turn);
    let ends = || starts().map(|start| (start + turn).min(norm.rows) * norm.len);
    let mut sums = outputs.sum.map(|sum| sum.parts(ends()).into_iter());
    let numbers = outputs.mean.chunks_mut(turn).zip(outputs.rstd.chunks_mut(turn));
    let parts = starts().zip(outputs.y.parts(ends())).zip(numbers);
    parts
        .map(|((start, y), (mean, rstd))| {
            let sum = sums.as_mut().and_then(Iterator::next);
            Piece { rows: start..(start + turn).min(norm.rows), y, sum, mean, rstd }
        })
        .collect()
}

/// A forward pass.
struct Forward<'a, T: Compute> {
    norm: RowNorm,
    inputs: Inputs<'a>,
    weight: Option<Weights<'a, T>>,
    bias: Option<Weights<'a, T>>,
}

/// Room for what is read of a block, in the compute type.
#[derive(Default)]
struct ReadRoom<T> {
    x: Vec<T>,
    residual: Vec<T>,
    sum: Vec<T>,
}

/// Room for the rest.
#[derive(Default)]
struct Room<T> {
    y: Vec<T>,
    weight: Vec<T>,
    bias: Vec<T>,
}

type Rooms<'a, T> = (&'a mut ReadRoom<T>, &'a mut Room<T>);

impl<T: Compute> Forward<'_, T> {
    #[inline(always)]
    fn work_on<S: Simd>(&self, simd: S, piece: &mut Piece<'_>) {
        let step = at_once::<S>(self.norm.len);
        let (mut read, mut room) = (ReadRoom::default(), Room::default());
        for row in piece.rows.clone().step_by(step) {
            let count = step.min(piece.rows.end - row);
            if self.norm.len <= SEGMENT {
                self.rows(simd, row, count, piece, (&mut read, &mut room));
            } else {
                self.long_row(simd, row, piece, (&mut read, &mut room));
            }
        }
    }

    #[inline(always)]
    fn rows<S: Simd>(&self, simd: S, row: usize, count: usize, piece: &mut Piece<'_>, (read, room): Rooms<'_, T>) {
        let block = Block { row, at: 0, len: self.norm.len, count };
        let x = self.read(simd, block, read);
        let (means, squares) = moments::of_rows(simd, x, block.len, count, self.norm.is_centred());
        let rstds = self.norm.rstds(simd, &squares, count);
        let first = row - piece.rows.start;
        piece.mean[first..first + count].copy_from_slice(&means[..count]);
        piece.rstd[first..first + count].copy_from_slice(&rstds[..count]);
        self.write(simd, block, x, (&means, &rstds), piece, room);
    }

    /// A row of several segments: read once for the statistics, once more for the output.
    #[inline(never)]
    fn long_row<S: Simd>(&self, simd: S, row: usize, piece: &mut Piece<'_>, (read, room): Rooms<'_, T>) {
        let len = self.norm.len;
        let blocks = (0..len).step_by(SEGMENT).map(|at| Block { row, at, len: SEGMENT.min(len - at), count: 1 });
        let mut all = Moments::default();
        for block in blocks.clone() {
            let x = self.read(simd, block, read);
            let (means, squares) = moments::of_rows(simd, x, block.len, 1, self.norm.is_centred());
            all = all.and(Moments { count: block.len as f64, mean: means[0], squares: squares[0] });
        }
        let (mean, [rstd, ..]) = (all.mean, self.norm.rstds(simd, &[all.squares; ROWS], 1));
        piece.mean[row - piece.rows.start] = mean;
        piece.rstd[row - piece.rows.start] = rstd;
        for block in blocks {
            let x = self.read(simd, block, read);
            self.write(simd, block, x, (&[mean; ROWS], &[rstd; ROWS]), piece, room);
        }
    }

    /// The elements that are normalized.
    #[inline(always)]
    fn read<'b, S: Simd>(&'b self, simd: S, block: Block, room: &'b mut ReadRoom<T>) -> &'b [T] {
        let (start, len) = (block.row * self.norm.len + block.at, block.len * block.count);
        match self.inputs.residual {
            None => self.inputs.x.block(simd, start, len, &mut room.x),
            Some(residual) => self.read_sum(simd, residual, start, len, room),
        }
    }

    #[inline(never)]
    fn read_sum<'b, S: Simd>(
        &'b self,
        simd: S,
        residual: &'b Input,
        start: usize,
        len: usize,
        room: &'b mut ReadRoom<T>,
    ) -> &'b [T] {
        let x = self.inputs.x.block(simd, start, len, &mut room.x);
        let residual = residual.block(simd, start, len, &mut room.residual);
        room.sum.resize(len.next_multiple_of(STAGE), T::default());
        let sum = &mut room.sum[..len];
        simd.vectorize(
            #[inline(always)]
            || map(simd, [x, residual], sum, Add),
        );
        round_through(simd, self.inputs.x.dtype(), &mut room.sum);
        &room.sum[..len]
    }

    #[inline(never)]
    fn write<S: Simd>(
        &self,
        simd: S,
        block: Block,
        x: &[T],
        statistics: (&OfRows, &OfRows),
        piece: &mut Piece<'_>,
        room: &mut Room<T>,
    ) {
        simd.vectorize(
            #[inline(always)]
            || self.normalize(simd, block, x, statistics, piece, room),
        );
    }

    #[inline(always)]
    fn normalize<S: Simd>(
        &self,
        simd: S,
        block: Block,
        x: &[T],
        (means, rstds): (&OfRows, &OfRows),
        piece: &mut Piece<'_>,
        room: &mut Room<T>,
    ) {
        let start = block.row * self.norm.len + block.at;
        let weight = self.weight.as_ref().map(|weights| weights.of_block(block, &mut room.weight));
        let bias = self.bias.as_ref().map(|weights| weights.of_block(block, &mut room.bias));
        if let Some(sum) = &mut piece.sum {
            sum.fill(simd, start, x.len(), &mut room.y, |out| out.copy_from_slice(x));
        }
        piece.y.fill(
            simd,
            start,
            x.len(),
            &mut room.y,
            #[inline(always)]
            |y| {
                let next = Next { inputs: 1, after: x.len() };
                for i in 0..block.count {
                    let (x, y) = (block.row_of(i, x), &mut y[i * block.len..(i + 1) * block.len]);
                    let normalize = Normalize::new(means[i], rstds[i]);
                    match (weight, bias) {
                        (None, _) => map_before(simd, [x], y, normalize, next),
                        (Some(weight), None) => map_before(simd, [x, weight.of_row(i)], y, normalize, next),
                        (Some(weight), Some(bias)) => {
                            map_before(simd, [x, weight.of_row(i), bias.of_row(i)], y, normalize, next);
                        }
                    }
                }
            },
        );
    }
}
