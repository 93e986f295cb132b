//! A bias that belongs to channels, for blocks of elements, and the sums of its gradient.
//!
//! Elements are counted in lines: as many samples as fit a block, or one sample where that is longer.

use std::ops::Range;

use fearless_simd::prelude::*;

use super::{BLOCK, PIECE, PIECES};
use crate::{
    array::{Input, Output, Part},
    dtype::{Compute, load_native, store_native},
    norm::channels::Channels,
    reduce::LANES,
    row_sums::{ROWS, Rows, Value, sum_rows},
    simd::TILE_VECTORS,
};

/// Elements of the longest line that gets a table with a number for each of them.
const TABLE: usize = 64 * 1024;

/// Where the elements of a line find their channel's number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    /// Elements, whole samples.
    pub(crate) len: usize,
    /// Does each element have a number of its own, or each run of a channel?
    pub(crate) has_table: bool,
    shape: Channels,
}

impl Line {
    pub(crate) fn new(shape: Channels) -> Self {
        let sample = shape.channels * shape.inner;
        let len = sample * (BLOCK / sample.max(1)).max(1);
        Self { len, has_table: shape.inner == 1 || len <= TABLE, shape }
    }

    /// Numbers of a line: one for each element, or for each channel.
    pub(crate) const fn numbers(&self) -> usize {
        if self.has_table { self.len } else { self.shape.channels }
    }

    /// The channel of a number.
    pub(crate) const fn channel(&self, number: usize) -> usize {
        if self.has_table { number / self.shape.inner % self.shape.channels } else { number }
    }
}

/// Elements that one thread works on.
pub(crate) struct Piece<'a> {
    elements: Range<usize>,
    pub(crate) out: Part<'a>,
    pub(crate) sums: Option<Sums>,
}

impl Piece<'_> {
    /// Where its blocks begin and how many elements they have; they end where lines do.
    #[inline(always)]
    pub(crate) fn blocks(&self, line: Line) -> Blocks {
        Blocks { rest: self.elements.clone(), line: line.len }
    }
}

/// Blocks that are yet to come.
pub(crate) struct Blocks {
    rest: Range<usize>,
    line: usize,
}

impl Iterator for Blocks {
    type Item = (usize, usize);

    #[inline(always)]
    fn next(&mut self) -> Option<(usize, usize)> {
        if self.rest.is_empty() {
            return None;
        }
        let start = self.rest.start;
        let len = BLOCK.min(self.line - start % self.line).min(self.rest.len());
        self.rest.start += len;
        Some((start, len))
    }
}

/// Whole lines; parts of them where they are long and no sums belong to their elements.
pub(crate) fn pieces(line: Line, len: usize, out: &mut Output, has_sums: bool) -> Vec<Piece<'_>> {
    let worth = len.div_ceil(PIECES).max(PIECE);
    let is_cut = line.len > worth && !(has_sums && line.has_table);
    // Sums that belong to elements take more room than the elements: many lines share them.
    let least = if has_sums { 8 } else { 1 };
    let lines = (worth / line.len.max(1)).max(least) * line.len;
    let (turn, cut) = if is_cut { (line.len, worth.next_multiple_of(BLOCK)) } else { (lines, lines) };
    let mut ends = vec![];
    for start in (0..len).step_by(turn.max(1)) {
        let end = len.min(start + turn);
        ends.extend((start..end).step_by(cut).map(|at| end.min(at + cut)));
    }
    let parts = out.parts(ends.iter().copied());
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let sums = || has_sums.then(|| Sums::new(line));
    starts.zip(&ends).zip(parts).map(|((start, &end), out)| Piece { elements: start..end, out, sums: sums() }).collect()
}

/// The bias as numbers of a line.
#[derive(Debug)]
pub(crate) struct Bias<T> {
    line: Line,
    numbers: Vec<T>,
}

