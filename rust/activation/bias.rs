//! A bias that belongs to channels, for blocks of elements, and the sums of its gradient.
//!
//! Elements are counted in lines: as many samples as fit a block, or one sample where that is longer.

use fearless_simd::prelude::*;

use super::BLOCK;
use crate::{
    array::Input,
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
pub(super) struct Line {
    /// Elements, whole samples.
    pub(super) len: usize,
    /// Does each element have a number of its own, or each run of a channel?
    pub(super) has_table: bool,
    shape: Channels,
}

impl Line {
    pub(super) fn new(shape: Channels) -> Self {
        let sample = shape.channels * shape.inner;
        let len = sample * (BLOCK / sample.max(1)).max(1);
        Self { len, has_table: shape.inner == 1 || len <= TABLE, shape }
    }

    /// Numbers of a line: one for each element, or for each channel.
    pub(super) const fn numbers(&self) -> usize {
        if self.has_table { self.len } else { self.shape.channels }
    }

    /// The channel of a number.
    const fn channel(&self, number: usize) -> usize {
        if self.has_table { number / self.shape.inner % self.shape.channels } else { number }
    }
}

/// The bias as numbers of a line.
#[derive(Debug)]
pub(super) struct Bias<T> {
    line: Line,
    numbers: Vec<T>,
}

impl<T: Compute> Bias<T> {
    pub(super) fn new<S: Simd>(simd: S, line: Line, input: &Input) -> Self {
        let of_channel = input.to_vec(simd);
        Self { line, numbers: (0..line.numbers()).map(|k| of_channel[line.channel(k)]).collect() }
    }

    /// The bias of elements `at..at + len` of a line: of the table, or spread in `room`.
    #[inline(always)]
    pub(super) fn of_block<'a>(&'a self, at: usize, len: usize, room: &'a mut Vec<T>) -> &'a [T] {
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
pub(super) struct Sums {
    line: Line,
    numbers: Vec<f64>,
}

impl Sums {
    pub(super) fn new(line: Line) -> Self {
        Self { line, numbers: vec![0.0; line.numbers()] }
    }

    /// Adds elements from `at` of a line on.
    #[inline(always)]
    pub(super) fn add<S: Simd, T: Compute>(&mut self, simd: S, at: usize, terms: &[T]) {
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
    pub(super) fn add_to(&self, channels: &mut [f64]) {
        for (k, number) in self.numbers.iter().enumerate() {
            channels[self.line.channel(k)] += number;
        }
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
