//! Functions over arrays without an optimizer, and what is known of the machine.

use numpy::{PyArrayDyn, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::{prelude::*, types::PyDict};

use super::{
    arrays::{self, Taken},
    type_error, value_error,
};
use crate::{
    error::Error,
    optim::{
        Gradients, Reduction, apply, internal,
        row::Row,
        rule::{self, Entry},
        table::Rows,
        tensors::{Tensor, Tensors},
    },
    parallel,
    random::Philox,
    simd::Isa,
};

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(reduce, module)?)?;
    module.add_function(wrap_pyfunction!(scale, module)?)?;
    module.add_function(wrap_pyfunction!(clamp, module)?)?;
    module.add_function(wrap_pyfunction!(lerp, module)?)?;
    module.add_function(wrap_pyfunction!(uniform, module)?)?;
    module.add_function(wrap_pyfunction!(philox4x32, module)?)?;
    module.add_function(wrap_pyfunction!(set_threads, module)?)?;
    module.add_function(wrap_pyfunction!(rules, module)?)?;
    module.add_function(wrap_pyfunction!(traits, module)?)?;
    module.add_function(wrap_pyfunction!(info, module)?)
}

type Arrays<'py> = Vec<Bound<'py, PyAny>>;

/// Rows that are only read.
fn rows_to_read(owner: &str, names: &[String], objects: &Arrays<'_>) -> PyResult<(Rows, Vec<Taken>)> {
    let named = names.iter().zip(objects);
    let taken = named.map(|(name, array)| Taken::new(owner, &|| name.clone(), array)).collect::<PyResult<Vec<_>>>()?;
    let rows = taken.iter().enumerate().map(|(k, array)| Row::reading(k, &array.array())).collect();
    Ok((arrays::rows(rows, false, None), taken))
}

/// Arrays that are written in place, none or one state for each, and none or one shadow copy for each.
type Written<'a, 'py> = (&'a Arrays<'py>, &'a Arrays<'py>, &'a [Option<Bound<'py, PyAny>>]);

/// Rows that are written in place, without gradients.
fn rows_to_write(
    owner: &str,
    names: &[String],
    (objects, states, shadows): Written<'_, '_>,
) -> PyResult<(Rows, Vec<Taken>)> {
    let (mut tensors, mut written, mut taken) = (vec![], vec![], vec![]);
    for (k, (name, array)) in names.iter().zip(objects).enumerate() {
        let array = Taken::new_writable(owner, &|| name.clone(), array)?;
        let mut tensor = Tensor::alone(array.array());
        written.push(name.clone());
        if let Some(state) = states.get(k) {
            let state = take_like(owner, format!("state of {name}"), state, &array, &mut written)?;
            tensor.state.push(Some(state.array()));
            taken.push(state);
        }
        if let Some(Some(shadow)) = shadows.get(k) {
            let shadow = take_like(owner, format!("shadow of {name}"), shadow, &array, &mut written)?;
            tensor.shadow = Some(shadow.array());
            taken.push(shadow);
        }
        tensors.push(tensor);
        taken.push(array);
    }
    let count = tensors.len();
    let tensors = Tensors::new(tensors, written, false).map_err(|error| value_error(owner, error))?;
    let rows = (0..count).map(|k| tensors.row_without_grad(k)).collect();
    Ok((arrays::rows(rows, false, None), taken))
}

/// Takes an array of another one's shape, to be written.
fn take_like(
    owner: &str,
    name: String,
    object: &Bound<'_, PyAny>,
    like: &Taken,
    written: &mut Vec<String>,
) -> PyResult<Taken> {
    let taken = Taken::new_writable(owner, &|| name.clone(), object)?;
    if taken.shape() != like.shape() {
        let (want, got) = (like.shape_text(), taken.shape_text());
        return Err(value_error(owner, format_args!("{name} must have shape {want}, got {got}")));
    }
    written.push(name);
    Ok(taken)
}

/// A fixed-shape sum ("sum", "sum_abs", "sum_squares") or the largest magnitude ("max_abs") over all arrays.
#[pyfunction]
fn reduce(py: Python<'_>, owner: &str, names: Vec<String>, arrays: Arrays<'_>, kind: &str) -> PyResult<f64> {
    let isa = Isa::current()?;
    let kind = Reduction::find(kind)?;
    let (rows, _alive) = rows_to_read(owner, &names, &arrays)?;
    Ok(py.detach(|| Gradients::new(rows).reduce(isa, kind)))
}

