//! y = bias + weight·columns, sample by sample.

use fearless_simd::prelude::*;

use super::{
    Block, Conv, Inputs, columns,
    product::{padded, product},
};
use crate::{
    array::{Input, Output},
    dispatch,
    dtype::{Compute, DType},
    simd::Isa,
    window::passes::{self, Room},
};

/// Writes the convolution: the sum over channels and taps in order from +0.0, then the bias plus that.
pub fn forward(isa: Isa, conv: Conv, inputs: Inputs<'_>, bias: Option<&Input>, y: &mut Output) {
    match y.dtype().compute() {
        DType::F64 => forward_as::<f64>(isa, conv, inputs, bias, y),
        _ => forward_as::<f32>(isa, conv, inputs, bias, y),
    }
}

fn forward_as<T: Compute>(isa: Isa, conv: Conv, inputs: Inputs<'_>, bias: Option<&Input>, y: &mut Output) {
    let weight = dispatch!(isa, simd => inputs.weight.to_vec(simd));
    let bias = bias.map(|bias| dispatch!(isa, simd => bias.to_vec(simd)));
    let work = Forward::<T> { conv, blocks: conv.blocks(), x: inputs.x, weight, bias };
    let samples = [conv.windows.samples, conv.features * conv.windows.windows()];
    passes::run(isa, conv.is_large(), samples, y, &work);
}

struct Forward<'a, T> {
    conv: Conv,
    blocks: Vec<Block>,
    x: &'a Input,
    weight: Vec<T>,
    bias: Option<Vec<T>>,
}

impl<T: Compute> passes::Fill<T> for Forward<'_, T> {
    #[inline(always)]
    fn fill<S: Simd>(&self, simd: S, sample: usize, y: &mut [T], room: &mut Room<T>) {
        let Room { inputs: [room_x, _], columns: room, .. } = room;
        let (conv, windows) = (&self.conv, self.conv.windows.windows());
        let planes = conv.channels() * conv.windows.plane();
        for group in 0..conv.groups {
            let x = self.x.block(simd, (sample * conv.groups + group) * planes, planes, room_x);
            let first = group * conv.rows();
            let y = &mut y[first * windows..(first + conv.rows()) * windows];
            if let Some(bias) = &self.bias {
                for (i, plane) in y.chunks_exact_mut(windows.max(1)).enumerate() {
                    plane.fill(bias[first + i]);
                }
            }
            for block in &self.blocks {
                let (stride, depth) = (padded(block.len), conv.depth());
                room.resize(room.len().max(depth * stride), T::default());
                columns::unfold(conv, block, x, room, stride);
                let weight = (&self.weight[first * depth..], depth);
                let y = (&mut y[block.start..], windows);
                product(simd, [conv.rows(), block.len, depth], weight, (room, stride), y, self.bias.is_some());
            }
        }
    }
}
