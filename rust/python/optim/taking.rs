//! The arrays that a step writes, as Python has them and as the core does.

use numpy::PyArray1;
use pyo3::prelude::*;

use crate::{
    array::Array,
    error::Error,
    optim::{
        coded::{Coded, STATE_BLOCK, StateCodec},
        rule::Entry,
        tensors::Tensor,
    },
    python::{
        arrays::{Taken, layout_of},
        value_error,
    },
};

/// A state array: itself, or its codec's name, codes and scales.
#[derive(FromPyObject)]
pub(super) enum State<'py> {
    Coded(String, Bound<'py, PyArray1<u8>>, Bound<'py, PyArray1<f32>>),
    Plain(Bound<'py, PyAny>),
}

/// The arrays of one parameter as Python has them.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(super) struct Arrays<'py> {
    param: Bound<'py, PyAny>,
    master: Option<Bound<'py, PyAny>>,
    state: Vec<Option<State<'py>>>,
    ema: Option<Bound<'py, PyAny>>,
    shadow: Option<Bound<'py, PyAny>>,
}

/// Takes the arrays that a step writes.
pub(super) struct Taking<'a> {
    owner: &'a str,
    rule: &'static Entry,
    /// Names of the arrays that are written, tensor by tensor in the order of `Tensor::written`.
    pub(super) written: Vec<String>,
    pub(super) params: Vec<Taken>,
    pub(super) others: Vec<Taken>,
    pub(super) shadows: Vec<(usize, Taken)>,
    /// Codes and scales.
    pub(super) alive: Vec<Py<PyAny>>,
}

impl<'a> Taking<'a> {
    /// Nothing yet.
    pub(super) const fn new(owner: &'a str, rule: &'static Entry) -> Self {
        Self { owner, rule, written: vec![], params: vec![], others: vec![], shadows: vec![], alive: vec![] }
    }

    pub(super) fn tensor(&mut self, name: &str, arrays: &Arrays<'_>) -> PyResult<Tensor> {
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
                Some(State::Coded(codec, codes, scales)) => {
                    Some(self.coded(&format!("state['{name}']['{slot}']"), codec, (codes, scales), param.len())?)
                }
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
            self.written.extend(parts_of(&format!("state['{name}']['{slot}']")));
        }
        self.params.push(param);
        Ok(tensor)
    }

    /// State that is kept as codes.
    fn coded(
        &mut self,
        name: &str,
        codec: &str,
        (codes, scales): (&Bound<'_, PyArray1<u8>>, &Bound<'_, PyArray1<f32>>),
        len: usize,
    ) -> PyResult<Coded> {
        let (codec, [codes_name, scales_name]) = (StateCodec::find(codec)?, parts_of(name));
        let coded = Coded {
            codec,
            codes: layout_of(self.owner, &codes_name, codes)?,
            scales: layout_of(self.owner, &scales_name, scales)?,
        };
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

/// Names of the arrays that hold a state array's codes.
fn parts_of(name: &str) -> [String; 2] {
    ["codes", "scales"].map(|part| format!("{name}.{part}"))
}
