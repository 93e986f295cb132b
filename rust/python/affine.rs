//! Affine codes of arrays.

use numpy::{PyReadonlyArray1, PyReadwriteArray1};
use pyo3::prelude::*;

use super::{
    call::{Arrays, ChannelShape, Object, channels_of, check_len, check_lengths},
    quant::{nan_of, reading, writing},
};
use crate::{
    error::Error,
    quant::affine::{self, CodesMut, Grid, Place, Steps, fake},
    simd::Isa,
};

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(affine_quantize, module)?)?;
    module.add_function(wrap_pyfunction!(affine_quantize_given, module)?)?;
    module.add_function(wrap_pyfunction!(affine_dequantize, module)?)?;
    module.add_function(wrap_pyfunction!(affine_steps, module)?)?;
    module.add_function(wrap_pyfunction!(fake_quantize, module)?)
}

/// Bits, least and largest code, divisor, whether numbers are multiplied by 1 / scale.
type Codes = (usize, i32, i32, Option<f32>, bool);

const fn grid_of((bits, qmin, qmax, divisor, is_reciprocal): Codes) -> Grid {
    Grid { bits, qmin, qmax, divisor, is_reciprocal }
}

/// False, indices, elements of an index, all elements; or True, rows, elements of a row, elements of a group.
type Cut = (bool, usize, usize, usize);

const fn place_of((has_groups, first, second, third): Cut) -> Place {
    if has_groups {
        Place::Groups { rows: first, len: second, group: third }
    } else {
        Place::Axis { channels: first, inner: second, len: third }
    }
}

/// Writes codes, scales and zero points of `x`; with `checks_first` nothing if there is a NaN that is refused.
#[allow(clippy::too_many_arguments)]
#[pyfunction]
fn affine_quantize(
    py: Python<'_>,
    owner: &str,
    grid: Codes,
    cut: Cut,
    x: Object<'_>,
    codes: PyReadwriteArray1<'_, u8>,
    scales: PyReadwriteArray1<'_, f32>,
    zero_points: PyReadwriteArray1<'_, i32>,
    zeroes_nan: bool,
    checks_first: bool,
) -> PyResult<()> {
    let (grid, place) = (grid_of(grid), place_of(cut));
    let (mut codes, mut scales, mut zero_points) = (codes, scales, zero_points);
    let (codes, scales, zero_points) = (codes.as_slice_mut()?, scales.as_slice_mut()?, zero_points.as_slice_mut()?);
    let (nan, to) = (nan_of(zeroes_nan), CodesMut { codes, scales, zero_points });
    let checks_first = checks_first && !zeroes_nan && affine::is_one_sweep(grid, place);
    reading(py, owner, &x, checks_first, move |isa, x| affine::quantize(isa, grid, place, nan, x, to))
}

/// The same with scales and zero points that are known.
#[allow(clippy::too_many_arguments)]
#[pyfunction]
fn affine_quantize_given(
    py: Python<'_>,
    owner: &str,
    grid: Codes,
    cut: Cut,
    x: Object<'_>,
    codes: PyReadwriteArray1<'_, u8>,
    scales: PyReadonlyArray1<'_, f32>,
    zero_points: PyReadonlyArray1<'_, i32>,
    zeroes_nan: bool,
    checks_first: bool,
) -> PyResult<()> {
    let (grid, place, mut codes) = (grid_of(grid), place_of(cut), codes);
    let codes = codes.as_slice_mut()?;
    let steps = Steps { scales: scales.as_slice()?, zero_points: zero_points.as_slice()? };
    let nan = nan_of(zeroes_nan);
    reading(py, owner, &x, checks_first && !zeroes_nan, |isa, x| {
        affine::quantize_given(isa, grid, place, nan, x, steps, codes)
    })
}

/// Writes the numbers that codes stand for.
#[allow(clippy::too_many_arguments)]
#[pyfunction]
fn affine_dequantize(
    py: Python<'_>,
    owner: &str,
    grid: Codes,
    cut: Cut,
    codes: PyReadonlyArray1<'_, u8>,
    scales: PyReadonlyArray1<'_, f32>,
    zero_points: PyReadonlyArray1<'_, i32>,
    out: Object<'_>,
) -> PyResult<()> {
    let (grid, place, codes) = (grid_of(grid), place_of(cut), codes.as_slice()?);
    let steps = Steps { scales: scales.as_slice()?, zero_points: zero_points.as_slice()? };
    writing(py, owner, &out, |isa, out| affine::dequantize(isa, grid, place, steps, codes, out))
}

/// Scales and zero points of ranges: largest magnitudes below and above 0.
#[pyfunction]
fn affine_steps(
    grid: Codes,
    below: PyReadonlyArray1<'_, f32>,
    above: PyReadonlyArray1<'_, f32>,
    scales: PyReadwriteArray1<'_, f32>,
    zero_points: PyReadwriteArray1<'_, i32>,
) -> PyResult<()> {
    let (mut scales, mut zero_points) = (scales, zero_points);
    let (below, above) = (below.as_slice()?, above.as_slice()?);
    let (scales, zero_points) = (scales.as_slice_mut()?, zero_points.as_slice_mut()?);
    for (what, got) in [("above", above.len()), ("scales", scales.len()), ("zero_points", zero_points.len())] {
        check_len(what, below.len(), got)?;
    }
    grid_of(grid).steps([below, above], scales, zero_points);
    Ok(())
}

/// y of x, or with dy its gradient, and those of the scales in `dscales`. Bounds are the least and the largest code, then whether
/// numbers are multiplied by 1 / scale.
#[allow(clippy::too_many_arguments)]
#[pyfunction]
fn fake_quantize(
    py: Python<'_>,
    owner: &str,
    out: Object<'_>,
    read: (Object<'_>, Option<Object<'_>>),
    scales: PyReadonlyArray1<'_, f64>,
    zero_points: PyReadonlyArray1<'_, f64>,
    dscales: PyReadwriteArray1<'_, f64>,
    bounds: (f64, f64, bool),
    shape: ChannelShape,
) -> PyResult<()> {
    let (isa, shape, mut dscales) = (Isa::current()?, channels_of(shape), dscales);
    let (scales, zero_points, dscales) = (scales.as_slice()?, zero_points.as_slice()?, dscales.as_slice_mut()?);
    let arrays = Arrays::new(owner, [("out", Some(&out))], [("x", Some(&read.0)), ("dy", read.1.as_ref())])?;
    let [x, dy] = ["x", "dy"].map(|name| arrays.input(name));
    let (Some(x), Some(mut out)) = (x, arrays.output("out")) else { return Err(Error::Missing("x").into()) };
    check_lengths(shape.len(), [("x", Some(&x)), ("dy", dy.as_ref())])?;
    check_len("out", shape.len(), out.len())?;
    let sums = if dy.is_some() { shape.channels } else { 0 };
    for (what, want, got) in [
        ("scale", shape.channels, scales.len()),
        ("zero_point", shape.channels, zero_points.len()),
        ("dscale", sums, dscales.len()),
    ] {
        check_len(what, want, got)?;
    }
    let settings = fake::Settings { scales, zero_points, bounds: [bounds.0, bounds.1], is_reciprocal: bounds.2, shape };
    let mut outputs = fake::Outputs { out: &mut out, dscales };
    py.detach(|| fake::run(isa, settings, &x, dy.as_ref(), &mut outputs));
    Ok(())
}
