//! Normalization.

use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;

use super::arrays::Fresh;
use super::call::{Arrays, ChannelShape, Four, Object, Three, channels_of, check_len, check_lengths, named};
use crate::{
    array::Output,
    error::Error,
    norm::{
        affine::Place,
        batch::{self, Running, Statistics},
        channels::Channels,
        rows::{self, Divisor, RowNorm},
        rows_backward,
    },
    simd::Isa,
};

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(norm_rows, module)?)?;
    module.add_function(wrap_pyfunction!(norm_rows_backward, module)?)?;
    module.add_function(wrap_pyfunction!(batch_norm, module)?)?;
    module.add_function(wrap_pyfunction!(batch_norm_backward, module)?)
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

/// Normalizes rows of `x`, plus `residual` if there is one: then their sum is written too. Returns each row's mean and what it was
/// multiplied by.
#[allow(clippy::too_many_arguments)]
#[pyfunction]
fn norm_rows<'py>(
    py: Python<'py>,
    owner: &str,
    written: (Object<'py>, Option<Object<'py>>),
    read: Four<'py>,
    shape: Shape,
    divisor: &str,
    eps: f64,
) -> PyResult<[Bound<'py, PyArray1<f64>>; 2]> {
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
    let [mut mean, mut rstd] = [(); 2].map(|()| Fresh::unwritten(py, norm.rows));
    let inputs = rows::Inputs { x: &x, residual: residual.as_ref(), weight: weight.as_ref(), bias: bias.as_ref() };
    let outputs = rows::Outputs { y: &mut y, sum: sum.as_mut(), mean: mean.numbers()?, rstd: rstd.numbers()? };
    py.detach(|| rows::forward(isa, norm, inputs, outputs));
    Ok([mean, rstd].map(Fresh::into_array))
}

/// The gradient of the rows from `dy`, `x`, `weight` and what is added. Returns the sums for weight and bias.
#[allow(clippy::too_many_arguments)]
#[pyfunction]
fn norm_rows_backward<'py>(
    py: Python<'py>,
    owner: &str,
    dx: Object<'py>,
    read: Four<'py>,
    statistics: (PyReadonlyArray1<'_, f64>, PyReadonlyArray1<'_, f64>),
    shape: Shape,
    divisor: &str,
) -> PyResult<[Bound<'py, PyArray1<f64>>; 2]> {
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
    let places = if weight.is_some() { norm.places() } else { 0 };
    let [mut dweight, mut dbias] = [(); 2].map(|()| Fresh::zeros(py, places));
    let inputs = rows_backward::Inputs { dy: &dy, x: &x, weight: weight.as_ref(), dsum: dsum.as_ref(), mean, rstd };
    let mut outputs = rows_backward::Outputs { dx: &mut dx, dweight: dweight.numbers()?, dbias: dbias.numbers()? };
    py.detach(|| rows_backward::backward(isa, norm, inputs, &mut outputs));
    Ok([dweight, dbias].map(Fresh::into_array))
}

/// Running mean and running variance.
type Two<'py> = (Object<'py>, Object<'py>);

