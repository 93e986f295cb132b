//! Gradients of softmax and of its logarithm, from their outputs.
//!
//! Softmax: dx = y·(dy - Σ dy·y). Its logarithm: dx = dy - exp(y)·Σ dy. The sums go over the row, in float64.

use std::ops::Range;

use fearless_simd::prelude::*;

use super::{
    Block, Kind, Shape,
    formula::{LogSoftmaxBackward, SoftmaxBackward},
    terms::Product,
};
use crate::{
    array::{Input, Output, Part},
    dispatch,
    dtype::DType,
    map::map_row,
    math::Math,
    parallel,
    row_sums::{OfRows, ROWS, Rows, SEGMENT, Value, at_once, sum_rows},
    simd::Isa,
};

/// Rows that one thread works on.
struct Piece<'a> {
    rows: Range<usize>,
    dx: Part<'a>,
}

/// The gradient of all rows from that of the output, `dy`, and the output.
pub fn backward(isa: Isa, kind: Kind, shape: Shape, [dy, y]: [&Input; 2], dx: &mut Output) {
    match y.dtype().compute() {
        DType::F64 => run::<f64>(isa, kind, shape, [dy, y], dx),
        _ => run::<f32>(isa, kind, shape, [dy, y], dx),
    }
}

fn run<T: Math>(isa: Isa, kind: Kind, shape: Shape, [dy, y]: [&Input; 2], dx: &mut Output) {
    let parts = shape.pieces().zip(dx.parts(shape.ends()));
    let mut pieces: Vec<_> = parts.map(|(rows, dx)| Piece { rows, dx }).collect();
    let backward = Backward { kind, shape, dy, y };
    parallel::for_each_mut(&mut pieces, shape.is_large(), &|_, piece| {
        dispatch!(isa, simd => backward.work_on::<_, T>(simd, piece));
    });
}

struct Backward<'a> {
    kind: Kind,
    shape: Shape,
    dy: &'a Input,
    y: &'a Input,
}

/// Room for a block in the compute type.
#[derive(Default)]
struct Room<T> {
    dy: Vec<T>,
    y: Vec<T>,
    staged: Vec<T>,
}

impl Backward<'_> {
    #[inline(always)]
    fn work_on<S: Simd, T: Math>(&self, simd: S, piece: &mut Piece<'_>) {
        let (len, step, mut room) = (self.shape.len, self.shape.batch::<S>(), Room::<T>::default());
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
        let (Room { dy, y, staged }, Block { len, count, .. }, start) = (room, block, self.shape.start(block));
        let dy = self.dy.block(simd, start, len * count, dy);
        let (y, step) = (self.y.block(simd, start, len * count, y), at_once::<S>(len));
        piece.dx.fill(
            simd,
            start,
            len * count,
            staged,
            #[inline(always)]
            |dx| {
                for first in (0..count).step_by(step) {
                    let block = Block { count: step.min(count - first), ..block };
                    let (dy, y) = (&dy[first * len..], &y[first * len..]);
                    let sums = self.sums(simd, block, dy, y);
                    self.write(simd, block, [dy, y], &sums, &mut dx[first * len..]);
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

    /// A row of several segments: read for the sum and for the gradient.
    #[inline(always)]
    fn segments<S: Simd, T: Math>(&self, simd: S, row: usize, piece: &mut Piece<'_>, room: &mut Room<T>) {
        let (Room { dy: room_dy, y: room_y, staged }, mut sums) = (room, [0.0; ROWS]);
        for block in self.shape.segments(row) {
            let start = self.shape.start(block);
            let dy = self.dy.block(simd, start, block.len, room_dy);
            let y = self.y.block(simd, start, block.len, room_y);
            sums[0] += self.sums(simd, block, dy, y)[0];
        }
        for block in self.shape.segments(row) {
            let start = self.shape.start(block);
            let dy = self.dy.block(simd, start, block.len, room_dy);
            let y = self.y.block(simd, start, block.len, room_y);
            piece.dx.fill(
                simd,
                start,
                block.len,
                staged,
                #[inline(always)]
                |dx| self.write(simd, block, [dy, y], &sums, dx),
            );
        }
    }

    #[inline(never)]
    fn sums<S: Simd, T: Math>(&self, simd: S, block: Block, dy: &[T], y: &[T]) -> OfRows {
        simd.vectorize(
            #[inline(always)]
            || self.add_up(simd, block, dy, y),
        )
    }

    #[inline(always)]
    fn add_up<S: Simd, T: Math>(&self, simd: S, Block { len, count, .. }: Block, dy: &[T], y: &[T]) -> OfRows {
        let [sums] = match self.kind {
            Kind::Softmax => {
                let rows = Rows { inputs: [dy, y], strides: [len; 2], len, count };
                sum_rows(simd, &rows, &[Product; ROWS])
            }
            Kind::LogSoftmax => sum_rows(simd, &Rows { inputs: [dy], strides: [len], len, count }, &[Value; ROWS]),
        };
        sums
    }

    #[inline(always)]
    fn write<S: Simd, T: Math>(
        &self,
        simd: S,
        Block { len, count, .. }: Block,
        [dy, y]: [&[T]; 2],
        sums: &OfRows,
        dx: &mut [T],
    ) {
        for i in 0..count {
            let (inputs, dx, sum) = ([&dy[i * len..], &y[i * len..]], &mut dx[i * len..], T::from_f64(sums[i]));
            match self.kind {
                Kind::Softmax => map_row(simd, inputs, dx, len, SoftmaxBackward { sum }),
                Kind::LogSoftmax => map_row(simd, inputs, dx, len, LogSoftmaxBackward { sum }),
            }
        }
    }
}
