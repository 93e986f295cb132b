//! Pools.

use pyo3::prelude::*;

use super::call::{Arrays, Object, check_len};
use crate::{
    array::{Input, Output},
    error::Error,
    simd::Isa,
    window::{Axis, Windows, average, max},
};

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(max_pool, module)?)?;
    module.add_function(wrap_pyfunction!(max_pool_backward, module)?)?;
    module.add_function(wrap_pyfunction!(average_pool, module)?)?;
    module.add_function(wrap_pyfunction!(average_pool_backward, module)?)
}

/// Length, kernel, stride, padding and dilation of an axis.
type AxisShape = (usize, usize, usize, usize, usize);

/// Samples and channels, rows, columns.
pub(super) type WindowShape = ((usize, usize), AxisShape, AxisShape);

pub(super) fn windows_of(((samples, channels), rows, columns): WindowShape) -> Windows {
    let axes = [rows, columns].map(|(input, kernel, stride, padding, dilation)| Axis {
        input,
        kernel,
        stride,
        padding,
        dilation,
    });
    Windows { samples, channels, axes }
}

/// What is read, which must have so many elements.
pub(super) fn input(arrays: &Arrays, name: &'static str, len: usize) -> PyResult<Input> {
    let input = arrays.input(name).ok_or(Error::Missing(name))?;
    check_len(name, len, input.len())?;
    Ok(input)
}

/// The same for what is written.
pub(super) fn output(arrays: &Arrays, name: &'static str, len: usize) -> PyResult<Output> {
    let output = arrays.output(name).ok_or(Error::Missing(name))?;
    check_len(name, len, output.len())?;
    Ok(output)
}

/// The largest element of each window.
#[pyfunction]
fn max_pool(py: Python<'_>, owner: &str, out: Object<'_>, x: Object<'_>, shape: WindowShape) -> PyResult<()> {
    let (isa, windows) = (Isa::current()?, windows_of(shape));
    let arrays = Arrays::new(owner, [("out", Some(&out))], [("x", Some(&x))])?;
    let x = input(&arrays, "x", windows.planes() * windows.plane())?;
    let mut out = output(&arrays, "out", windows.planes() * windows.windows())?;
    py.detach(|| max::forward(isa, windows, &x, &mut out));
    Ok(())
}

/// The gradient from the input and that of the output.
#[pyfunction]
fn max_pool_backward(
    py: Python<'_>,
    owner: &str,
    dx: Object<'_>,
    x: Object<'_>,
    dy: Object<'_>,
    shape: WindowShape,
) -> PyResult<()> {
    let (isa, windows) = (Isa::current()?, windows_of(shape));
    let arrays = Arrays::new(owner, [("dx", Some(&dx))], [("x", Some(&x)), ("dy", Some(&dy))])?;
    let x = input(&arrays, "x", windows.planes() * windows.plane())?;
    let dy = input(&arrays, "dy", windows.planes() * windows.windows())?;
    let mut dx = output(&arrays, "dx", x.len())?;
    py.detach(|| max::backward(isa, windows, [&x, &dy], &mut dx));
    Ok(())
}

/// The mean of each window, padding counted or not.
#[pyfunction]
fn average_pool(
    py: Python<'_>,
    owner: &str,
    out: Object<'_>,
    x: Object<'_>,
    shape: WindowShape,
    counts_padding: bool,
) -> PyResult<()> {
    let (isa, windows) = (Isa::current()?, windows_of(shape));
    let arrays = Arrays::new(owner, [("out", Some(&out))], [("x", Some(&x))])?;
    let x = input(&arrays, "x", windows.planes() * windows.plane())?;
    let mut out = output(&arrays, "out", windows.planes() * windows.windows())?;
    py.detach(|| average::forward(isa, windows, counts_padding, &x, &mut out));
    Ok(())
}

/// The gradient from that of the output.
#[pyfunction]
fn average_pool_backward(
    py: Python<'_>,
    owner: &str,
    dx: Object<'_>,
    dy: Object<'_>,
    shape: WindowShape,
    counts_padding: bool,
) -> PyResult<()> {
    let (isa, windows) = (Isa::current()?, windows_of(shape));
    let arrays = Arrays::new(owner, [("dx", Some(&dx))], [("dy", Some(&dy))])?;
    let dy = input(&arrays, "dy", windows.planes() * windows.windows())?;
    let mut dx = output(&arrays, "dx", windows.planes() * windows.plane())?;
    py.detach(|| average::backward(isa, windows, counts_padding, &dy, &mut dx));
    Ok(())
}
