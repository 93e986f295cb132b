//! The arrays of one call: taken, checked for what meets what, handed out as inputs and outputs.

use pyo3::prelude::*;

use super::{
    arrays::{Taken, input, output},
    value_error,
};
use crate::{
    array::{Array, Input, Output},
    error::Error,
    layout::{Conflict, Territory},
    norm::channels::Channels,
};

pub(super) type Object<'py> = Bound<'py, PyAny>;

/// Arrays of one call by name, those that are written last.
pub(super) struct Arrays {
    _alive: Vec<Taken>,
    all: Vec<Array>,
    names: Vec<&'static str>,
    read: usize,
}

impl Arrays {
    /// Takes the arrays; an output may be an input, element by element, but nothing else may meet what is written.
    pub(super) fn new<const W: usize, const R: usize>(
        owner: &str,
        written: [(&'static str, Option<&Object<'_>>); W],
        read: [(&'static str, Option<&Object<'_>>); R],
    ) -> PyResult<Self> {
        let count = read.iter().filter(|(_, object)| object.is_some()).count();
        let objects = read.into_iter().chain(written).filter_map(|(name, object)| Some((name, object?)));
        let (mut taken, mut names) = (Vec::with_capacity(W + R), Vec::with_capacity(W + R));
        for (name, object) in objects {
            let take = if names.len() < count { Taken::new } else { Taken::new_writable };
            taken.push(take(owner, &|| name.to_owned(), object)?);
            names.push(name);
        }
        let all = taken.iter().map(Taken::array).collect();
        let arrays = Self { _alive: taken, all, names, read: count };
        arrays.check(owner)?;
        Ok(arrays)
    }

    fn check(&self, owner: &str) -> PyResult<()> {
        let (read, written) = self.all.split_at(self.read);
        let name = |k: usize| self.names[self.read + k].to_owned();
        let layouts = written.iter().map(|array| array.layout.clone()).collect();
        let territory = Territory::new(layouts).map_err(|conflict| {
            let error = match conflict {
                Conflict::Within(k) => Error::SelfOverlap(name(k)),
                Conflict::Between(i, j) => Error::Overlap { first: name(i), second: name(j) },
            };
            value_error(owner, error)
        })?;
        // What is rewritten meets one output as a whole, and outputs do not meet: it need not be looked for.
        for (array, second) in read.iter().zip(&self.names).filter(|(array, _)| !self.is_rewritten(array)) {
            if let Some(other) = territory.find(&array.layout) {
                let second = (*second).to_owned();
                return Err(value_error(owner, Error::Overlap { first: name(other), second }));
            }
        }
        Ok(())
    }

    fn is_rewritten(&self, array: &Array) -> bool {
        self.all[self.read..].iter().any(|output| output.layout == array.layout)
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| *known == name)
    }

    pub(super) fn input(&self, name: &str) -> Option<Input> {
        let array = &self.all[self.position(name)?];
        Some(input(array, self.is_rewritten(array)))
    }

    pub(super) fn output(&self, name: &str) -> Option<Output> {
        Some(output(&self.all[self.position(name)?]))
    }
}

/// Fails unless the array has as many elements as the shape says.
pub(super) fn check_len(what: &'static str, want: usize, got: usize) -> PyResult<()> {
    if want == got { Ok(()) } else { Err(Error::Length { what, want, got }.into()) }
}

pub(super) fn check_lengths<const N: usize>(want: usize, arrays: [(&'static str, Option<&Input>); N]) -> PyResult<()> {
    arrays.into_iter().try_for_each(|(what, array)| check_len(what, want, array.map_or(want, Input::len)))
}

/// One array that is read, and up to two more.
pub(super) type Three<'py> = (Object<'py>, Option<Object<'py>>, Option<Object<'py>>);

/// Up to four arrays that are read.
pub(super) type Four<'py> = (Option<Object<'py>>, Option<Object<'py>>, Option<Object<'py>>, Option<Object<'py>>);

pub(super) fn named<'a, 'py>(
    names: [&'static str; 4],
    read: &'a Four<'py>,
) -> [(&'static str, Option<&'a Object<'py>>); 4] {
    let [a, b, c, d] = names;
    [(a, read.0.as_ref()), (b, read.1.as_ref()), (c, read.2.as_ref()), (d, read.3.as_ref())]
}

/// Samples, channels, elements of a channel in a sample.
pub(super) type ChannelShape = (usize, usize, usize);

pub(super) const fn channels_of((samples, channels, inner): ChannelShape) -> Channels {
    Channels { samples, channels, inner }
}