impl<T: Compute> Bias<T> {
    pub(crate) fn new<S: Simd>(simd: S, line: Line, input: &Input) -> Self {
        let of_channel = input.to_vec(simd);
        Self { line, numbers: (0..line.numbers()).map(|k| of_channel[line.channel(k)]).collect() }
    }

    /// The bias of elements `at..at + len` of a line: of the table, or spread in `room`.
    #[inline(always)]
    pub(crate) fn of_block<'a>(&'a self, at: usize, len: usize, room: &'a mut Vec<T>) -> &'a [T] {
        if self.line.has_table {
            return &self.numbers[at..at + len];
        }
        room.resize(room.len().max(len), T::default());
        let (inner, mut done) = (self.line.shape.inner, 0);
        while done < len {
            let run = (inner - (at + done) % inner).min(len - done);
            room[done..done + run].fill(self.numbers[(at + done) / inner]);
            done += run;
        }
        &room[..len]
    }
}

/// Sums over elements in the places of a bias: blocks one after another, from +0.0, a run of a channel in the shape of a row.
#[derive(Debug)]
pub(crate) struct Sums {
    line: Line,
    numbers: Vec<f64>,
}

impl Sums {
    fn new(line: Line) -> Self {
        Self { line, numbers: vec![0.0; line.numbers()] }
    }

    /// Adds elements from `at` of a line on.
    #[inline(always)]
    pub(crate) fn add<S: Simd, T: Compute>(&mut self, simd: S, at: usize, terms: &[T]) {
        if self.line.has_table {
            add_elements(simd, terms, &mut self.numbers[at..at + terms.len()]);
        } else {
            self.add_runs(simd, at, terms);
        }
    }

    #[inline(always)]
    fn add_runs<S: Simd, T: Compute>(&mut self, simd: S, at: usize, terms: &[T]) {
        let (inner, mut done) = (self.line.shape.inner, 0);
        while done < terms.len() {
            let len = (inner - (at + done) % inner).min(terms.len() - done);
            let rows = Rows { inputs: [&terms[done..]], strides: [0], len, count: 1 };
            let [sums] = sum_rows(simd, &rows, &[Value; ROWS]);
            self.numbers[(at + done) / inner] += sums[0];
            done += len;
        }
    }

    /// Adds all numbers to their channels.
    fn add_to(&self, channels: &mut [f64]) {
        for (k, number) in self.numbers.iter().enumerate() {
            channels[self.line.channel(k)] += number;
        }
    }
}

/// Adds what the pieces have summed up to their channels.
pub(crate) fn add_sums(pieces: &[Piece<'_>], channels: &mut [f64]) {
    for sums in pieces.iter().filter_map(|piece| piece.sums.as_ref()) {
        sums.add_to(channels);
    }
}

/// Each sum plus the term in its place.
#[inline(always)]
fn add_elements<S: Simd, T: Compute>(simd: S, terms: &[T], sums: &mut [f64]) {
    let tile = TILE_VECTORS * S::f64s::LEN;
    let whole = terms.len() - terms.len() % tile;
    for at in (0..whole).step_by(tile) {
        add_tile(simd, &terms[at..], &mut sums[at..]);
    }
    let rest = terms.len() - whole;
    if rest > 0 {
        let (mut padded, mut last) = ([T::default(); LANES], [0.0; LANES]);
        padded[..rest].copy_from_slice(&terms[whole..]);
        last[..rest].copy_from_slice(&sums[whole..]);
        add_tile(simd, &padded, &mut last);
        sums[whole..].copy_from_slice(&last[..rest]);
    }
}

#[inline(always)]
fn add_tile<S: Simd, T: Compute>(simd: S, terms: &[T], sums: &mut [f64]) {
    let (terms, mut tile) = (T::widen_slice(simd, terms, 0), load_native::<S, f64>(simd, sums, 0));
    for i in 0..TILE_VECTORS {
        tile[i] += terms[i];
    }
    store_native::<S, f64>(tile, sums, 0);
}
