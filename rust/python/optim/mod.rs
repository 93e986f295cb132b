//! The object behind a Python optimizer: arrays taken once, one native call a step.

mod gradients;
mod settings;
mod taking;

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::{exceptions::PyRuntimeError, prelude::*};

use self::{
    gradients::{BoundGrads, Grads},
    settings::Settings,
    taking::{Arrays, Taking},
};
use super::{arrays::Taken, value_error};
use crate::{
    error::Error,
    optim::{
        Cohorts, Options,
        bits::Mask,
        internal,
        rule::{self, Entry},
        step,
        tensors::Tensors,
    },
    simd::Isa,
};

/// Steps the tensors that it was made for.
#[pyclass(frozen, module = "stepsmith._core")]
#[derive(Debug)]
pub(super) struct Stepper {
    owner: String,
    names: Vec<String>,
    rule: &'static Entry,
    settings: Settings,
    moment: Mutex<Moment>,
    inner: Mutex<Inner>,
}

/// How far the arrays are. Kept here, since an interrupt may come between the step and the next line of Python.
#[derive(Debug, Default)]
struct Moment {
    /// Steps that were written.
    updates: u64,
    /// How often the cohorts were set.
    setting: u64,
    /// For each cohort the numbers that go from update to update, one after another.
    carried: Vec<f64>,
    /// What the parameters hold: 0 is what steps need.
    mode: u8,
}

/// What changes from step to step.
#[derive(Debug)]
struct Inner {
    params: Vec<Taken>,
    /// Kept alive. Their maker keeps them to himself, so they are not compared before each step.
    #[allow(dead_code)]
    others: Vec<Taken>,
    #[allow(dead_code)]
    alive: Vec<Py<PyAny>>,
    /// Shadow copies, which may be the caller's, each with its tensor.
    shadows: Vec<(usize, Taken)>,
    tensors: Tensors,
    cohorts: Vec<u32>,
    bound: Option<BoundGrads>,
}

#[pymethods]
impl Stepper {
    /// Takes for each parameter its arrays, state in the rule's order (None where a setting does without).
    #[new]
    fn new(
        owner: String,
        rule: &str,
        names: Vec<String>,
        arrays: Vec<Arrays<'_>>,
        settings: Settings,
    ) -> PyResult<Self> {
        let rule = rule::find(rule)?;
        let mut taking = Taking::new(&owner, rule);
        let tensors = names.iter().zip(&arrays).map(|(name, arrays)| taking.tensor(name, arrays));
        let tensors = tensors.collect::<PyResult<Vec<_>>>()?;
        let Taking { written, params, others, shadows, alive, .. } = taking;
        let counted = rule.measures || settings.agc.is_some() || settings.rounding_seed.is_some();
        let cohorts = vec![0; tensors.len()];
        let tensors = Tensors::new(tensors, written, counted).map_err(|error| value_error(&owner, error))?;
        let inner = Inner { params, others, alive, shadows, tensors, cohorts, bound: None };
        Ok(Self { owner, names, rule, settings, moment: Mutex::default(), inner: Mutex::new(inner) })
    }

    /// Replaces the masks: for each parameter None or bits in C order, the least significant of a byte first.
    fn set_masks(&self, masks: Vec<Option<Vec<u8>>>) -> PyResult<()> {
        let mut inner = self.lock()?;
        if masks.len() != inner.params.len() {
            return Err(Error::Length { what: "masks", want: inner.params.len(), got: masks.len() }.into());
        }
        for (mask, param) in masks.iter().zip(&inner.params) {
            let (want, got) = (param.len().div_ceil(8), mask.as_ref().map_or(param.len().div_ceil(8), Vec::len));
            if want != got {
                return Err(Error::Length { what: "a mask's bytes", want, got }.into());
            }
        }
        inner.tensors.set_masks(masks.iter().map(|mask| mask.as_deref().map(Mask::new)).collect());
        if let Some(BoundGrads { taken, .. }) = inner.bound.take() {
            inner.bound = Some(self.match_rows(&inner, taken)?);
        }
        Ok(())
    }

