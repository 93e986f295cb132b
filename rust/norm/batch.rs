//! Batch norm, forward and backward: what is made of the sums over channels.

use super::{
    channel_map::{Numbers, apply},
    channels::{self, Channels},
};
use crate::{
    array::{Input, Output},
    dispatch,
    dtype::{Compute, DType},
    simd::Isa,
};

/// What is read.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The elements.
    pub x: &'a Input,
    /// Factors of the normalized elements, one a channel.
    pub weight: Option<&'a Input>,
    /// Then added; there is a weight too.
    pub bias: Option<&'a Input>,
}

/// Running statistics, mean and variance, each as it is read and as it is written.
#[derive(Debug)]
pub struct Running<'a> {
    /// As they were.
    pub old: [&'a Input; 2],
    /// The same arrays.
    pub new: [&'a mut Output; 2],
    /// Weight of the batch.
    pub momentum: f64,
}

/// Where mean and variance come from.
#[derive(Debug)]
pub enum Statistics<'a> {
    /// The elements; running ones move towards them.
    Batch(Option<Running<'a>>),
    /// Given: mean and variance.
    Given([&'a Input; 2]),
}

/// y, mean and rstd of each channel.
pub fn forward(
    isa: Isa,
    shape: Channels,
    inputs: Inputs<'_>,
    statistics: Statistics<'_>,
    eps: f64,
    y: &mut Output,
) -> [Vec<f64>; 2] {
    let values = shape.samples * shape.inner;
    let (mean, squares) = match &statistics {
        Statistics::Batch(_) => channels::moments(isa, shape, inputs.x).into(),
        Statistics::Given([mean, variance]) => (wide(isa, mean), wide(isa, variance)),
    };
    let count = if matches!(statistics, Statistics::Batch(_)) { values.max(1) as f64 } else { 1.0 };
    let rstd: Vec<f64> = squares.iter().map(|squares| 1.0 / (squares / count + eps).sqrt()).collect();
    let Inputs { x, weight, bias } = inputs;
    apply(isa, shape, x, None, &Numbers { mean: &mean, rstd: &rstd, weight, bias, means: None }, y);
    if let Statistics::Batch(Some(Running { old, new: [new_mean, new_variance], momentum })) = statistics
        && values > 1
    {
        let unbiased: Vec<f64> = squares.iter().map(|squares| squares / (values - 1) as f64).collect();
        move_towards(isa, old[0], &mean, momentum, new_mean);
        move_towards(isa, old[1], &unbiased, momentum, new_variance);
    }
    [mean, rstd]
}

/// Writes dx if it is wanted and gives the sums of dy·x̂ and of dy of each channel; `training` if mean and rstd are those of the elements.
#[must_use]
pub fn backward(
    isa: Isa,
    shape: Channels,
    dy: &Input,
    inputs: Inputs<'_>,
    [mean, rstd]: [&[f64]; 2],
    training: bool,
    dx: Option<&mut Output>,
) -> [Vec<f64>; 2] {
    let Inputs { x, weight, .. } = inputs;
    let [sums_gx, sums_g] = channels::sums(isa, shape, dy, x, [mean, rstd]);
    let Some(dx) = dx else { return [sums_gx, sums_g] };
    let numbers = Numbers { mean, rstd, weight, bias: None, means: None };
    if training {
        let count = (shape.samples * shape.inner).max(1) as f64;
        let factors = weight.map_or_else(|| vec![1.0; shape.channels], |weight| wide(isa, weight));
        let mean_of = |sums: &[f64]| factors.iter().zip(sums).map(|(w, sum)| w * sum / count).collect::<Vec<_>>();
        let means = [mean_of(&sums_g), mean_of(&sums_gx)];
        apply(isa, shape, x, Some(dy), &Numbers { means: Some([&means[0], &means[1]]), ..numbers }, dx);
    } else {
        apply(isa, shape, dy, None, &Numbers { mean: &vec![0.0; shape.channels], ..numbers }, dx);
    }
    [sums_gx, sums_g]
}

/// Numbers of channels in float64.
fn wide(isa: Isa, input: &Input) -> Vec<f64> {
    match input.dtype().compute() {
        DType::F64 => dispatch!(isa, simd => input.to_vec(simd)),
        _ => dispatch!(isa, simd => input.to_vec::<_, f32>(simd)).into_iter().map(f64::from).collect(),
    }
}

/// old + (value - old)·momentum in float64, rounded once.
fn move_towards(isa: Isa, old: &Input, values: &[f64], momentum: f64, new: &mut Output) {
    let moved: Vec<f64> =
        wide(isa, old).iter().zip(values).map(|(old, value)| old + (value - old) * momentum).collect();
    match new.dtype().compute() {
        DType::F64 => write::<f64>(isa, &moved, new),
        _ => write::<f32>(isa, &moved, new),
    }
}

fn write<T: Compute>(isa: Isa, numbers: &[f64], out: &mut Output) {
    let len = numbers.len();
    for part in &mut out.parts(std::iter::once(len)) {
        dispatch!(isa, simd => part.fill(simd, 0, len, &mut vec![], |out: &mut [T]| {
            for (out, &number) in out.iter_mut().zip(numbers) {
                *out = T::from_f64(number);
            }
        }));
    }
}