/// y of `x`, `weight` and `bias`; mean and rstd of each channel. In training running statistics move, else they are used.
#[allow(clippy::too_many_arguments)]
#[pyfunction]
fn batch_norm<'py>(
    py: Python<'py>,
    owner: &str,
    out: Object<'py>,
    read: Three<'py>,
    running: Option<Two<'py>>,
    momentum: f64,
    eps: f64,
    training: bool,
    shape: ChannelShape,
) -> PyResult<[Bound<'py, PyArray1<f64>>; 2]> {
    let (isa, shape) = (Isa::current()?, channels_of(shape));
    let [mean, variance] = [running.as_ref().map(|two| &two.0), running.as_ref().map(|two| &two.1)];
    let [new_mean, new_variance] = if training { [mean, variance] } else { [None, None] };
    let written = [("out", Some(&out)), ("running_mean", new_mean), ("running_var", new_variance)];
    let read = [("x", Some(&read.0)), ("weight", read.1.as_ref()), ("bias", read.2.as_ref())];
    let [x, weight, bias] = read;
    let arrays = Arrays::new(owner, written, [x, weight, bias, ("mean", mean), ("variance", variance)])?;
    let [x, weight, bias, mean, variance] = ["x", "weight", "bias", "mean", "variance"].map(|name| arrays.input(name));
    let [out, mut new_mean, mut new_variance] = written.map(|(name, _)| arrays.output(name));
    let (Some(x), Some(mut out)) = (x, out) else { return Err(Error::Missing("x").into()) };
    check_lengths(shape.len(), [("x", Some(&x))])?;
    let of_channels = [("weight", &weight), ("bias", &bias), ("running_mean", &mean), ("running_var", &variance)];
    check_lengths(shape.channels, of_channels.map(|(name, array)| (name, array.as_ref())))?;
    check_len("out", shape.len(), out.len())?;
    let old = mean.as_ref().zip(variance.as_ref()).map(|(mean, variance)| [mean, variance]);
    let statistics = match (training, old) {
        (false, None) => return Err(Error::Missing("running_mean").into()),
        (false, Some(given)) => Statistics::Given(given),
        (true, old) => Statistics::Batch(
            old.zip(new_mean.as_mut().zip(new_variance.as_mut())).map(|(old, (new_mean, new_variance))| Running {
                old,
                new: [new_mean, new_variance],
                momentum,
            }),
        ),
    };
    let inputs = batch::Inputs { x: &x, weight: weight.as_ref(), bias: bias.as_ref() };
    let numbers = py.detach(|| batch::forward(isa, shape, inputs, statistics, eps, &mut out));
    Ok(numbers.map(|numbers| numbers.into_pyarray(py)))
}

/// dx from `dy`, `x` and `weight`, if it is wanted; the sums of dy·x̂ and of dy of each channel.
#[allow(clippy::too_many_arguments)]
#[pyfunction]
fn batch_norm_backward<'py>(
    py: Python<'py>,
    owner: &str,
    dx: Option<Object<'py>>,
    read: (Object<'py>, Object<'py>, Option<Object<'py>>),
    statistics: Pair<'py>,
    training: bool,
    shape: ChannelShape,
) -> PyResult<[Bound<'py, PyArray1<f64>>; 2]> {
    let (isa, shape) = (Isa::current()?, channels_of(shape));
    let read = [("dy", Some(&read.0)), ("x", Some(&read.1)), ("weight", read.2.as_ref())];
    let arrays = Arrays::new(owner, [("dx", dx.as_ref())], read)?;
    let [dy, x, weight] = ["dy", "x", "weight"].map(|name| arrays.input(name));
    let (Some(dy), Some(x), mut dx) = (dy, x, arrays.output("dx")) else { return Err(Error::Missing("x").into()) };
    check_lengths(shape.len(), [("dy", Some(&dy)), ("x", Some(&x))])?;
    check_lengths(shape.channels, [("weight", weight.as_ref())])?;
    check_len("dx", shape.len(), dx.as_ref().map_or(shape.len(), Output::len))?;
    let statistics = pair(&statistics, shape)?;
    let inputs = batch::Inputs { x: &x, weight: weight.as_ref(), bias: None };
    let sums = py.detach(|| batch::backward(isa, shape, &dy, inputs, statistics, training, dx.as_mut()));
    Ok(sums.map(|numbers| numbers.into_pyarray(py)))
}

/// Two numbers for each channel.
type Pair<'py> = (PyReadonlyArray1<'py, f64>, PyReadonlyArray1<'py, f64>);

fn pair<'a>(pair: &'a Pair<'_>, shape: Channels) -> PyResult<[&'a [f64]; 2]> {
    let numbers = [pair.0.as_slice()?, pair.1.as_slice()?];
    check_len("mean", shape.channels, numbers[0].len())?;
    check_len("rstd", shape.channels, numbers[1].len())?;
    Ok(numbers)
}
