//! Softmax and cross entropy.

use numpy::{PyReadonlyArray1, PyReadwriteArray1};
use pyo3::prelude::*;

use super::{
    call::{Arrays, Object, check_len, check_lengths},
    value_error,
};
use crate::{
    array::Output,
    error::Error,
    simd::Isa,
    softmax::{
        Kind, Shape, backward, cross_entropy, forward,
        targets::{Labels, Settings, Target},
    },
};

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(softmax_rows, module)?)?;
    module.add_function(wrap_pyfunction!(softmax_rows_backward, module)?)?;
    module.add_function(wrap_pyfunction!(cross_entropy_rows, module)?)?;
    module.add_function(wrap_pyfunction!(check_labels, module)?)
}

const fn kind(is_log: bool) -> Kind {
    if is_log { Kind::LogSoftmax } else { Kind::Softmax }
}

/// Softmax of (rows, elements) of `x`, or its logarithm.
#[pyfunction]
fn softmax_rows(
    py: Python<'_>,
    owner: &str,
    out: Object<'_>,
    x: Object<'_>,
    shape: (usize, usize),
    is_log: bool,
) -> PyResult<()> {
    let (isa, shape) = (Isa::current()?, Shape { rows: shape.0, len: shape.1 });
    let arrays = Arrays::new(owner, [("out", Some(&out))], [("x", Some(&x))])?;
    let (Some(x), Some(mut y)) = (arrays.input("x"), arrays.output("out")) else {
        return Err(Error::Missing("x").into());
    };
    check_len("x", shape.len(), x.len())?;
    check_len("out", shape.len(), y.len())?;
    py.detach(|| forward::forward(isa, kind(is_log), shape, &x, &mut y));
    Ok(())
}

/// The gradient from that of the output and the output.
#[pyfunction]
fn softmax_rows_backward(
    py: Python<'_>,
    owner: &str,
    dx: Object<'_>,
    dy: Object<'_>,
    y: Object<'_>,
    shape: (usize, usize),
    is_log: bool,
) -> PyResult<()> {
    let (isa, shape) = (Isa::current()?, Shape { rows: shape.0, len: shape.1 });
    let arrays = Arrays::new(owner, [("dx", Some(&dx))], [("dy", Some(&dy)), ("y", Some(&y))])?;
    let (Some(dy), Some(y), Some(mut dx)) = (arrays.input("dy"), arrays.input("y"), arrays.output("dx")) else {
        return Err(Error::Missing("dy and y").into());
    };
    check_lengths(shape.len(), [("dy", Some(&dy)), ("y", Some(&y))])?;
    check_len("dx", shape.len(), dx.len())?;
    py.detach(|| backward::backward(isa, kind(is_log), shape, [&dy, &y], &mut dx));
    Ok(())
}

/// Classes, the label of rows that do not count, and whether the classes' type was unsigned.
type Classes<'py> = (PyReadonlyArray1<'py, i64>, Option<i64>, bool);

fn labels<'a>((values, ignored, is_unsigned): &'a Classes<'_>) -> PyResult<Labels<'a>> {
    Ok(Labels { values: values.as_slice()?, is_unsigned: *is_unsigned, ignored: *ignored })
}

/// Losses of (rows, classes) of logits; `read` are the logits, the probabilities if there are no labels, and weights of the
/// classes. The gradient is written if there is an array for it. Returns the mean and what it divides by, or the sum and 1.
#[allow(clippy::too_many_arguments)]
#[pyfunction]
fn cross_entropy_rows(
    py: Python<'_>,
    owner: &str,
    losses: PyReadwriteArray1<'_, f64>,
    out: Option<Object<'_>>,
    read: (Object<'_>, Option<Object<'_>>, Option<Object<'_>>),
    classes: Option<Classes<'_>>,
    shape: (usize, usize),
    smoothing: f64,
    is_mean: bool,
) -> PyResult<(f64, f64)> {
    let (isa, shape) = (Isa::current()?, Shape { rows: shape.0, len: shape.1 });
    let inputs = [("logits", Some(&read.0)), ("labels", read.1.as_ref()), ("weight", read.2.as_ref())];
    let arrays = Arrays::new(owner, [("out", out.as_ref())], inputs)?;
    let [x, probabilities, weight] = ["logits", "labels", "weight"].map(|name| arrays.input(name));
    let (Some(x), mut dx) = (x, arrays.output("out")) else { return Err(Error::Missing("logits").into()) };
    check_lengths(shape.len(), [("logits", Some(&x)), ("labels", probabilities.as_ref())])?;
    check_lengths(shape.len, [("weight", weight.as_ref())])?;
    check_len("out", shape.len(), dx.as_ref().map_or(shape.len(), Output::len))?;
    let labels = classes.as_ref().map(labels).transpose()?;
    let target = match (labels, &probabilities) {
        (Some(labels), _) => {
            check_len("labels", shape.rows, labels.values.len())?;
            labels.check(shape.len).map_err(|error| value_error(owner, error))?;
            Target::Labels(labels)
        }
        (None, Some(probabilities)) => Target::Probabilities(probabilities),
        (None, None) => return Err(Error::Missing("labels").into()),
    };
    let mut losses = losses;
    let losses = losses.as_slice_mut()?;
    check_len("losses", shape.rows, losses.len())?;
    let settings = Settings { shape, target, weight: weight.as_ref(), smoothing, is_mean };
    Ok(py.detach(|| cross_entropy::cross_entropy(isa, &settings, &x, losses, dx.as_mut())))
}

/// Fails at the first label that is neither below `count` nor ignored.
#[pyfunction]
fn check_labels(py: Python<'_>, owner: &str, classes: Classes<'_>, count: usize) -> PyResult<()> {
    let labels = labels(&classes)?;
    py.detach(|| labels.check(count)).map_err(|error| value_error(owner, error))
}
