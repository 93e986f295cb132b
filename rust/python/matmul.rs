//! Products with quantized matrices: codes and scales are arrays that Python owns.

use numpy::PyReadonlyArray1;
use pyo3::prelude::*;

use super::{
    call::{Arrays, Object},
    index_text,
    quant::shape_of,
    value_error,
};
use crate::{
    error::Error,
    quant::matmul::{self, Matrix, Steps},
    simd::Isa,
};

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(matmul_codes, module)?)
}

fn steps(name: &str, size: usize) -> Result<Steps, Error> {
    match name {
        "all" => Ok(Steps::All),
        "rows" => Ok(Steps::Rows),
        "groups" => Ok(Steps::Groups(size.max(1))),
        "blocks" => Ok(Steps::Blocks(size.max(1))),
        _ => Err(Error::UnknownCodec(name.to_owned())),
    }
}

/// Writes x · matrixᵀ to `out`; the matrix has rows and elements of a row, and says which elements share a scale.
#[allow(clippy::too_many_arguments)]
#[pyfunction]
fn matmul_codes(
    py: Python<'_>,
    owner: &str,
    kind: &str,
    codes: PyReadonlyArray1<'_, u8>,
    scales: PyReadonlyArray1<'_, f32>,
    shape: (usize, usize),
    shares: (String, usize),
    x: Object<'_>,
    out: Object<'_>,
    quantizes: bool,
) -> PyResult<()> {
    let (isa, arrays) = (Isa::current()?, Arrays::new(owner, [("out", Some(&out))], [("x", Some(&x))])?);
    let (Some(input), Some(mut output)) = (arrays.input("x"), arrays.output("out")) else {
        return Err(Error::Missing("x").into());
    };
    let (codes, scales) = (codes.as_slice()?, scales.as_slice()?);
    let matrix = Matrix { codes, scales, rows: shape.0, len: shape.1, steps: steps(&shares.0, shares.1)? };
    let product = if quantizes { matmul::integers } else { matmul::floats };
    let result = py.detach(|| product(isa, kind, &matrix, &input, &mut output));
    result.or_else(|error| match error {
        Error::NotFinite { index } => {
            let index = index_text(index, &shape_of(&x)?);
            Err(value_error(
                owner,
                format_args!("x must be finite to be quantized, got NaN or infinity at index {index}"),
            ))
        }
        _ => Err(value_error(owner, error)),
    })
}
