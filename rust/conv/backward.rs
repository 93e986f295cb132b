//! Gradients of a convolution: dx is weightᵀ·dy, folded; dweightᵀ is columns·dyᵀ.

use std::ops::Range;

use fearless_simd::prelude::*;

use super::{
    Block, Conv, columns,
    product::{padded, product},
};
use crate::{
    array::{Input, Output},
    dispatch,
    dtype::{Compute, DType},
    parallel,
    simd::Isa,
    window::passes::{self, Room},
};

/// Writes to each element of `dx` the sum over the windows that met it: block by block from +0.0, in the order of taps.
pub fn dx(isa: Isa, conv: Conv, weight: &Input, dy: &Input, dx: &mut Output) {
    match dx.dtype().compute() {
        DType::F64 => dx_as::<f64>(isa, conv, weight, dy, dx),
        _ => dx_as::<f32>(isa, conv, weight, dy, dx),
    }
}

fn dx_as<T: Compute>(isa: Isa, conv: Conv, weight: &Input, dy: &Input, dx: &mut Output) {
    let (depth, rows) = (conv.depth(), conv.rows());
    let weight: Vec<T> = dispatch!(isa, simd => weight.to_vec(simd));
    let transposed = (0..weight.len()).map(|at| {
        let (group, k, row) = (at / (depth * rows), at / rows % depth, at % rows);
        weight[(group * rows + row) * depth + k]
    });
    let work = InputGradient { conv, blocks: conv.blocks(), weight: transposed.collect(), dy };
    let samples = [conv.windows.samples, conv.windows.channels * conv.windows.plane()];
    passes::run(isa, conv.is_large(), samples, dx, &work);
}

struct InputGradient<'a, T> {
    conv: Conv,
    blocks: Vec<Block>,
    /// For each group (depth, rows).
    weight: Vec<T>,
    dy: &'a Input,
}

impl<T: Compute> passes::Fill<T> for InputGradient<'_, T> {
    #[inline(always)]
    fn fill<S: Simd>(&self, simd: S, sample: usize, dx: &mut [T], room: &mut Room<T>) {
        let Room { inputs: [room_dy, _], values, columns: room, .. } = room;
        let (conv, depth, rows) = (&self.conv, self.conv.depth(), self.conv.rows());
        let (windows, planes) = (conv.windows.windows(), conv.channels() * conv.windows.plane());
        for group in 0..conv.groups {
            let dy = self.dy.block(simd, (sample * conv.groups + group) * rows * windows, rows * windows, room_dy);
            let dx = &mut dx[group * planes..(group + 1) * planes];
            dx.fill(T::default());
            for block in &self.blocks {
                let stride = padded(block.len);
                values.resize(values.len().max(rows * stride), T::default());
                room.resize(room.len().max(depth * stride), T::default());
                for row in 0..rows {
                    let dy = &dy[row * windows + block.start..row * windows + block.start + block.len];
                    values[row * stride..row * stride + block.len].copy_from_slice(dy);
                }
                let weight = (&self.weight[group * depth * rows..], rows);
                product(simd, [depth, block.len, rows], weight, (values, stride), (room, stride), false);
                columns::fold(conv, block, room, stride, dx);
            }
        }
    }
}

/// Writes the gradients of weight and bias: sums over the windows of a block, then over blocks and samples of a share, then over
/// shares, each in order.
pub fn dweight(isa: Isa, conv: Conv, x: &Input, dy: &Input, outputs: [Option<&mut Output>; 2]) {
    match x.dtype().compute() {
        DType::F64 => dweight_as::<f64>(isa, conv, [x, dy], outputs),
        _ => dweight_as::<f32>(isa, conv, [x, dy], outputs),
    }
}

/// Shares of a batch, at most, and the elements that all their sums may take.
const SHARES: usize = 16;
const SUMS: usize = 8 * 1024 * 1024;

/// Some samples and their sums: for each group (depth and a row for the bias, padded rows).
struct Share<T> {
    samples: Range<usize>,
    sums: Vec<T>,
}