/// Multiplies all arrays in place by `factor`, rounded to each array's compute type.
#[pyfunction]
fn scale(py: Python<'_>, owner: &str, names: Vec<String>, arrays: Arrays<'_>, factor: f64) -> PyResult<()> {
    write(py, &internal::SCALE, owner, &names, (&arrays, &vec![], &[]), &vec![factor; names.len()])
}

/// Clamps all arrays in place to [-limit, limit]; NaN stays.
#[pyfunction]
fn clamp(py: Python<'_>, owner: &str, names: Vec<String>, arrays: Arrays<'_>, limit: f64) -> PyResult<()> {
    write(py, &internal::CLAMP, owner, &names, (&arrays, &vec![], &[]), &vec![limit; names.len()])
}

/// array += (end - array) * weight in place for all arrays, each with its own weight; where there is a shadow array it
/// becomes the array's rounded copy.
#[allow(clippy::too_many_arguments)]
#[pyfunction]
fn lerp(
    py: Python<'_>,
    owner: &str,
    names: Vec<String>,
    arrays: Arrays<'_>,
    ends: Arrays<'_>,
    shadows: Vec<Option<Bound<'_, PyAny>>>,
    weights: Vec<f64>,
) -> PyResult<()> {
    let lengths = [("ends", ends.len()), ("shadows", shadows.len()), ("weights", weights.len())];
    for (what, got) in [("arrays", arrays.len())].into_iter().chain(lengths) {
        if got != names.len() {
            return Err(Error::Length { what, want: names.len(), got }.into());
        }
    }
    write(py, &internal::LERP, owner, &names, (&arrays, &ends, &shadows), &weights)
}

fn write(
    py: Python<'_>,
    rule: &'static Entry,
    owner: &str,
    names: &[String],
    arrays: Written<'_, '_>,
    scalars: &[f64],
) -> PyResult<()> {
    let isa = Isa::current()?;
    let (mut rows, _alive) = rows_to_write(owner, names, arrays)?;
    py.detach(|| apply(isa, rule, &mut rows, scalars));
    Ok(())
}

/// Fills a C-contiguous float32 array with uniform numbers in [0, 1) of a Philox stream, for elements from `start` on.
#[pyfunction]
fn uniform(py: Python<'_>, out: &Bound<'_, PyAny>, seed: u64, step: u32, stream: u32, start: u64) -> PyResult<()> {
    let Ok(out) = out.cast::<PyArrayDyn<f32>>() else {
        let kind = out.get_type().fully_qualified_name()?;
        return Err(type_error("uniform", format_args!("out must be a float32 NumPy array, got {kind}")));
    };
    if !out.is_c_contiguous() {
        return Err(value_error("uniform", "out must be C-contiguous, got a strided array"));
    }
    let mut out =
        out.try_readwrite().map_err(|_| value_error("uniform", "out must be writable, got a read-only array"))?;
    let slice = out.as_slice_mut().map_err(|error| value_error("uniform", error))?;
    py.detach(|| Philox { seed, step, stream }.fill(start, slice));
    Ok(())
}

/// The four words of one Philox4x32-10 block.
#[pyfunction]
fn philox4x32(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    crate::random::philox4x32(counter, key)
}

/// Asks for exactly that many threads (0: the default); returns what was asked for before.
#[pyfunction]
fn set_threads(count: usize) -> usize {
    let before = parallel::requested_threads();
    parallel::set_threads(count);
    before
}

/// For each rule its state names and its scalars' names.
#[pyfunction]
fn rules(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let all = PyDict::new(py);
    for entry in rule::RULES {
        all.set_item(entry.name, (entry.state.to_vec(), entry.scalars.to_vec()))?;
    }
    Ok(all)
}

/// For each rule whether norms are taken before its update, and whether its first two states may be means of rows and columns.
#[pyfunction]
fn traits(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let all = PyDict::new(py);
    for entry in rule::RULES {
        all.set_item(entry.name, (entry.measures, entry.factored))?;
    }
    Ok(all)
}

/// What runs: version, CPU level and levels of this CPU, threads a call may use, threads of the pool, threads of the last call.
#[pyfunction]
fn info(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let all = PyDict::new(py);
    all.set_item("version", env!("CARGO_PKG_VERSION"))?;
    all.set_item("isa", Isa::current()?.name())?;
    all.set_item("isa_available", Isa::available().into_iter().map(Isa::name).collect::<Vec<_>>())?;
    all.set_item("threads", parallel::threads())?;
    all.set_item("pool_threads", parallel::pool_threads())?;
    all.set_item("last_threads", parallel::last_count())?;
    Ok(all)
}
