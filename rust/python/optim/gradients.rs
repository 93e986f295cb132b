//! Gradients as Python has them: checked, and matched with the tensors.

use pyo3::{exceptions::PyRuntimeError, prelude::*};

use super::{Inner, Stepper};
use crate::{
    array::Array,
    error::Error,
    optim::{Gradients, plan::PARALLEL, row::Row, rule::Entry, tensors::check_apart},
    python::{
        NonFiniteError,
        arrays::{self, Name, Taken},
        nonfinite_text, value_error,
    },
};

/// Gradients and the rows that use them.
#[derive(Debug)]
pub(super) struct BoundGrads {
    pub(super) taken: Vec<Option<Taken>>,
    gradients: Gradients,
    elements: usize,
}

/// Owner, name, object → the array as it is now.
type TakeOne = fn(&str, Name<'_>, &Bound<'_, PyAny>) -> PyResult<Taken>;

pub(super) type Grads<'py> = Vec<Option<Bound<'py, PyAny>>>;

impl Stepper {
    /// Checks every array and calls `work` with the gradients given or bound, without the GIL if they are large.
    pub(super) fn with_gradients<T: Send>(
        &self,
        py: Python<'_>,
        grads: Option<Grads<'_>>,
        moment: Option<(u64, u64)>,
        work: impl FnOnce(&'static Entry, &mut Gradients, &[u32]) -> Result<T, Error> + Send,
    ) -> PyResult<T> {
        let mut guard = self.lock()?;
        let inner = &mut *guard;
        if let Some(computed_for) = moment {
            let now = self.moment();
            if now.mode != 0 {
                let message = "step() needs the parameters of training, call train() first";
                return Err(PyRuntimeError::new_err(format!("{}: {message}", self.owner)));
            }
            if computed_for != (now.updates, now.setting) {
                return Err(self.busy());
            }
        }
        for (k, param) in inner.params.iter().enumerate() {
            param.check(py, &self.owner, || format!("params['{}']", self.names[k]))?;
        }
        for (k, shadow) in &inner.shadows {
            shadow.check(py, &self.owner, || format!("shadow['{}']", self.names[*k]))?;
        }
        let mut given = grads.map(|grads| self.take(inner, &grads, Taken::new_gradient)).transpose()?;
        let grads = match (&mut given, &mut inner.bound) {
            (Some(given), _) => given,
            (None, Some(bound)) => {
                for (k, taken) in bound.taken.iter().enumerate() {
                    taken.as_ref().map_or(Ok(()), |taken| taken.check(py, &self.owner, || self.grad_name(k)))?;
                }
                bound
            }
            (None, None) => {
                let message = "step() needs gradients: pass them, or bind(grads) first";
                return Err(PyRuntimeError::new_err(format!("{}: {message}", self.owner)));
            }
        };
        let (gradients, cohorts, rule) = (&mut grads.gradients, &inner.cohorts[..], self.rule);
        let result = if grads.elements >= PARALLEL {
            py.detach(|| work(rule, gradients, cohorts))
        } else {
            work(rule, gradients, cohorts)
        };
        result.map_err(|error| self.explain(error, &inner.params))
    }

    fn grad_name(&self, tensor: usize) -> String {
        format!("grads['{}']", self.names[tensor])
    }

    /// Checks gradients and matches them with the tensors.
    pub(super) fn take(&self, inner: &Inner, grads: &Grads<'_>, take_one: TakeOne) -> PyResult<BoundGrads> {
        let take_one = if self.settings.zero_grads { Taken::new } else { take_one };
        if grads.len() != inner.params.len() {
            return Err(Error::Length { what: "grads", want: inner.params.len(), got: grads.len() }.into());
        }
        let mut taken = Vec::with_capacity(grads.len());
        for (k, grad) in grads.iter().enumerate() {
            taken.push(grad.as_ref().map(|grad| take_one(&self.owner, &|| self.grad_name(k), grad)).transpose()?);
        }
        self.check_shapes(inner, &taken)?;
        if self.settings.zero_grads {
            self.check_writable(&taken)?;
        }
        self.match_rows(inner, taken)
    }

    /// The rows of gradients that fit.
    pub(super) fn match_rows(&self, inner: &Inner, taken: Vec<Option<Taken>>) -> PyResult<BoundGrads> {
        let mut rows: Vec<Row> = Vec::with_capacity(taken.len());
        for (k, grad) in taken.iter().enumerate() {
            let Some(grad) = grad else { continue };
            rows.push(inner.tensors.row(k, &grad.gradient()).map_err(|error| self.explain(error, &inner.params))?);
        }
        let elements = taken.iter().flatten().map(Taken::len).sum();
        let rows = arrays::rows(rows, self.settings.zero_grads, self.settings.mapping);
        Ok(BoundGrads { taken, gradients: Gradients::new(rows), elements })
    }

    /// Gradients that become zero are written: no read-only arrays, no shared elements.
    fn check_writable(&self, taken: &[Option<Taken>]) -> PyResult<()> {
        let (mut arrays, mut names): (Vec<Array>, Vec<String>) = (vec![], vec![]);
        for (k, grad) in taken.iter().enumerate() {
            let Some(grad) = grad else { continue };
            grad.check_writable(&self.owner, &|| self.grad_name(k))?;
            arrays.push(grad.array());
            names.push(self.grad_name(k));
        }
        check_apart(&arrays, &names).map_err(|error| value_error(&self.owner, error))
    }

    fn check_shapes(&self, inner: &Inner, taken: &[Option<Taken>]) -> PyResult<()> {
        let pairs = taken.iter().zip(&inner.params).enumerate();
        let wrong: Vec<String> = pairs
            .filter_map(|(k, (grad, param))| {
                let grad = grad.as_ref().filter(|grad| grad.shape() != param.shape())?;
                Some(format!("{} must have shape {}, got {}", self.grad_name(k), param.shape_text(), grad.shape_text()))
            })
            .collect();
        if wrong.is_empty() { Ok(()) } else { Err(value_error(&self.owner, wrong.join("; "))) }
    }

    /// The error with names instead of indices.
    fn explain(&self, error: Error, params: &[Taken]) -> PyErr {
        match error {
            Error::NonFinite { tensor, element, value, grad_scale } => {
                let (name, shape) = (self.grad_name(tensor), params[tensor].lengths());
                NonFiniteError::new_err(nonfinite_text(&self.owner, &name, &shape, (element, value), grad_scale))
            }
            Error::NormOverflow(_) => NonFiniteError::new_err(format!("{}: {error}", self.owner)),
            Error::GradOverlap { tensor, other } => {
                let error = Error::Overlap { first: self.grad_name(tensor), second: other };
                value_error(&self.owner, error)
            }
            _ => value_error(&self.owner, error),
        }
    }
}
