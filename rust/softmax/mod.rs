//! Softmax, its logarithm and the cross entropy, forward and backward, over rows.
//!
//! With m the largest element of a row, e = exp(x - m) in the compute type and s the sum of e in float64, whose shape the length
//! alone fixes: softmax is e·(1/s), its logarithm (x - m) - log(s). A row of at most a segment is read once from memory.

pub mod backward;
pub mod cross_entropy;
mod exps;
mod formula;
pub mod forward;
pub mod targets;
mod terms;

use std::ops::Range;

use fearless_simd::prelude::*;

use crate::{
    dispatch,
    row_sums::{ROWS, Rows, SEGMENT, Value, at_once, sum_rows},
    simd::Isa,
};

/// Elements of a piece of work, at least.
const PIECE: usize = 32 * 1024;

/// Pieces of a large one.
const PIECES: usize = 64;

/// Elements of short rows that are read at a time, at least.
const BATCH: usize = 2048;

/// Softmax or its logarithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// e^x over the sum of e^x.
    Softmax,
    /// The logarithm of that.
    LogSoftmax,
}

/// Rows, each on its own.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Rows.
    pub rows: usize,
    /// Elements of a row.
    pub len: usize,
}

/// Some elements of a row, or rows side by side from their first elements on.
#[derive(Clone, Copy, Debug)]
struct Block {
    row: usize,
    at: usize,
    /// Elements of each row.
    len: usize,
    /// Rows.
    count: usize,
}

impl Shape {
    /// Elements.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rows * self.len
    }

    /// Rows that are worth a turn: fixed by the shape.
    fn turn(&self) -> usize {
        let worth = (PIECE / self.len.max(1)).max(1);
        self.rows.div_ceil(PIECES).max(worth).next_multiple_of(ROWS)
    }

    const fn is_large(&self) -> bool {
        self.len() >= 2 * PIECE
    }

    /// Rows of each piece.
    fn pieces(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (rows, turn) = (self.rows, self.turn());
        (0..rows).step_by(turn).map(move |start| start..(start + turn).min(rows))
    }

    /// Where the elements of each piece end.
    fn ends(&self) -> impl Iterator<Item = usize> + use<> {
        let len = self.len;
        self.pieces().map(move |rows| rows.end * len)
    }

    /// Rows that are read at a time.
    #[inline(always)]
    fn batch<S: Simd>(&self) -> usize {
        if at_once::<S>(self.len) == 1 { 1 } else { (BATCH / self.len.max(1)).max(1).next_multiple_of(ROWS) }
    }

    /// The first element of a block in the array.
    #[inline(always)]
    const fn start(&self, block: Block) -> usize {
        block.row * self.len + block.at
    }

    /// A row segment by segment.
    fn segments(&self, row: usize) -> impl Iterator<Item = Block> + Clone + use<> {
        let len = self.len;
        (0..len).step_by(SEGMENT).map(move |at| Block { row, at, len: SEGMENT.min(len - at), count: 1 })
    }
}

/// The sum of some numbers: segment by segment from +0.0.
fn sum_of(isa: Isa, numbers: &[f64]) -> f64 {
    let mut sum = 0.0;
    for at in (0..numbers.len()).step_by(SEGMENT) {
        let part = &numbers[at..numbers.len().min(at + SEGMENT)];
        let rows = Rows { inputs: [part], strides: [0], len: part.len(), count: 1 };
        let [of_part] = dispatch!(isa, simd => sum_rows(simd, &rows, &[Value; ROWS]));
        sum += of_part[0];
    }
    sum
}
