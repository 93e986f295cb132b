//! Statistics and gradients of channels over all samples (batch norm): an array of (samples, channels, inner).
//!
//! A piece is some samples of some channels, fixed by the shape. Within it a channel's values follow each other sample by sample
//! (by blocks of 64 samples where channels are the last axis), pieces follow each other.

use std::ops::Range;

use fearless_simd::prelude::*;

use super::{
    LARGE, PIECE, PIECES,
    columns::{self, HEIGHT, Strip},
    moments::{self, Merge, Moments},
    products::Products,
};
use crate::{
    array::Input,
    dispatch,
    dtype::{Compute, DType},
    parallel,
    reduce::LANES,
    row_sums::{ROWS, Rows, SEGMENT, at_once, sum_rows},
    simd::Isa,
};

/// An array of (samples, channels, inner).
#[derive(Clone, Copy, Debug)]
pub struct Channels {
    /// Samples.
    pub samples: usize,
    /// Channels.
    pub channels: usize,
    /// Elements of a channel in a sample.
    pub inner: usize,
}

/// Some samples of some channels.
#[derive(Clone, Debug)]
struct Piece {
    samples: Range<usize>,
    channels: Range<usize>,
    /// Two numbers for each channel, made by the thread that fills them, in whose cache they then are.
    all: [Vec<f64>; 2],
}

impl Channels {
    /// Elements.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.samples * self.channels * self.inner
    }

    /// Is it worth more than one thread?
    pub(super) const fn is_large(&self) -> bool {
        self.len() >= LARGE
    }

    /// Samples first; channels too where there are few samples and many elements of each channel or many channels.
    fn pieces(&self) -> Vec<Piece> {
        let worth = self.len().div_ceil(PIECES).max(PIECE);
        let (tall, broad) = if self.inner == 1 { self.rectangle(worth) } else { self.runs(worth) };
        let mut pieces = vec![];
        for first in (0..self.channels).step_by(broad.max(1)) {
            let channels = first..self.channels.min(first + broad);
            for start in (0..self.samples).step_by(tall) {
                let samples = start..self.samples.min(start + tall);
                pieces.push(Piece { samples, channels: channels.clone(), all: [vec![], vec![]] });
            }
        }
        pieces
    }

    /// Samples and channels of a piece where each sample has one element of a channel. What a piece leaves for each channel goes
    /// from core to core: few samples are not cut, and many channels are.
    fn rectangle(&self, worth: usize) -> (usize, usize) {
        if self.samples <= FEW {
            return (FEW, (worth / self.samples.max(1)).next_multiple_of(LANES).max(LANES));
        }
        let broad = self.channels.clamp(1, BROAD);
        (worth.div_ceil(broad).next_multiple_of(HEIGHT), broad)
    }

    /// The same where each sample has several.
    fn runs(&self, worth: usize) -> (usize, usize) {
        let tall = worth.div_ceil((self.channels * self.inner).max(1));
        (tall, worth.div_ceil(self.inner.max(1) * tall).max(ROWS))
    }
}

/// Samples that are not cut into pieces.
const FEW: usize = 8 * HEIGHT;

/// Channels of a piece at most, so that it has samples enough for each.
const BROAD: usize = 1024;

/// For each channel the mean and the centred sum of squares of its values.
#[must_use]
pub fn moments(isa: Isa, shape: Channels, x: &Input) -> [Vec<f64>; 2] {
    match x.dtype().compute() {
        DType::F64 => moments_as::<f64>(isa, shape, x),
        _ => moments_as::<f32>(isa, shape, x),
    }
}

fn moments_as<T: Compute>(isa: Isa, shape: Channels, x: &Input) -> [Vec<f64>; 2] {
    let mut pieces = shape.pieces();
    parallel::for_each_mut(&mut pieces, shape.is_large(), &|_, piece| {
        dispatch!(isa, simd => piece.all = measure::<_, T>(simd, shape, x, piece));
    });
    let mut all = [vec![0.0; shape.channels], vec![0.0; shape.channels]];
    dispatch!(isa, _simd => merge(shape, &pieces, &mut all));
    all
}

/// Pieces of the same channels follow each other in the order of their samples.
#[inline(always)]
fn merge(shape: Channels, pieces: &[Piece], [means, squares]: &mut [Vec<f64>; 2]) {
    for piece in pieces {
        let count = |samples: usize| (samples * shape.inner) as f64;
        let (channels, len) = (piece.channels.clone(), piece.channels.len());
        let all = [&mut means[channels.clone()], &mut squares[channels]];
        Merge::new(count(piece.samples.start), count(piece.samples.len()))
            .add(all, [&piece.all[0][..len], &piece.all[1][..len]]);
    }
}

/// Mean and centred sum of squares of each channel of a piece.
#[inline(always)]
fn measure<S: Simd, T: Compute>(simd: S, shape: Channels, x: &Input, piece: &Piece) -> [Vec<f64>; 2] {
    if shape.inner != 1 {
        return measure_runs::<S, T>(simd, shape, x, piece);
    }
    let (mut room, width) = ([vec![], vec![]], piece.channels.len());
    let [mut means, mut squares] = [columns::room(width), columns::room(width)];
    for first in piece.samples.clone().step_by(HEIGHT) {
        let rows = [first, HEIGHT.min(piece.samples.end - first)];
        let strip = Strip::<T>::new(simd, x, rows, shape.channels, [piece.channels.start, width], &mut room);
        columns::add_moments(simd, strip, first - piece.samples.start, [&mut means, &mut squares]);
    }
    [means, squares]
}

