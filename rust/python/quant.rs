//! Quantization of arrays: codes and scales as bytes that Python owns.

use numpy::{PyReadonlyArray1, PyReadwriteArray1};
use pyo3::prelude::*;

use super::{
    call::{Arrays, Object},
    index_text, value_error,
};
use crate::{
    array::Input,
    error::Error,
    quant::{
        codec::{self, Nan, check_nan},
        geometry::Geometry,
        scheme::{self, Codes, CodesMut, Job},
    },
    simd::Isa,
};

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let params = scheme::CODECS.iter().map(|codec| (codec.name, codec.params.to_vec()));
    module.add("CODECS", params.collect::<std::collections::BTreeMap<_, _>>())?;
    module.add_function(wrap_pyfunction!(absmax, module)?)?;
    module.add_function(wrap_pyfunction!(quantize, module)?)?;
    module.add_function(wrap_pyfunction!(dequantize, module)?)
}

/// Name of a codec, its parameters, and rows, elements of a row, elements of a block.
type Scheme = (String, Vec<f64>, (usize, usize, usize));

const fn geometry((rows, len, block): (usize, usize, usize)) -> Geometry {
    Geometry { rows, len, block }
}

/// `owner: message`; a NaN is named by its index in the array.
pub(super) fn explain(owner: &str, shape: &[usize], error: Error) -> PyErr {
    match error {
        Error::Nan { index } => {
            let index = index_text(index, shape);
            value_error(
                owner,
                format_args!("x must not have NaN (nan='zero' takes it for 0), got one at index {index}"),
            )
        }
        _ => value_error(owner, error),
    }
}

/// The shape of an array that was taken.
pub(super) fn shape_of(object: &Object<'_>) -> PyResult<Vec<usize>> {
    object.getattr("shape")?.extract()
}

/// Writes codes and scales of `x`. With `checks_first` nothing is written where there is a NaN that is refused.
#[allow(clippy::too_many_arguments)]
#[pyfunction]
fn quantize(
    py: Python<'_>,
    owner: &str,
    scheme: Scheme,
    x: Object<'_>,
    codes: PyReadwriteArray1<'_, u8>,
    scales: PyReadwriteArray1<'_, u8>,
    zeroes_nan: bool,
    checks_first: bool,
) -> PyResult<()> {
    let (isa, entry) = (Isa::current()?, scheme::find(&scheme.0)?);
    let nan = if zeroes_nan { Nan::Zeroed } else { Nan::Refused };
    let (mut codes, mut scales) = (codes, scales);
    let mut to = CodesMut { codes: codes.as_slice_mut()?, scales: scales.as_slice_mut()? };
    let arrays = Arrays::new(owner, [], [("x", Some(&x))])?;
    let Some(input) = arrays.input("x") else { return Err(Error::Missing("x").into()) };
    let job = Job { isa, params: &scheme.1, geometry: geometry(scheme.2) };
    let mut run = |input: &Input| -> Result<(), Error> {
        if checks_first && !zeroes_nan {
            check_nan(isa, input)?;
        }
        (entry.quantize)(job, nan, input, &mut to)
    };
    let result = py.detach(|| run(&input));
    result.or_else(|error| Err(explain(owner, &shape_of(&x)?, error)))
}

/// The largest magnitude of `x`, infinity being the largest float32.
#[pyfunction]
fn absmax(py: Python<'_>, owner: &str, x: Object<'_>, zeroes_nan: bool) -> PyResult<f32> {
    let isa = Isa::current()?;
    let nan = if zeroes_nan { Nan::Zeroed } else { Nan::Refused };
    let arrays = Arrays::new(owner, [], [("x", Some(&x))])?;
    let Some(input) = arrays.input("x") else { return Err(Error::Missing("x").into()) };
    let result = py.detach(|| codec::absmax(isa, nan, &input));
    result.or_else(|error| Err(explain(owner, &shape_of(&x)?, error)))
}

/// Decodes to `out`.
#[pyfunction]
fn dequantize(
    py: Python<'_>,
    owner: &str,
    scheme: Scheme,
    codes: PyReadonlyArray1<'_, u8>,
    scales: PyReadonlyArray1<'_, u8>,
    out: Object<'_>,
) -> PyResult<()> {
    let (isa, entry) = (Isa::current()?, scheme::find(&scheme.0)?);
    let from = Codes { codes: codes.as_slice()?, scales: scales.as_slice()? };
    let arrays = Arrays::new(owner, [("out", Some(&out))], [])?;
    let Some(mut output) = arrays.output("out") else { return Err(Error::Missing("out").into()) };
    let job = Job { isa, params: &scheme.1, geometry: geometry(scheme.2) };
    py.detach(|| (entry.dequantize)(job, from, &mut output)).map_err(|error| value_error(owner, error))
}
