//! Normalization.

use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1, PyReadwriteArray1};
use pyo3::prelude::*;

use super::call::{Arrays, ChannelShape, Four, Object, channels_of, check_len, check_lengths, named};
use crate::{
    array::Output,
    error::Error,
    norm::{
        affine::Place,
        batch::{self, Numbers},
        channels::{self, Channels},
        rows::{self, Divisor, RowNorm},
        rows_backward,
    },
    simd::Isa,
};

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(norm_rows, module)?)?;
    module.add_function(wrap_pyfunction!(norm_rows_backward, module)?)?;
    module.add_function(wrap_pyfunction!(channel_moments, module)?)?;
    module.add_function(wrap_pyfunction!(channel_sums, module)?)?;
    module.add_function(wrap_pyfunction!(channel_apply, module)?)
}

/// Rows, their elements, rows a sample and elements of a channel in a row; the last two are 0 if weights belong to elements.
type Shape = (usize, usize, usize, usize);

fn row_norm((rows, len, groups, run): Shape, divisor: &str, eps: f64) -> PyResult<RowNorm> {
    let place = if run == 0 { Place::Element } else { Place::Channel { groups, run } };
    let divisor = match divisor {
        "deviation" => Divisor::Deviation(eps),
        "root_mean_square" => Divisor::RootMeanSquare(eps),
        "length" => Divisor::Length,
        _ => return Err(Error::UnknownDivisor(divisor.to_owned()).into()),
    };
    Ok(RowNorm { rows, len, place, divisor })
}

/// Normalizes rows of `x`, plus `residual` if there is one: then their sum is written too. `statistics` become each row's mean and
/// what it was multiplied by.
#[allow(clippy::too_many_arguments)]
#[pyfunction]
fn norm_rows(
    py: Python<'_>,
    owner: &str,
    written: (Object<'_>, Option<Object<'_>>),
    read: Four<'_>,
    statistics: (PyReadwriteArray1<'_, f64>, PyReadwriteArray1<'_, f64>),
    shape: Shape,
    divisor: &str,
    eps: f64,
) -> PyResult<()> {
    let (isa, norm) = (Isa::current()?, row_norm(shape, divisor, eps)?);
    let names = ["x", "residual", "weight", "bias"];
    let arrays = Arrays::new(owner, [("out", Some(&written.0)), ("sum", written.1.as_ref())], named(names, &read))?;
    let [x, residual, weight, bias] = names.map(|name| arrays.input(name));
    let [y, mut sum] = ["out", "sum"].map(|name| arrays.output(name));
    let (Some(x), Some(mut y)) = (x, y) else { return Err(Error::Missing("x").into()) };
    let elements = norm.rows * norm.len;
    check_lengths(elements, [("x", Some(&x)), ("residual", residual.as_ref())])?;
    check_lengths(norm.places(), [("weight", weight.as_ref()), ("bias", bias.as_ref())])?;
    check_len("out", elements, y.len())?;
    check_len("sum", elements, sum.as_ref().map_or(elements, Output::len))?;
    let (mut mean, mut rstd) = statistics;
    let (mean, rstd) = (mean.as_slice_mut()?, rstd.as_slice_mut()?);
    check_len("mean", norm.rows, mean.len())?;
    check_len("rstd", norm.rows, rstd.len())?;
    let inputs = rows::Inputs { x: &x, residual: residual.as_ref(), weight: weight.as_ref(), bias: bias.as_ref() };
    let outputs = rows::Outputs { y: &mut y, sum: sum.as_mut(), mean, rstd };
    py.detach(|| rows::forward(isa, norm, inputs, outputs));
    Ok(())
}

/// The gradient of the rows from `dy`, `x`, `weight` and what is added; `sums` become those for weight and bias, in float64.
#[allow(clippy::too_many_arguments)]
#[pyfunction]
fn norm_rows_backward(
    py: Python<'_>,
    owner: &str,
    dx: Object<'_>,
    read: Four<'_>,
    statistics: (PyReadonlyArray1<'_, f64>, PyReadonlyArray1<'_, f64>),
    sums: (PyReadwriteArray1<'_, f64>, PyReadwriteArray1<'_, f64>),
    shape: Shape,
    divisor: &str,
) -> PyResult<()> {
    let (isa, norm) = (Isa::current()?, row_norm(shape, divisor, 0.0)?);
    let names = ["dy", "x", "weight", "dh"];
    let arrays = Arrays::new(owner, [("dx", Some(&dx))], named(names, &read))?;
    let [dy, x, weight, dsum] = names.map(|name| arrays.input(name));
    let (Some(dy), Some(x), Some(mut dx)) = (dy, x, arrays.output("dx")) else {
        return Err(Error::Missing("x and dy").into());
    };
    let elements = norm.rows * norm.len;
    check_lengths(elements, [("dy", Some(&dy)), ("x", Some(&x)), ("dh", dsum.as_ref())])?;
    check_lengths(norm.places(), [("weight", weight.as_ref())])?;
    check_len("dx", elements, dx.len())?;
    let (mean, rstd) = (statistics.0.as_slice()?, statistics.1.as_slice()?);
    check_len("mean", norm.rows, mean.len())?;
    check_len("rstd", norm.rows, rstd.len())?;
    let (mut dweight, mut dbias) = sums;
    let (dweight, dbias) = (dweight.as_slice_mut()?, dbias.as_slice_mut()?);
    let places = if weight.is_some() { norm.places() } else { 0 };
    check_len("dweight", places, dweight.len())?;
    check_len("dbias", places, dbias.len())?;
    let inputs = rows_backward::Inputs { dy: &dy, x: &x, weight: weight.as_ref(), dsum: dsum.as_ref(), mean, rstd };
    let mut outputs = rows_backward::Outputs { dx: &mut dx, dweight, dbias };
    py.detach(|| rows_backward::backward(isa, norm, inputs, &mut outputs));
    Ok(())
}