/// The same where a channel has several elements in a sample.
#[inline(always)]
fn measure_runs<S: Simd, T: Compute>(simd: S, shape: Channels, x: &Input, piece: &Piece) -> [Vec<f64>; 2] {
    let (mut room, mut all) = (vec![], vec![Moments::default(); piece.channels.len()]);
    for run in Runs::<S>::new(shape, piece.samples.clone(), piece.channels.clone()) {
        let block = x.block::<S, T>(simd, run.start, run.len * run.count, &mut room);
        let (means, squares) = moments::of_rows(simd, block, run.len, run.count, true);
        for i in 0..run.count {
            let moments = &mut all[run.channel - piece.channels.start + i];
            *moments = moments.and(Moments { count: run.len as f64, mean: means[i], squares: squares[i] });
        }
    }
    [all.iter().map(|moments| moments.mean).collect(), all.iter().map(|moments| moments.squares).collect()]
}

/// The runs of a piece: a sample's values of a channel, or of several if they are short, or a segment of them if they are long.
struct Run {
    channel: usize,
    /// Channels.
    count: usize,
    /// First element of the array.
    start: usize,
    /// Elements of each channel.
    len: usize,
}

struct Runs<S> {
    shape: Channels,
    samples: Range<usize>,
    channels: Range<usize>,
    channel: usize,
    at: usize,
    level: std::marker::PhantomData<S>,
}

impl<S: Simd> Runs<S> {
    fn new(shape: Channels, samples: Range<usize>, channels: Range<usize>) -> Self {
        Self { shape, samples, channel: channels.start, channels, at: 0, level: std::marker::PhantomData }
    }
}

impl<S: Simd> Iterator for Runs<S> {
    type Item = Run;

    #[inline(always)]
    fn next(&mut self) -> Option<Run> {
        let (inner, channel, at) = (self.shape.inner, self.channel, self.at);
        if self.samples.is_empty() || inner == 0 {
            return None;
        }
        let count = at_once::<S>(inner).min(self.channels.end - channel);
        let start = (self.samples.start * self.shape.channels + channel) * inner + at;
        let len = SEGMENT.min(inner - at);
        self.at += len;
        if self.at == inner {
            (self.at, self.channel) = (0, channel + count);
        }
        if self.channel == self.channels.end {
            (self.channel, self.samples.start) = (self.channels.start, self.samples.start + 1);
        }
        Some(Run { channel, count, start, len })
    }
}

/// For each channel the sums of dy·x̂ and of dy.
#[must_use]
pub fn sums(isa: Isa, shape: Channels, dy: &Input, x: &Input, [mean, rstd]: [&[f64]; 2]) -> [Vec<f64>; 2] {
    match x.dtype().compute() {
        DType::F64 => sums_as::<f64>(isa, shape, [dy, x], [mean, rstd]),
        _ => sums_as::<f32>(isa, shape, [dy, x], [mean, rstd]),
    }
}

fn sums_as<T: Compute>(isa: Isa, shape: Channels, inputs: [&Input; 2], statistics: [&[f64]; 2]) -> [Vec<f64>; 2] {
    let mut padded = [columns::room(shape.channels), columns::room(shape.channels)];
    for (padded, numbers) in padded.iter_mut().zip(statistics) {
        padded[..shape.channels].copy_from_slice(numbers);
    }
    let statistics = [&padded[0][..], &padded[1][..]];
    let mut pieces = shape.pieces();
    parallel::for_each_mut(&mut pieces, shape.is_large(), &|_, piece| {
        dispatch!(isa, simd => add_up::<_, T>(simd, shape, inputs, statistics, piece));
    });
    let mut all = [vec![0.0; shape.channels], vec![0.0; shape.channels]];
    for piece in &pieces {
        for (all, part) in all.iter_mut().zip(&piece.all) {
            for (sum, part) in all[piece.channels.clone()].iter_mut().zip(part) {
                *sum += part;
            }
        }
    }
    all
}

#[inline(always)]
fn add_up<S: Simd, T: Compute>(
    simd: S,
    shape: Channels,
    [dy, x]: [&Input; 2],
    statistics: [&[f64]; 2],
    piece: &mut Piece,
) {
    let (mut room_dy, mut room_x) = ([vec![], vec![]], [vec![], vec![]]);
    piece.all = [columns::room(piece.channels.len()), columns::room(piece.channels.len())];
    let [sums_gx, sums_g] = &mut piece.all;
    if shape.inner == 1 {
        let (first_channel, width) = (piece.channels.start, piece.channels.len());
        let statistics = [&statistics[0][first_channel..], &statistics[1][first_channel..]];
        for first in piece.samples.clone().step_by(HEIGHT) {
            let (rows, columns) = ([first, HEIGHT.min(piece.samples.end - first)], [first_channel, width]);
            let dy = Strip::<T>::new(simd, dy, rows, shape.channels, columns, &mut room_dy);
            let x = Strip::<T>::new(simd, x, rows, shape.channels, columns, &mut room_x);
            columns::add_products(simd, [dy, x], statistics, [sums_gx, sums_g]);
        }
        return;
    }
    for run in Runs::<S>::new(shape, piece.samples.clone(), piece.channels.clone()) {
        let dy = dy.block::<S, T>(simd, run.start, run.len * run.count, &mut room_dy[0]);
        let x = x.block::<S, T>(simd, run.start, run.len * run.count, &mut room_x[0]);
        let mut products = [Products::default(); ROWS];
        for i in 0..run.count {
            products[i] = Products { mean: statistics[0][run.channel + i], rstd: statistics[1][run.channel + i] };
        }
        let rows = Rows { inputs: [dy, x], strides: [run.len; 2], len: run.len, count: run.count };
        let [g, gx] = sum_rows(simd, &rows, &products);
        for i in 0..run.count {
            let place = run.channel - piece.channels.start + i;
            sums_gx[place] += gx[i];
            sums_g[place] += g[i];
        }
    }
}
