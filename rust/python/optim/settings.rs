//! What an optimizer folds into its steps.

use pyo3::prelude::*;

use crate::{
    error::Error,
    optim::{Options, Reduction},
    random::Philox,
};

/// Philox streams of parameters' rounding: purpose 1, then the tensor's index.
const ROUNDING_STREAM: u32 = 1 << 24;

/// Those of state arrays' rounding: purposes 2, 18, 34 and 50 for the rule's first to fourth, then the tensor's index.
const STATE_ROUNDING_STREAM: u32 = 2 << 24;

/// What an optimizer folds into its steps, fixed at construction.
#[derive(Debug, FromPyObject)]
#[pyo3(from_item_all)]
pub(super) struct Settings {
    pub(super) check_finite: bool,
    pub(super) clip_value: Option<f64>,
    pub(super) max_norm: Option<f64>,
    pub(super) norm: String,
    pub(super) agc: Option<f64>,
    pub(super) ema_weight: f64,
    /// Key of the random rounding of 16-bit parameters.
    pub(super) rounding_seed: Option<u64>,
    /// Key of the random rounding of coded state.
    pub(super) state_rounding_seed: Option<u64>,
    pub(super) zero_grads: bool,
    /// Address and bytes of the mapped file that the state lies in.
    pub(super) mapping: Option<(usize, usize)>,
}

impl Settings {
    pub(super) fn options(&self, grad_scale: f64, updates: u64) -> Result<Options, Error> {
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
