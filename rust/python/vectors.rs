//! Arithmetic on lists of arrays taken as one vector, for methods that are no rule of one element.

use pyo3::prelude::*;

use super::{
    arrays::{self, Taken},
    value_error,
};
use crate::{
    error::Error,
    optim::{
        apply,
        internal::{ASSIGN, AXPY},
        row::Row,
        rule::Entry,
        table::Rows,
        tensors::{Tensor, Tensors},
        vectors,
    },
    simd::Isa,
};

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(dot, module)?)?;
    module.add_function(wrap_pyfunction!(axpy, module)?)?;
    module.add_function(wrap_pyfunction!(assign, module)?)
}

type Arrays<'py> = Vec<Bound<'py, PyAny>>;

/// The inner product of two lists of arrays, a fixed-shape sum in float64; pairs share a name and a shape.
#[pyfunction]
fn dot(py: Python<'_>, owner: &str, names: Vec<String>, arrays: Arrays<'_>, others: Arrays<'_>) -> PyResult<f64> {
    let isa = Isa::current()?;
    check_lengths(owner, &names, [&arrays, &others])?;
    let (taken, others) = (take(owner, &names, &arrays, Taken::new)?, take(owner, &names, &others, Taken::new)?);
    check_shapes(owner, &names, &taken, &others)?;
    let (a, b) = (rows_to_read(&taken), rows_to_read(&others));
    Ok(py.detach(|| vectors::dot(isa, &a, &b)))
}

/// arrays += factor·others in place, in the arrays' compute types.
#[pyfunction]
fn axpy(
    py: Python<'_>,
    owner: &str,
    names: Vec<String>,
    arrays: Arrays<'_>,
    factor: f64,
    others: Arrays<'_>,
) -> PyResult<()> {
    write(py, &AXPY, owner, &names, [&arrays, &others], factor)
}

/// arrays = factor·others in place, in the arrays' compute types.
#[pyfunction]
fn assign(
    py: Python<'_>,
    owner: &str,
    names: Vec<String>,
    arrays: Arrays<'_>,
    factor: f64,
    others: Arrays<'_>,
) -> PyResult<()> {
    write(py, &ASSIGN, owner, &names, [&arrays, &others], factor)
}

/// Runs a rule over the arrays, the others being its gradients.
fn write(
    py: Python<'_>,
    rule: &'static Entry,
    owner: &str,
    names: &[String],
    [arrays, others]: [&Arrays<'_>; 2],
    factor: f64,
) -> PyResult<()> {
    let isa = Isa::current()?;
    check_lengths(owner, names, [arrays, others])?;
    let taken = take(owner, names, arrays, Taken::new_writable)?;
    let others = take(owner, names, others, Taken::new_gradient)?;
    check_shapes(owner, names, &taken, &others)?;
    let tensors = taken.iter().map(|array| Tensor::alone(array.array())).collect();
    let tensors = Tensors::new(tensors, names.to_vec(), false).map_err(|error| value_error(owner, error))?;
    let rows = others.iter().enumerate().map(|(k, other)| tensors.row(k, &other.gradient()));
    let rows = rows.collect::<Result<Vec<_>, _>>().map_err(|error| value_error(owner, named(error, names)))?;
    let mut rows = arrays::rows(rows, false, None);
    py.detach(|| apply(isa, rule, &mut rows, &vec![factor; names.len()]));
    Ok(())
}

/// Owner, name, object → the array as it is now.
type TakeOne = fn(&str, arrays::Name<'_>, &Bound<'_, PyAny>) -> PyResult<Taken>;

fn take(owner: &str, names: &[String], objects: &Arrays<'_>, take_one: TakeOne) -> PyResult<Vec<Taken>> {
    names.iter().zip(objects).map(|(name, object)| take_one(owner, &|| name.clone(), object)).collect()
}

fn rows_to_read(taken: &[Taken]) -> Rows {
    arrays::rows(taken.iter().enumerate().map(|(k, array)| Row::reading(k, &array.array())).collect(), false, None)
}

/// As many arrays as names on both sides.
fn check_lengths(owner: &str, names: &[String], sides: [&Arrays<'_>; 2]) -> PyResult<()> {
    let want = names.len();
    let wrong = sides.into_iter().map(Vec::len).find(|&got| got != want);
    wrong.map_or(Ok(()), |got| Err(value_error(owner, Error::Length { what: "arrays", want, got })))
}

/// Pair by pair of one shape.
fn check_shapes(owner: &str, names: &[String], arrays: &[Taken], others: &[Taken]) -> PyResult<()> {
    let wrong = names.iter().zip(arrays.iter().zip(others)).filter(|(_, (a, b))| a.shape() != b.shape());
    let wrong: Vec<String> = wrong
        .map(|(name, (a, b))| format!("{name} must have shape {}, got {}", a.shape_text(), b.shape_text()))
        .collect();
    if wrong.is_empty() { Ok(()) } else { Err(value_error(owner, wrong.join("; "))) }
}

/// The error with names instead of indices.
fn named(error: Error, names: &[String]) -> Error {
    match error {
        Error::GradOverlap { tensor, other } => Error::Overlap { first: names[tensor].clone(), second: other },
        _ => error,
    }
}
