//! Casts between stored types; 8-bit floats come as their bytes.

use pyo3::prelude::*;

use super::{
    arrays::{self, Taken, byte_layout},
    call::Object,
    value_error,
};
use crate::{
    error::Error,
    layout::Layout,
    quant::cast::{Format, Source, Target, To, cast as cast_all},
    simd::Isa,
};

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(cast, module)?)
}

/// An array of one side.
enum Side {
    Floats(Taken),
    Codes(Layout, Format),
}

impl Side {
    fn new(owner: &str, name: &'static str, object: &Object<'_>, format: Option<&str>) -> PyResult<Self> {
        Ok(match format {
            None => Self::Floats(Taken::new(owner, &|| name.to_owned(), object)?),
            Some(format) => Self::Codes(byte_layout(object)?, Format::find(format)?),
        })
    }

    fn layout(&self) -> Layout {
        match self {
            Self::Floats(taken) => taken.array().layout,
            Self::Codes(layout, _) => layout.clone(),
        }
    }

    fn source(&self, is_rewritten: bool) -> Source {
        match self {
            Self::Floats(taken) => Source::Floats(arrays::input(&taken.array(), is_rewritten)),
            Self::Codes(layout, format) => Source::Codes(arrays::bytes(layout), *format),
        }
    }

    fn target(&self, saturates: bool) -> Target {
        match self {
            Self::Floats(taken) => Target::Floats(arrays::output(&taken.array())),
            Self::Codes(layout, format) => Target::Codes(arrays::bytes_mut(layout), To { format: *format, saturates }),
        }
    }
}

/// Casts `x` to `out`, which is writable and may be the same elements in the same layout. A format names what bytes mean.
#[pyfunction]
fn cast(
    py: Python<'_>,
    owner: &str,
    x: Object<'_>,
    x_format: Option<&str>,
    out: Object<'_>,
    out_format: Option<&str>,
    saturates: bool,
) -> PyResult<()> {
    let isa = Isa::current()?;
    let (from, to) = (Side::new(owner, "x", &x, x_format)?, Side::new(owner, "out", &out, out_format)?);
    let (read, written) = (from.layout(), to.layout());
    if !written.is_injective() {
        return Err(value_error(owner, Error::SelfOverlap("out".to_owned())));
    }
    if read != written && read.overlaps(&written) {
        return Err(value_error(owner, Error::Overlap { first: "x".to_owned(), second: "out".to_owned() }));
    }
    let (source, mut target) = (from.source(read == written), to.target(saturates));
    py.detach(|| cast_all(isa, &source, &mut target)).map_err(|error| value_error(owner, error))
}
