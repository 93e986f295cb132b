//! What becomes of NaN.

use std::sync::atomic::AtomicUsize;

use crate::{
    error::Error,
    quant::codec::{Nan, make_finite, nan_error},
};

/// The first NaN that any thread has found, if it is refused.
pub(super) struct FirstNan {
    index: AtomicUsize,
    nan: Nan,
}

impl FirstNan {
    pub(super) const fn new(nan: Nan) -> Self {
        Self { index: AtomicUsize::new(usize::MAX), nan }
    }

    /// Keeps the place of a NaN in elements from `start` on; `clean` has zeros instead.
    pub(super) fn zeroed(&self, x: &[f32], start: usize, clean: &mut Vec<f32>) {
        make_finite(x, start, false, clean, (self.nan == Nan::Refused).then_some(&self.index));
    }

    /// Fails if one was found.
    pub(super) fn error(self) -> Result<(), Error> {
        nan_error(self.index.into_inner())
    }
}
