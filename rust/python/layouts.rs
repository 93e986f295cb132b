//! Arrays of another device: what can be said of them without a look at their memory.

use pyo3::{exceptions::PyValueError, prelude::*};

use super::{nonfinite_text, value_error};
use crate::{
    error::Error,
    layout::{self, Layout, Walk},
    optim::tensors::territory,
};

/// Address, bytes an element, shape, bytes from one element to the next along each axis.
type Place = (usize, usize, Vec<usize>, Vec<isize>);

fn layout((address, item, shape, strides): Place) -> Layout {
    Layout { address, item, shape: shape.into(), strides: strides.into() }
}

/// Arrays that are written, none of which shares an element with itself or another.
#[pyclass(frozen, module = "stepsmith._core")]
#[derive(Debug)]
pub(super) struct Territory {
    owner: String,
    names: Vec<String>,
    written: layout::Territory,
}

#[pymethods]
impl Territory {
    /// Fails if an element is written twice.
    #[new]
    fn new(owner: String, names: Vec<String>, places: Vec<Place>) -> PyResult<Self> {
        let layouts = places.into_iter().map(layout).collect();
        let written = territory(layouts, &names).map_err(|error| value_error(&owner, error))?;
        Ok(Self { owner, names, written })
    }

    /// Fails if one of these arrays, which are read, shares an element with one that is written.
    fn refuse_shared(&self, names: Vec<String>, places: Vec<Place>) -> PyResult<()> {
        for (name, place) in names.iter().zip(places) {
            if let Some(other) = self.written.find(&layout(place)) {
                let error = Error::Overlap { first: name.clone(), second: self.names[other].clone() };
                return Err(value_error(&self.owner, error));
            }
        }
        Ok(())
    }
}

/// The order in which arrays of one shape are visited, axes joined where all of them allow it: C order, or that of the first
/// one's memory. Returns the axes' lengths, for each array its strides, and for each array the bytes to where it begins.
#[pyfunction]
#[allow(clippy::type_complexity)]
fn walk(
    shape: Vec<usize>,
    strides: Vec<Vec<isize>>,
    by_memory: bool,
) -> PyResult<(Vec<usize>, Vec<Vec<isize>>, Vec<isize>)> {
    if strides.is_empty() || strides.iter().any(|strides| strides.len() != shape.len()) {
        return Err(PyValueError::new_err("walk: strides must have a number for each axis of each array"));
    }
    let slices: Vec<&[isize]> = strides.iter().map(Vec::as_slice).collect();
    let walk = if by_memory { Walk::by_memory(&shape, &slices) } else { Walk::logical(&shape, &slices) };
    let arrays = 0..strides.len();
    Ok((
        walk.lengths().to_vec(),
        arrays.clone().map(|array| walk.strides(array).to_vec()).collect(),
        arrays.map(|array| walk.start(array)).collect(),
    ))
}

/// What is wrong with a gradient that has NaN or infinity, as a step says it.
#[pyfunction]
fn nonfinite(owner: &str, name: &str, shape: Vec<usize>, element: usize, value: f64, grad_scale: f64) -> String {
    nonfinite_text(owner, name, &shape, (element, value), grad_scale)
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Territory>()?;
    module.add_function(wrap_pyfunction!(nonfinite, module)?)?;
    module.add_function(wrap_pyfunction!(walk, module)?)
}
