//! Convolutions.

use pyo3::prelude::*;

use super::{
    call::{Arrays, Object, Three},
    window::{WindowShape, input, output, windows_of},
};
use crate::{
    conv::{self, Conv, Inputs},
    error::Error,
    simd::Isa,
};

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(convolve, module)?)?;
    module.add_function(wrap_pyfunction!(convolve_backward, module)?)
}

/// The convolution, whose groups must divide its channels.
fn conv_of(shape: WindowShape, (features, groups): (usize, usize)) -> Result<Conv, Error> {
    let windows = windows_of(shape);
    let divides = |what: &'static str, count: usize| match count.checked_rem(groups) {
        Some(0) => Ok(()),
        _ => Err(Error::Length { what, want: count.next_multiple_of(groups.max(1)), got: count }),
    };
    divides("channels", windows.channels)?;
    divides("features", features)?;
    Ok(Conv { windows, features, groups })
}

/// y of x, weight and bias; the channels are output channels and groups.
#[pyfunction]
fn convolve(
    py: Python<'_>,
    owner: &str,
    out: Object<'_>,
    read: Three<'_>,
    shape: WindowShape,
    channels: (usize, usize),
) -> PyResult<()> {
    let (isa, conv) = (Isa::current()?, conv_of(shape, channels)?);
    let read = [("x", Some(&read.0)), ("weight", read.1.as_ref()), ("bias", read.2.as_ref())];
    let has_bias = read[2].1.is_some();
    let arrays = Arrays::new(owner, [("out", Some(&out))], read)?;
    let x = input(&arrays, "x", conv.windows.planes() * conv.windows.plane())?;
    let weight = input(&arrays, "weight", conv.weights())?;
    let bias = if has_bias { Some(input(&arrays, "bias", conv.features)?) } else { None };
    let mut out = output(&arrays, "out", conv.outputs())?;
    py.detach(|| conv::forward(isa, conv, Inputs { x: &x, weight: &weight }, bias.as_ref(), &mut out));
    Ok(())
}

/// Gradients from x, weight and dy: of weight and bias, then of x, each if it is given.
#[pyfunction]
fn convolve_backward(
    py: Python<'_>,
    owner: &str,
    written: (Option<Object<'_>>, Object<'_>, Option<Object<'_>>),
    read: (Object<'_>, Object<'_>, Object<'_>),
    shape: WindowShape,
    channels: (usize, usize),
) -> PyResult<()> {
    let (isa, conv) = (Isa::current()?, conv_of(shape, channels)?);
    let (dx, dweight, dbias) = written;
    let written = [("dx", dx.as_ref()), ("dweight", Some(&dweight)), ("dbias", dbias.as_ref())];
    let read = [("x", Some(&read.0)), ("weight", Some(&read.1)), ("dy", Some(&read.2))];
    let arrays = Arrays::new(owner, written, read)?;
    let x = input(&arrays, "x", conv.windows.planes() * conv.windows.plane())?;
    let (weight, dy) = (input(&arrays, "weight", conv.weights())?, input(&arrays, "dy", conv.outputs())?);
    let mut dx = dx.map(|_| output(&arrays, "dx", x.len())).transpose()?;
    let mut dweight = output(&arrays, "dweight", conv.weights())?;
    let mut dbias = dbias.map(|_| output(&arrays, "dbias", conv.features)).transpose()?;
    py.detach(|| {
        conv::dweight(isa, conv, &x, &dy, [Some(&mut dweight), dbias.as_mut()]);
        if let Some(dx) = &mut dx {
            conv::dx(isa, conv, &weight, &dy, dx);
        }
    });
    Ok(())
}
