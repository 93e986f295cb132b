//! Quantization of arrays: codes and scales as bytes that Python owns.

use numpy::{PyReadonlyArray1, PyReadwriteArray1};
use pyo3::prelude::*;

use super::{
    call::{Arrays, Object},
    index_text, value_error,
};
use crate::{
    array::{Input, Output},
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

/// What happens to a NaN.
pub(super) const fn nan_of(zeroes_nan: bool) -> Nan {
    if zeroes_nan { Nan::Zeroed } else { Nan::Refused }
}

/// Lets `work` read `x`, after a look for NaN if it must come first.
pub(super) fn reading<T: Send>(
    py: Python<'_>,
    owner: &str,
    x: &Object<'_>,
    checks_first: bool,
    work: impl FnOnce(Isa, &Input) -> Result<T, Error> + Send,
) -> PyResult<T> {
    let isa = Isa::current()?;
    let arrays = Arrays::new(owner, [], [("x", Some(x))])?;
    let Some(input) = arrays.input("x") else { return Err(Error::Missing("x").into()) };
    let run = || {
        if checks_first {
            check_nan(isa, &input)?;
        }
        work(isa, &input)
    };
    py.detach(run).or_else(|error| Err(explain(owner, &shape_of(x)?, error)))
}

/// Lets `work` write `out`.
pub(super) fn writing(
    py: Python<'_>,
    owner: &str,
    out: &Object<'_>,
    work: impl FnOnce(Isa, &mut Output) -> Result<(), Error> + Send,
) -> PyResult<()> {
    let isa = Isa::current()?;
    let arrays = Arrays::new(owner, [("out", Some(out))], [])?;
    let Some(mut output) = arrays.output("out") else { return Err(Error::Missing("out").into()) };
    py.detach(|| work(isa, &mut output)).map_err(|error| value_error(owner, error))
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
    let (entry, mut codes, mut scales) = (scheme::find(&scheme.0)?, codes, scales);
    let mut to = CodesMut { codes: codes.as_slice_mut()?, scales: scales.as_slice_mut()? };
    reading(py, owner, &x, checks_first && !zeroes_nan, |isa, x| {
        let job = Job { isa, params: &scheme.1, geometry: geometry(scheme.2) };
        (entry.quantize)(job, nan_of(zeroes_nan), x, &mut to)
    })
}

/// The largest magnitude of `x`, infinity being the largest float32.
#[pyfunction]
fn absmax(py: Python<'_>, owner: &str, x: Object<'_>, zeroes_nan: bool) -> PyResult<f32> {
    reading(py, owner, &x, false, |isa, x| codec::absmax(isa, nan_of(zeroes_nan), x))
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
    let entry = scheme::find(&scheme.0)?;
    let from = Codes { codes: codes.as_slice()?, scales: scales.as_slice()? };
    writing(py, owner, &out, |isa, out| {
        (entry.dequantize)(Job { isa, params: &scheme.1, geometry: geometry(scheme.2) }, from, out)
    })
}
