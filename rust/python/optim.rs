//! The object behind a Python optimizer: arrays taken once, one native call a step.

use std::sync::{Mutex, MutexGuard, PoisonError};

use numpy::PyArray1;
use pyo3::{exceptions::PyRuntimeError, prelude::*};

use super::{
    NonFiniteError,
    arrays::{self, Name, Taken, layout_of},
    index_text, value_error,
};
use crate::{
    array::Array,
    error::Error,
    optim::{
        Cohorts, Gradients, Options, Reduction,
        bits::Mask,
        coded::{Coded, STATE_BLOCK, StateCodec},
        internal,
        plan::PARALLEL,
        row::Row,
        rule::{self, Entry},
        step,
        tensors::{Tensor, Tensors, check_apart},
    },
    random::Philox,
    simd::Isa,
};

/// Philox streams of parameters' rounding: purpose 1, then the tensor's index.
const ROUNDING_STREAM: u32 = 1 << 24;

/// Those of state arrays' rounding: purposes 2, 18, 34 and 50 for the rule's first to fourth, then the tensor's index.
const STATE_ROUNDING_STREAM: u32 = 2 << 24;

/// What an optimizer folds into its steps, fixed at construction.
#[derive(Debug, FromPyObject)]
#[pyo3(from_item_all)]
struct Settings {
    check_finite: bool,
    clip_value: Option<f64>,
    max_norm: Option<f64>,
    norm: String,
    agc: Option<f64>,
    ema_weight: f64,
    /// Key of the random rounding of 16-bit parameters.
    rounding_seed: Option<u64>,
    /// Key of the random rounding of coded state.
    state_rounding_seed: Option<u64>,
    zero_grads: bool,
    /// Address and bytes of the mapped file that the state lies in.
    mapping: Option<(usize, usize)>,
}

impl Settings {
    fn options(&self, grad_scale: f64, updates: u64) -> Result<Options, Error> {
        let philox = |stream| move |seed| Philox { seed, step: updates as u32, stream };
        Ok(Options {
            check_finite: self.check_finite,
            clip_value: self.clip_value,
            max_norm: self.max_norm,
            norm: Reduction::find(&self.norm)?,
            agc: self.agc,
            ema_weight: self.ema_weight,
            rounding: self.rounding_seed.map(philox(ROUNDING_STREAM)),
            state_rounding: self.state_rounding_seed.map(philox(STATE_ROUNDING_STREAM)),
            ..Options::plain(grad_scale)
        })
    }
}

/// A state array: itself, or its codec's name, codes and scales.
#[derive(FromPyObject)]
enum State<'py> {
    Coded(String, Bound<'py, PyArray1<u8>>, Bound<'py, PyArray1<f32>>),
    Plain(Bound<'py, PyAny>),
}

/// The arrays of one parameter as Python has them.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Arrays<'py> {
    param: Bound<'py, PyAny>,
    master: Option<Bound<'py, PyAny>>,
    state: Vec<Option<State<'py>>>,
    ema: Option<Bound<'py, PyAny>>,
    shadow: Option<Bound<'py, PyAny>>,
}

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

/// Gradients and the rows that use them.
#[derive(Debug)]
struct BoundGrads {
    taken: Vec<Option<Taken>>,
    gradients: Gradients,
    elements: usize,
}

/// Owner, name, object → the array as it is now.
type TakeOne = fn(&str, Name<'_>, &Bound<'_, PyAny>) -> PyResult<Taken>;