    /// Names of the rule's scalars.
    #[getter]
    fn scalars(&self) -> Vec<&'static str> {
        self.rule.scalars.to_vec()
    }

    /// Fixes the gradient arrays for steps without gradients; `None` forgets them.
    fn bind(&self, grads: Option<Grads<'_>>) -> PyResult<()> {
        let mut inner = self.lock()?;
        inner.bound = grads.map(|grads| self.take(&inner, &grads, Taken::new)).transpose()?;
        Ok(())
    }

    /// Which tensors have the same scalars: for each tensor the index of its cohort, and for each cohort the numbers that
    /// it carries. Returns the number of this setting.
    fn set_cohorts(&self, cohorts: Vec<u32>, carried: Vec<f64>) -> PyResult<u64> {
        let mut inner = self.lock()?;
        if cohorts.len() != inner.tensors.len() {
            return Err(Error::Length { what: "cohorts", want: inner.tensors.len(), got: cohorts.len() }.into());
        }
        inner.cohorts = cohorts;
        let mut moment = self.moment();
        moment.carried = carried;
        moment.setting += 1;
        Ok(moment.setting)
    }

    /// The count of updates and what the cohorts of that setting carry; an error if they were set again.
    fn now(&self, setting: u64) -> PyResult<(u64, Vec<f64>)> {
        let moment = self.moment();
        if moment.setting != setting {
            return Err(self.busy());
        }
        Ok((moment.updates, moment.carried.clone()))
    }

    /// One step; returns the gradients' norm if it was computed. An error leaves every array as it was.
    ///
    /// `moment` is the count of updates and the number of the cohorts' setting that the scalars were computed for: another
    /// thread's step in between makes this one an error. `carried` holds after the step if that was written. `only_rule`: a
    /// rehearsal, which is not counted and after which nothing follows the rule.
    #[allow(clippy::too_many_arguments)]
    #[pyo3(signature = (grads, moment, scalars, signs, carried, grad_scale, only_rule=false))]
    fn step(
        &self,
        py: Python<'_>,
        grads: Option<Grads<'_>>,
        moment: (u64, u64),
        scalars: Vec<f64>,
        signs: Vec<f64>,
        carried: Vec<f64>,
        grad_scale: f64,
        only_rule: bool,
    ) -> PyResult<Option<f64>> {
        let isa = Isa::current()?;
        let options = Options { only_rule, ..self.settings.options(grad_scale, moment.0)? };
        self.with_gradients(py, grads, Some(moment), |rule, gradients, of_tensor| {
            if let Some(&last) = of_tensor.iter().max().filter(|&&last| last as usize >= signs.len()) {
                return Err(Error::Length { what: "signs", want: last as usize + 1, got: signs.len() });
            }
            let norm = step(isa, rule, gradients, Cohorts { of_tensor, scalars: &scalars, signs: &signs }, options)?;
            if !only_rule {
                let mut moment = self.moment();
                moment.updates += 1;
                moment.carried = carried;
            }
            Ok(norm)
        })
    }

    /// The traffic of a step and next to no arithmetic: every array becomes itself plus the gradient.
    fn sweep(&self, py: Python<'_>) -> PyResult<()> {
        let isa = Isa::current()?;
        let zeros = vec![0; self.names.len()];
        let options = Options { ema_weight: 0.5, ..Options::plain(1.0) };
        self.with_gradients(py, None, None, |_, gradients, _| {
            step(isa, &internal::SWEEP, gradients, Cohorts { of_tensor: &zeros, scalars: &[], signs: &[1.0] }, options)
        })?;
        Ok(())
    }

    /// Steps that were written so far.
    #[getter]
    fn updates(&self) -> u64 {
        self.moment().updates
    }

    /// What the parameters hold; no step is possible unless this is 0.
    #[getter]
    fn mode(&self) -> u8 {
        self.moment().mode
    }

    /// Does a step run right now, on another thread?
    #[getter]
    fn is_running(&self) -> bool {
        self.inner.try_lock().is_err()
    }

    /// Calls `work` while no step can run; a step that runs makes this an error.
    fn exclusive(&self, work: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let _no_step = self.lock()?;
        Ok(work.call0()?.unbind())
    }

    /// Calls `work`, which changes what the parameters hold, unless they hold that already; as `exclusive`.
    fn switch(&self, mode: u8, work: &Bound<'_, PyAny>) -> PyResult<()> {
        let _no_step = self.lock()?;
        if self.mode() != mode {
            work.call0()?;
            self.moment().mode = mode;
        }
        Ok(())
    }

    /// Calls `work`, which takes arrays back, then sets everything else that a state dictionary has, then calls `commit`; as
    /// `exclusive`. `moment` is the count of updates and the number that the cohorts' setting will have.
    fn restore(
        &self,
        work: &Bound<'_, PyAny>,
        commit: &Bound<'_, PyAny>,
        moment: (u64, u64),
        mode: u8,
        cohorts: Vec<u32>,
        carried: Vec<f64>,
    ) -> PyResult<()> {
        let mut inner = self.lock()?;
        if cohorts.len() != inner.tensors.len() {
            return Err(Error::Length { what: "cohorts", want: inner.tensors.len(), got: cohorts.len() }.into());
        }
        if self.moment().setting + 1 != moment.1 {
            return Err(self.busy());
        }
        work.call0()?;
        inner.cohorts = cohorts;
        *self.moment() = Moment { updates: moment.0, setting: moment.1, carried, mode };
        commit.call0()?;
        Ok(())
    }
}

impl Stepper {
    fn lock(&self) -> PyResult<MutexGuard<'_, Inner>> {
        self.inner.try_lock().map_err(|_| self.busy())
    }

    fn moment(&self) -> MutexGuard<'_, Moment> {
        self.moment.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn busy(&self) -> PyErr {
        PyRuntimeError::new_err(format!("{}: one step at a time, got a call while another step runs", self.owner))
    }
}
