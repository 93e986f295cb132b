//! The gradients of a step before anything is written: one read for the check and the norms, then the factors they give.

use std::sync::atomic::AtomicU64;

use super::{
    Options,
    norm::{self, Largest},
    survey::{Answer, Question, survey},
    table::Rows,
};
use crate::{
    error::Error,
    float_environment::DefaultFloatEnvironment,
    reduce::{Term, max_magnitude},
    simd::Isa,
};

/// The least norm of a parameter that its gradient's norm is compared with, so that zeros can start to move.
const LEAST_PARAM_NORM: f64 = 1e-3;

/// The gradients of a step, matched with the tensors that they belong to.
#[derive(Debug, Default)]
pub struct Gradients {
    rows: Rows,
    partials: Vec<AtomicU64>,
}

impl Gradients {
    /// The gradients in these rows.
    #[must_use]
    pub const fn new(rows: Rows) -> Self {
        Self { rows, partials: vec![] }
    }

    /// Reduces all gradients to one number.
    pub fn reduce(&mut self, isa: Isa, kind: Reduction) -> f64 {
        let _environment = DefaultFloatEnvironment::enter();
        match kind {
            Reduction::Sum(term) => norm::sum(isa, &self.rows, term, &mut self.partials),
            Reduction::MaxAbs => {
                let Largest { f32, f64 } = norm::largest(isa, &self.rows);
                max_magnitude(f32, f64)
            }
        }
    }
}

/// How many elements become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// A fixed-shape sum.
    Sum(Term),
    /// The largest magnitude, NaN if there is one.
    MaxAbs,
}

impl Reduction {
    /// The reduction of that name.
    pub fn find(name: &str) -> Result<Self, Error> {
        match name {
            "sum" => Ok(Self::Sum(Term::Value)),
            "sum_abs" => Ok(Self::Sum(Term::Magnitude)),
            "sum_squares" => Ok(Self::Sum(Term::Square)),
            "max_abs" => Ok(Self::MaxAbs),
            _ => Err(Error::UnknownReduction(name.to_owned())),
        }
    }

    /// The 2-norm's.
    pub const NORM: Self = Self::Sum(Term::Square);

    /// The norm that belongs to a reduction's result.
    fn norm(self, result: f64) -> f64 {
        if self == Self::NORM { result.sqrt() } else { result }
    }
}

/// What the read found.
#[derive(Debug)]
pub(super) struct Seen {
    /// The norm of all gradients, if it was asked for.
    pub(super) norm: Option<f64>,
    /// For each row and unit the sums of squares of gradient and parameter.
    units: Vec<Vec<[f64; 2]>>,
}

impl Gradients {
    pub(super) const fn rows_mut(&mut self) -> &mut Rows {
        &mut self.rows
    }

    /// Reads the gradients once, if anything is asked of them, and refuses what is not finite.
    pub(super) fn look(&mut self, isa: Isa, options: Options) -> Result<Seen, Error> {
        let measures = options.check_finite || options.max_norm.is_some();
        if options.agc.is_some() || (measures && (options.clip_value.is_some() || self.rows.has_masks())) {
            return self.survey(isa, options);
        }
        let norm =
            options.max_norm.map(|_| options.norm.norm(self.reduce(isa, options.norm)) / options.grad_scale.abs());
        // A norm well within float32's range bounds every element, so the read that made it is the check.
        let bounded = norm.is_some_and(|norm| norm <= f64::from(f32::MAX / 2.0));
        if options.check_finite && !(bounded && ((1.0 / options.grad_scale) as f32).is_finite()) {
            self.check_finite(isa, &norm::largest(isa, &self.rows), norm, options.grad_scale)?;
        }
        Ok(Seen { norm, units: vec![] })
    }

    fn survey(&self, isa: Isa, options: Options) -> Result<Seen, Error> {
        let norm = options.max_norm.map(|_| options.norm);
        let inverse = 1.0 / options.grad_scale;
        let question = Question {
            largest: options.check_finite || norm == Some(Reduction::MaxAbs),
            term: if let Some(Reduction::Sum(term)) = norm { Some(term) } else { None },
            units: options.agc.is_some(),
            clip: options.clip_value.map(|limit| (inverse, limit)),
        };
        let Answer { largest, sum, units } = survey(isa, &self.rows, question);
        let norm = norm.map(|norm| match (norm, options.clip_value) {
            (Reduction::MaxAbs, None) => max_magnitude(largest.f32, largest.f64) / options.grad_scale.abs(),
            (Reduction::MaxAbs, Some(limit)) => largest.clipped(inverse, limit),
            (_, None) => norm.norm(sum) / options.grad_scale.abs(),
            (_, Some(_)) => norm.norm(sum),
        });
        if options.check_finite {
            self.check_finite(isa, &largest, norm, options.grad_scale)?;
        }
        Ok(Seen { norm, units })
    }

    /// Every gradient, divided by `grad_scale`, is finite in its compute type, and so is their norm if there is one.
    fn check_finite(&self, isa: Isa, largest: &Largest, norm: Option<f64>, grad_scale: f64) -> Result<(), Error> {
        let factor = 1.0 / grad_scale;
        let finite = (largest.f32 as f32 * factor as f32).is_finite() && (largest.f64 * factor).is_finite();
        let found = if finite { None } else { norm::first_nonfinite(isa, &self.rows, factor) };
        if let Some((tensor, element, value)) = found {
            return Err(Error::NonFinite { tensor, element, value, grad_scale });
        }
        match norm {
            Some(norm) if !norm.is_finite() => Err(Error::NormOverflow(norm)),
            _ => Ok(()),
        }
    }
}

impl Seen {
    /// min(1, max_norm / (norm + 1e-6)), NaN for a norm that is NaN; 1 without a limit.
    pub(super) fn clip_factor(&self, options: Options) -> f64 {
        let (Some(max_norm), Some(norm)) = (options.max_norm, self.norm) else { return 1.0 };
        let factor = max_norm / (norm + 1e-6);
        if factor > 1.0 { 1.0 } else { factor }
    }

    /// For each row and unit min(1, agc·max(‖param‖, 1e-3) / ‖grad‖), the gradient's norm being that after `clip`.
    pub(super) fn unit_factors(&self, agc: f64, options: Options, clip: f64) -> Vec<Vec<f64>> {
        let scale = if options.clip_value.is_some() { clip } else { clip / options.grad_scale.abs() };
        let factor = |&[grad, param]: &[f64; 2]| {
            let (norm, param) = (grad.sqrt() * scale, param.sqrt());
            let limit = agc * if param > LEAST_PARAM_NORM { param } else { LEAST_PARAM_NORM };
            if norm > limit { limit / norm } else { 1.0 }
        };
        self.units.iter().map(|units| units.iter().map(factor).collect()).collect()
    }
}
