//! The binding, the only folder that says pyo3: take arrays, check, detach, call, map the error. No loop over elements, no arithmetic.

#![allow(clippy::needless_pass_by_value)] // arguments come from Python by value

mod activation;
mod affine;
mod arrays;
mod call;
mod cast;
mod conv;
mod functions;
mod layouts;
mod matmul;
mod norm;
mod optim;
mod quant;
mod softmax;
mod vectors;
mod window;

use pyo3::{
    create_exception,
    exceptions::{PyFloatingPointError, PyTypeError, PyValueError},
    prelude::*,
};

use crate::{error::Error, simd::Isa};

create_exception!(stepsmith, NonFiniteError, PyFloatingPointError, "A gradient or a loss is NaN or infinite.");

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        match error {
            Error::NonFinite { .. } | Error::NormOverflow(_) => NonFiniteError::new_err(error.to_string()),
            _ => PyValueError::new_err(error.to_string()),
        }
    }
}

/// `owner: message` as a ValueError.
fn value_error(owner: &str, message: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(format!("{owner}: {message}"))
}

/// `owner: message` as a TypeError.
fn type_error(owner: &str, message: impl std::fmt::Display) -> PyErr {
    PyTypeError::new_err(format!("{owner}: {message}"))
}

/// The index of an element in C order, as Python would write it.
fn index_text(mut element: usize, shape: &[usize]) -> String {
    let mut index = vec![0; shape.len()];
    for axis in (0..shape.len()).rev() {
        index[axis] = element % shape[axis];
        element /= shape[axis];
    }
    format!("{index:?}")
}

/// What is wrong with a gradient of that shape: which element it is, and its value before it was divided.
fn nonfinite_text(owner: &str, name: &str, shape: &[usize], (element, value): (usize, f64), grad_scale: f64) -> String {
    let (value, index) = (python_float(value), index_text(element, shape));
    match grad_scale {
        1.0 => format!("{owner}: {name} must be finite, got {value} at index {index}"),
        _ => format!("{owner}: {name} / grad_scale must be finite, got {value} / {grad_scale:?} at index {index}"),
    }
}

/// `nan`, `inf` or `-inf`, or the number.
fn python_float(value: f64) -> String {
    if value.is_nan() { "nan".to_owned() } else { format!("{value:?}") }
}

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    Isa::current()?;
    crate::parallel::check_environment()?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("NonFiniteError", module.py().get_type::<NonFiniteError>())?;
    module.add("BLOCK", crate::reduce::BLOCK)?;
    module.add("CHUNK", crate::optim::plan::CHUNK)?;
    module.add_class::<optim::Stepper>()?;
    activation::register(module)?;
    cast::register(module)?;
    conv::register(module)?;
    norm::register(module)?;
    quant::register(module)?;
    matmul::register(module)?;
    affine::register(module)?;
    layouts::register(module)?;
    softmax::register(module)?;
    vectors::register(module)?;
    window::register(module)?;
    functions::register(module)
}
