//! Softmax and its logarithm.

use std::ops::Range;

use fearless_simd::prelude::*;

use super::{
    Block, Kind, Shape,
    exps::{Exps, Totals},
    formula::{Log, Scale},
};
use crate::{
    array::{Input, Output, Part},
    dispatch,
    dtype::DType,
    map::map_row,
    math::Math,
    parallel,
    row_sums::{SEGMENT, at_once},
    simd::Isa,
};

/// Rows that one thread works on.
struct Piece<'a> {
    rows: Range<usize>,
    y: Part<'a>,
}

/// Softmax of all rows, or its logarithm.
pub fn forward(isa: Isa, kind: Kind, shape: Shape, x: &Input, y: &mut Output) {
    match x.dtype().compute() {
        DType::F64 => run::<f64>(isa, kind, shape, x, y),
        _ => run::<f32>(isa, kind, shape, x, y),
    }
}

fn run<T: Math>(isa: Isa, kind: Kind, shape: Shape, x: &Input, y: &mut Output) {
    let parts = shape.pieces().zip(y.parts(shape.ends()));
    let mut pieces: Vec<_> = parts.map(|(rows, y)| Piece { rows, y }).collect();
    let forward = Forward { kind, shape, x };
    parallel::for_each_mut(&mut pieces, shape.is_large(), &|_, piece| {
        dispatch!(isa, simd => forward.work_on::<_, T>(simd, piece));
    });
}

struct Forward<'a> {
    kind: Kind,
    shape: Shape,
    x: &'a Input,
}

/// Room for a block in the compute type.
struct Room<T> {
    x: Vec<T>,
    exps: Exps<T>,
    staged: Vec<T>,
}

impl Forward<'_> {
    #[inline(always)]
    fn work_on<S: Simd, T: Math>(&self, simd: S, piece: &mut Piece<'_>) {
        let (len, step) = (self.shape.len, self.shape.batch::<S>());
        let exps = Exps::<T>::new(simd, len, self.kind == Kind::Softmax);
        let mut room = Room { x: vec![], exps, staged: vec![] };
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
    fn rows<S: Simd, T: Math>(&self, simd: S, block: Block, piece: &mut Piece<'_>, room: &mut Room<T>) {
        let (Room { x, exps, staged }, Block { len, count, .. }, start) = (room, block, self.shape.start(block));
        let (x, step) = (self.x.block(simd, start, len * count, x), at_once::<S>(len));
        piece.y.fill(
            simd,
            start,
            len * count,
            staged,
            #[inline(always)]
            |y| {
                for first in (0..count).step_by(step) {
                    let (x, count) = (&x[first * len..], step.min(count - first));
                    let totals = exps.of_rows(simd, x, len, count);
                    self.write(simd, Block { count, ..block }, x, (exps, &totals), &mut y[first * len..]);
                }
            },
        );
    }

    #[inline(never)]
    fn long_row<S: Simd, T: Math>(&self, simd: S, row: usize, piece: &mut Piece<'_>, room: &mut Room<T>) {
        simd.vectorize(
            #[inline(always)]
            || self.segments(simd, row, piece, room),
        );
    }

    /// A row of several segments: read for the largest element, for the sum and for the output.
    #[inline(always)]
    fn segments<S: Simd, T: Math>(&self, simd: S, row: usize, piece: &mut Piece<'_>, room: &mut Room<T>) {
        let Room { x: room, exps, staged } = room;
        let totals = exps.of_long_row(simd, self.shape, row, self.x, room);
        for block in self.shape.segments(row) {
            let start = self.shape.start(block);
            let x = self.x.block(simd, start, block.len, room);
            if self.kind == Kind::Softmax {
                exps.again(simd, x, totals.max[0]);
            }
            piece.y.fill(
                simd,
                start,
                block.len,
                staged,
                #[inline(always)]
                |y| self.write(simd, block, x, (exps, &totals), y),
            );
        }
    }

    #[inline(always)]
    fn write<S: Simd, T: Math>(
        &self,
        simd: S,
        Block { len, count, .. }: Block,
        x: &[T],
        (exps, totals): (&Exps<T>, &Totals<T>),
        y: &mut [T],
    ) {
        match self.kind {
            Kind::Softmax => {
                for i in 0..count {
                    let factor = T::from_f64(1.0 / totals.sum[i]);
                    map_row(simd, [exps.row(i)], &mut y[i * len..], len, Scale { factor });
                }
            }
            Kind::LogSoftmax => {
                let logs = totals.logs(simd);
                for i in 0..count {
                    let (max, log) = (totals.max[i], T::from_f64(logs[i]));
                    map_row(simd, [&x[i * len..]], &mut y[i * len..], len, Log { max, log });
                }
            }
        }
    }
}