/// For each channel of `x` the mean and the centred sum of squares.
#[pyfunction]
fn channel_moments<'py>(
    py: Python<'py>,
    owner: &str,
    x: Object<'py>,
    shape: ChannelShape,
) -> PyResult<[Bound<'py, PyArray1<f64>>; 2]> {
    let (isa, shape) = (Isa::current()?, channels_of(shape));
    let arrays = Arrays::new(owner, [], [("x", Some(&x))])?;
    let Some(x) = arrays.input("x") else { return Err(Error::Missing("x").into()) };
    check_len("x", shape.len(), x.len())?;
    Ok(py.detach(|| channels::moments(isa, shape, &x)).map(|numbers| numbers.into_pyarray(py)))
}

/// For each channel the sums of dy·x̂ and of dy.
#[pyfunction]
fn channel_sums<'py>(
    py: Python<'py>,
    owner: &str,
    dy: Object<'py>,
    x: Object<'py>,
    statistics: Pair<'py>,
    shape: ChannelShape,
) -> PyResult<[Bound<'py, PyArray1<f64>>; 2]> {
    let (isa, shape) = (Isa::current()?, channels_of(shape));
    let arrays = Arrays::new(owner, [], [("dy", Some(&dy)), ("x", Some(&x))])?;
    let (Some(dy), Some(x)) = (arrays.input("dy"), arrays.input("x")) else { return Err(Error::Missing("x").into()) };
    check_lengths(shape.len(), [("dy", Some(&dy)), ("x", Some(&x))])?;
    let statistics = pair(&statistics, shape)?;
    Ok(py.detach(|| channels::sums(isa, shape, &dy, &x, statistics)).map(|numbers| numbers.into_pyarray(py)))
}

/// Two numbers for each channel.
type Pair<'py> = (PyReadonlyArray1<'py, f64>, PyReadonlyArray1<'py, f64>);

/// x̂·weight + bias of `x`, or with `means` its gradient from `dy`.
#[allow(clippy::too_many_arguments)]
#[pyfunction]
fn channel_apply(
    py: Python<'_>,
    owner: &str,
    out: Object<'_>,
    read: Four<'_>,
    statistics: Pair<'_>,
    means: Option<Pair<'_>>,
    shape: ChannelShape,
) -> PyResult<()> {
    let (isa, shape) = (Isa::current()?, channels_of(shape));
    let names = ["x", "dy", "weight", "bias"];
    let arrays = Arrays::new(owner, [("out", Some(&out))], named(names, &read))?;
    let [x, dy, weight, bias] = names.map(|name| arrays.input(name));
    let (Some(x), Some(mut out)) = (x, arrays.output("out")) else { return Err(Error::Missing("x").into()) };
    check_lengths(shape.len(), [("x", Some(&x)), ("dy", dy.as_ref())])?;
    check_lengths(shape.channels, [("weight", weight.as_ref()), ("bias", bias.as_ref())])?;
    check_len("out", shape.len(), out.len())?;
    let [mean, rstd] = pair(&statistics, shape)?;
    let means = means.as_ref().map(|means| pair(means, shape)).transpose()?;
    let numbers = Numbers { mean, rstd, weight: weight.as_ref(), bias: bias.as_ref(), means };
    py.detach(|| batch::apply(isa, shape, &x, dy.as_ref(), &numbers, &mut out));
    Ok(())
}

fn pair<'a>(pair: &'a Pair<'_>, shape: Channels) -> PyResult<[&'a [f64]; 2]> {
    let numbers = [pair.0.as_slice()?, pair.1.as_slice()?];
    check_len("mean", shape.channels, numbers[0].len())?;
    check_len("rstd", shape.channels, numbers[1].len())?;
    Ok(numbers)
}
