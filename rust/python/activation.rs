//! Activations of arrays.

use numpy::PyReadwriteArray1;
use pyo3::prelude::*;

use super::call::{Arrays, ChannelShape, Object, Three, channels_of, check_len, check_lengths};
use crate::{
    activation::{self, Inputs, Outputs},
    error::Error,
    simd::Isa,
};

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let scalars = activation::ACTIVATIONS.iter().map(|entry| (entry.name, entry.scalars.to_vec()));
    module.add("ACTIVATIONS", scalars.collect::<std::collections::BTreeMap<_, _>>())?;
    module.add_function(wrap_pyfunction!(activate, module)?)
}

/// y of x + bias, or with dy its gradient; then `dbias` becomes that of the bias in float64, if it is not empty.
#[allow(clippy::too_many_arguments)]
#[pyfunction]
fn activate(
    py: Python<'_>,
    owner: &str,
    kind: &str,
    scalars: Vec<f64>,
    out: Object<'_>,
    read: Three<'_>,
    dbias: PyReadwriteArray1<'_, f64>,
    shape: ChannelShape,
) -> PyResult<()> {
    let (isa, entry, shape) = (Isa::current()?, activation::find(kind)?, channels_of(shape));
    let read = [("x", Some(&read.0)), ("bias", read.1.as_ref()), ("dy", read.2.as_ref())];
    let arrays = Arrays::new(owner, [("out", Some(&out))], read)?;
    let [x, bias, dy] = ["x", "bias", "dy"].map(|name| arrays.input(name));
    let (Some(x), Some(mut out)) = (x, arrays.output("out")) else { return Err(Error::Missing("x").into()) };
    check_lengths(shape.len(), [("x", Some(&x)), ("dy", dy.as_ref())])?;
    check_lengths(shape.channels, [("bias", bias.as_ref())])?;
    check_len("out", shape.len(), out.len())?;
    let mut dbias = dbias;
    let dbias = dbias.as_slice_mut()?;
    if !dbias.is_empty() {
        check_len("dbias", shape.channels, dbias.len())?;
    }
    let inputs = Inputs { x: &x, bias: bias.as_ref(), dy: dy.as_ref(), shape };
    let mut outputs = Outputs { out: &mut out, dbias };
    py.detach(|| entry.run(isa, &scalars, inputs, &mut outputs))?;
    Ok(())
}