type Grads<'py> = Vec<Option<Bound<'py, PyAny>>>;

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
        let mut taking = Taking {
            owner: &owner,
            rule,
            written: vec![],
            params: vec![],
            others: vec![],
            shadows: vec![],
            alive: vec![],
        };
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

    /// Checks every array and calls `work` with the gradients given or bound, without the GIL if they are large.
    fn with_gradients<T: Send>(
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
    fn take(&self, inner: &Inner, grads: &Grads<'_>, take_one: TakeOne) -> PyResult<BoundGrads> {
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
    fn match_rows(&self, inner: &Inner, taken: Vec<Option<Taken>>) -> PyResult<BoundGrads> {
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
                let (name, index) = (self.grad_name(tensor), index_text(element, &params[tensor].lengths()));
                let (divided, value) = match grad_scale {
                    1.0 => (String::new(), python_float(value)),
                    _ => (" / grad_scale".to_owned(), format!("{} / {grad_scale:?}", python_float(value))),
                };
                let message = format!("{}: {name}{divided} must be finite, got {value} at index {index}", self.owner);
                NonFiniteError::new_err(message)
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

/// Takes the arrays that a step writes.
struct Taking<'a> {
    owner: &'a str,
    rule: &'static Entry,
    /// Names of the arrays that are written, tensor by tensor in the order of `Tensor::written`.
    written: Vec<String>,
    params: Vec<Taken>,
    others: Vec<Taken>,
    shadows: Vec<(usize, Taken)>,
    /// Codes and scales.
    alive: Vec<Py<PyAny>>,
}

impl Taking<'_> {
    fn tensor(&mut self, name: &str, arrays: &Arrays<'_>) -> PyResult<Tensor> {
        let param_name = format!("params['{name}']");
        let param = Taken::new_writable(self.owner, &|| param_name.clone(), &arrays.param)?;
        let (shape, text) = (param.shape().to_vec(), param.shape_text());
        let master = self.take(name, "master", arrays.master.as_ref(), &shape, &text)?;
        let has_master = master.is_some();
        if !has_master {
            self.written.push(param_name.clone());
        }
        let mut tensor = Tensor::alone(master.unwrap_or_else(|| param.array()));
        let factored = self.rule.factored && shape.len() > 1;
        for (k, (slot, array)) in self.rule.state.iter().zip(&arrays.state).enumerate() {
            let array = array.as_ref().filter(|_| !factored || k >= 2);
            let plain = array.and_then(|state| if let State::Plain(array) = state { Some(array) } else { None });
            tensor.state.push(self.take(name, slot, plain, &shape, &text)?);
            tensor.coded.push(match array {
                Some(State::Coded(codec, codes, scales)) => Some(self.coded(codec, codes, scales, param.len())?),
                _ => None,
            });
        }
        if tensor.coded.iter().all(Option::is_none) {
            tensor.coded.clear();
        }
        tensor.ema = self.take(name, "ema", arrays.ema.as_ref(), &shape, &text)?;
        if has_master {
            self.written.push(param_name);
            tensor.shadow = Some(param.array());
        } else {
            tensor.shadow = self.shadow(name, arrays.shadow.as_ref(), &shape, &text)?;
        }
        if factored {
            tensor.factors = Some(self.factors(name, arrays, &shape)?);
        }
        for (slot, _) in self.rule.state.iter().zip(&tensor.coded).filter(|(_, coded)| coded.is_some()) {
            self.written.extend(["codes", "scales"].map(|part| format!("state['{name}']['{slot}'].{part}")));
        }
        self.params.push(param);
        Ok(tensor)
    }

    /// State that is kept as codes.
    fn coded(
        &mut self,
        codec: &str,
        codes: &Bound<'_, PyArray1<u8>>,
        scales: &Bound<'_, PyArray1<f32>>,
        len: usize,
    ) -> PyResult<Coded> {
        let codec = StateCodec::find(codec)?;
        let coded = Coded { codec, codes: layout_of(codes, "codes")?, scales: layout_of(scales, "scales")? };
        for (what, want, got) in
            [("codes", len, coded.codes.len()), ("scales", len.div_ceil(STATE_BLOCK), coded.scales.len())]
        {
            if want != got {
                return Err(Error::Length { what, want, got }.into());
            }
        }
        self.alive.extend([codes.clone().into_any().unbind(), scales.clone().into_any().unbind()]);
        Ok(coded)
    }

    /// A shadow copy of the parameter that comes next.
    fn shadow(
        &mut self,
        name: &str,
        array: Option<&Bound<'_, PyAny>>,
        shape: &[isize],
        text: &str,
    ) -> PyResult<Option<Array>> {
        let shadow_name = format!("shadow['{name}']");
        let Some(taken) = self.take_like(shadow_name, array, shape, text)? else { return Ok(None) };
        let array = taken.array();
        self.shadows.push((self.params.len(), taken));
        Ok(Some(array))
    }

    /// Means over the rows and the columns of the last two axes.
    fn factors(&mut self, name: &str, arrays: &Arrays<'_>, shape: &[isize]) -> PyResult<[Array; 2]> {
        let (mut rows, mut columns) = (shape.to_vec(), shape.to_vec());
        (rows[shape.len() - 1], columns[shape.len() - 2]) = (1, 1);
        let mut take = |k: usize, shape: &[isize]| {
            let array = arrays.state.get(k).and_then(Option::as_ref);
            let array = array.and_then(|state| if let State::Plain(array) = state { Some(array) } else { None });
            let found = self.take(name, self.rule.state[k], array, shape, &format!("{shape:?}"))?;
            found.ok_or_else(|| value_error(self.owner, format_args!("state['{name}'] must have means, got none")))
        };
        Ok([take(0, &rows)?, take(1, &columns)?])
    }

    fn take(
        &mut self,
        name: &str,
        slot: &str,
        array: Option<&Bound<'_, PyAny>>,
        shape: &[isize],
        text: &str,
    ) -> PyResult<Option<Array>> {
        let taken = self.take_like(format!("state['{name}']['{slot}']"), array, shape, text)?;
        let array = taken.as_ref().map(Taken::array);
        self.others.extend(taken);
        Ok(array)
    }

    /// An array that is written, of that shape.
    fn take_like(
        &mut self,
        name: String,
        array: Option<&Bound<'_, PyAny>>,
        shape: &[isize],
        text: &str,
    ) -> PyResult<Option<Taken>> {
        let Some(array) = array else { return Ok(None) };
        let taken = Taken::new_writable(self.owner, &|| name.clone(), array)?;
        if taken.shape() != shape {
            let got = taken.shape_text();
            return Err(value_error(self.owner, format_args!("{name} must have shape {text}, got {got}")));
        }
        self.written.push(name);
        Ok(Some(taken))
    }
}

/// `nan`, `inf` or `-inf`, or the number.
fn python_float(value: f64) -> String {
    if value.is_nan() { "nan".to_owned() } else { format!("{value:?}") }
}