fn dweight_as<T: Compute>(isa: Isa, conv: Conv, inputs: [&Input; 2], outputs: [Option<&mut Output>; 2]) {
    let (samples, len) = (conv.windows.samples, conv.groups * (conv.depth() + 1) * padded(conv.rows()));
    let count = (SUMS / len.max(1)).clamp(2, SHARES);
    let each = samples.div_ceil(count).max(1);
    let share = |start: usize| Share { samples: start..samples.min(start + each), sums: vec![] };
    let mut shares: Vec<_> = (0..samples).step_by(each).map(share).collect();
    let work = WeightGradient { conv, blocks: conv.blocks(), inputs };
    parallel::for_each_mut(&mut shares, conv.is_large(), &|_, share| {
        share.sums = vec![T::default(); len];
        dispatch!(isa, simd => work.add_up(simd, share));
    });
    let mut all = vec![T::default(); len];
    for share in &shares {
        for (sum, part) in all.iter_mut().zip(&share.sums) {
            *sum += *part;
        }
    }
    for (output, of_bias) in outputs.into_iter().zip([false, true]) {
        if let Some(output) = output {
            dispatch!(isa, simd => put(simd, &conv, &all, of_bias, output));
        }
    }
}

/// Writes one gradient: of features, or of features and depth.
#[inline(always)]
fn put<S: Simd, T: Compute>(simd: S, conv: &Conv, sums: &[T], of_bias: bool, output: &mut Output) {
    let (depth, rows, stride) = (conv.depth(), conv.rows(), padded(conv.rows()));
    let taps = if of_bias { depth..depth + 1 } else { 0..depth };
    let mut grad = Vec::with_capacity(output.len());
    for feature in 0..conv.features {
        let sums = &sums[feature / rows * (depth + 1) * stride + feature % rows..];
        grad.extend(taps.clone().map(|k| sums[k * stride]));
    }
    for part in &mut output.parts(std::iter::once(grad.len())) {
        part.put(simd, 0, &grad);
    }
}

struct WeightGradient<'a> {
    conv: Conv,
    blocks: Vec<Block>,
    inputs: [&'a Input; 2],
}

impl WeightGradient<'_> {
    #[inline(always)]
    fn add_up<S: Simd, T: Compute>(&self, simd: S, share: &mut Share<T>) {
        let mut room = Room::default();
        let (depth, stride) = (self.conv.depth() + 1, padded(self.conv.rows()));
        for sample in share.samples.clone() {
            for group in 0..self.conv.groups {
                let sums = &mut share.sums[group * depth * stride..(group + 1) * depth * stride];
                self.add_group(simd, sample * self.conv.groups + group, sums, &mut room);
            }
        }
    }

    /// Adds what a group of a sample gives.
    #[inline(always)]
    fn add_group<S: Simd, T: Compute>(&self, simd: S, index: usize, sums: &mut [T], room: &mut Room<T>) {
        let Room { inputs: [room_x, room_dy], values, columns: room, .. } = room;
        let (conv, depth, rows) = (&self.conv, self.conv.depth(), self.conv.rows());
        let (planes, outputs) = (conv.channels() * conv.windows.plane(), rows * conv.windows.windows());
        let x = self.inputs[0].block(simd, index * planes, planes, room_x);
        let dy = self.inputs[1].block(simd, index * outputs, outputs, room_dy);
        let high = padded(rows);
        for block in &self.blocks {
            let stride = padded(block.len);
            room.resize(room.len().max((depth + 1) * stride), T::default());
            values.resize(values.len().max(block.len * high), T::default());
            columns::unfold(conv, block, x, room, stride);
            // The bias is the weight of a tap that always meets 1.
            room[depth * stride..][..block.len].fill(T::from_f64(1.0));
            transpose(&dy[block.start..], conv.windows.windows(), [rows, block.len], values, high);
            product(simd, [depth + 1, rows, block.len], (room, stride), (values, high), (sums, high), true);
        }
    }
}

/// Rows become columns.
#[inline(always)]
fn transpose<T: Compute>(from: &[T], pitch: usize, [rows, columns]: [usize; 2], to: &mut [T], stride: usize) {
    for (i, to) in to.chunks_exact_mut(stride).take(columns).enumerate() {
        for row in 0..rows {
            to[row] = from[row * pitch + i];
        }
    }
}
