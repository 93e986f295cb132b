//! One output element of each element of an array, with numbers that belong to channels.

use std::ops::Range;

use fearless_simd::prelude::*;

use super::{
    PIECE,
    channels::Channels,
    formula::{Differentiate, EachOwn, Normalize, split},
};
use crate::{
    array::{Input, Output, Part},
    dispatch,
    dtype::{Compute, DType},
    map::map,
    parallel,
    row_sums::SEGMENT,
    simd::Isa,
};

/// Numbers of the channels in float64, and weights of the compute type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers<'a> {
    /// What is taken away.
    pub(super) mean: &'a [f64],
    /// And 1 by what is divided by.
    pub(super) rstd: &'a [f64],
    /// Factors of the normalized elements.
    pub(super) weight: Option<&'a Input>,
    /// Then added; there is a weight too.
    pub(super) bias: Option<&'a Input>,
    /// Means of g and of g·x̂, to differentiate.
    pub(super) means: Option<[&'a [f64]; 2]>,
}

/// Numbers of the channels in the compute type.
struct Table<T> {
    mean: Vec<T>,
    rest: Vec<T>,
    rstd: Vec<T>,
    weight: Option<Vec<T>>,
    bias: Option<Vec<T>>,
    means: Option<[Vec<T>; 2]>,
}

impl<T: Compute> Table<T> {
    fn new(isa: Isa, numbers: &Numbers<'_>) -> Self {
        let rounded = |all: &[f64]| all.iter().map(|&x| T::from_f64(x)).collect::<Vec<_>>();
        let (mean, rest) = numbers.mean.iter().map(|&x| split::<T>(x)).map(|[mean, rest]| (mean, rest)).unzip();
        Self {
            mean,
            rest,
            rstd: rounded(numbers.rstd),
            weight: numbers.weight.map(|input| dispatch!(isa, simd => input.to_vec(simd))),
            bias: numbers.bias.map(|input| dispatch!(isa, simd => input.to_vec(simd))),
            means: numbers.means.map(|means| means.map(rounded)),
        }
    }
}

/// y of `x`, or dx of `x` and `dy` where there is one.
pub(super) fn apply(isa: Isa, shape: Channels, x: &Input, dy: Option<&Input>, numbers: &Numbers<'_>, out: &mut Output) {
    match x.dtype().compute() {
        DType::F64 => run(isa, shape, [Some(x), dy], &Table::<f64>::new(isa, numbers), out),
        _ => run(isa, shape, [Some(x), dy], &Table::<f32>::new(isa, numbers), out),
    }
}

/// Lines of one channel's elements, or of one sample's where channels are the last axis.
struct Lines<'a> {
    lines: Range<usize>,
    out: Part<'a>,
}

fn run<T: Compute>(isa: Isa, shape: Channels, inputs: [Option<&Input>; 2], table: &Table<T>, out: &mut Output) {
    let (count, len) = match shape.inner {
        1 => (shape.samples, shape.channels),
        inner => (shape.samples * shape.channels, inner),
    };
    let turn = (PIECE / len.max(1)).max(1);
    let starts = || (0..count).step_by(turn);
    let parts = out.parts(starts().map(|start| (start + turn).min(count) * len));
    let lines = |(start, out): (usize, _)| Lines { lines: start..(start + turn).min(count), out };
    let mut pieces: Vec<_> = starts().zip(parts).map(lines).collect();
    parallel::for_each_mut(&mut pieces, shape.is_large(), &|_, piece| {
        dispatch!(isa, simd => work_on(simd, shape, len, inputs, table, piece));
    });
}

#[inline(always)]
fn work_on<S: Simd, T: Compute>(
    simd: S,
    shape: Channels,
    len: usize,
    [x, dy]: [Option<&Input>; 2],
    table: &Table<T>,
    piece: &mut Lines<'_>,
) {
    let Some(x) = x else { return };
    let (mut room_x, mut room_dy, mut room) = (vec![], vec![], vec![]);
    for line in piece.lines.clone() {
        for at in (0..len).step_by(SEGMENT) {
            let (start, count) = (line * len + at, SEGMENT.min(len - at));
            let x = x.block(simd, start, count, &mut room_x);
            let dy = dy.map(|dy| dy.block(simd, start, count, &mut room_dy));
            piece.out.fill(
                simd,
                start,
                count,
                &mut room,
                #[inline(always)]
                |out| match shape.inner {
                    1 => of_sample(simd, x, dy, at, table, out),
                    _ => of_channel(simd, x, dy, line % shape.channels, table, out),
                },
            );
        }
    }
}

/// Elements of one channel.
#[inline(always)]
fn of_channel<S: Simd, T: Compute>(
    simd: S,
    x: &[T],
    dy: Option<&[T]>,
    channel: usize,
    table: &Table<T>,
    out: &mut [T],
) {
    let own = |all: &Option<Vec<T>>| all.as_ref().map(|all| all[channel]);
    let normalize = Normalize { mean: table.mean[channel], rest: table.rest[channel], rstd: table.rstd[channel] };
    let (weight, bias) = (own(&table.weight), own(&table.bias));
    let Some((dy, [mean_g, mean_gx])) = dy.zip(table.means.as_ref()) else {
        return match (weight, bias) {
            (None, _) => map(simd, [x], out, normalize),
            (Some(weight), None) => map(simd, [x], out, normalize.times(weight)),
            (Some(weight), Some(bias)) => map(simd, [x], out, normalize.times(weight).plus(bias)),
        };
    };
    let formula = Differentiate { normalize, mean_g: mean_g[channel], mean_gx: mean_gx[channel] };
    match weight {
        None => map(simd, [x, dy], out, formula),
        Some(weight) => map(simd, [x, dy], out, formula.times(weight)),
    }
}

/// Elements of one sample, a channel each, from channel `first` on.
#[inline(always)]
fn of_sample<S: Simd, T: Compute>(simd: S, x: &[T], dy: Option<&[T]>, first: usize, table: &Table<T>, out: &mut [T]) {
    let part = first..first + x.len();
    let (mean, rest, rstd) = (&table.mean[part.clone()], &table.rest[part.clone()], &table.rstd[part.clone()]);
    let (weight, bias) = (table.weight.as_ref(), table.bias.as_ref());
    let Some((dy, [mean_g, mean_gx])) = dy.zip(table.means.as_ref()) else {
        return match (weight, bias) {
            (None, _) => map(simd, [x, mean, rest, rstd], out, EachOwn),
            (Some(weight), None) => map(simd, [x, mean, rest, rstd, &weight[part]], out, EachOwn),
            (Some(weight), Some(bias)) => {
                map(simd, [x, mean, rest, rstd, &weight[part.clone()], &bias[part]], out, EachOwn);
            }
        };
    };
    let (mean_g, mean_gx) = (&mean_g[part.clone()], &mean_gx[part.clone()]);
    match weight {
        None => map(simd, [x, mean, rest, rstd, mean_g, mean_gx, dy], out, EachOwn),
        Some(weight) => map(simd, [x, mean, rest, rstd, mean_g, mean_gx, dy, &weight[part]], out, EachOwn),
    }
}
