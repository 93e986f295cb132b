//! Optimizer steps: check and measure the gradients (one read), then one read-write pass over everything.

pub mod adadelta;
pub mod adagrad;
pub mod adam;
pub mod adamax;
pub mod adan;
pub mod ademamix;
pub mod asgd;
pub mod lion;
pub mod nadam;
pub mod norm;
mod operand;
pub mod pipeline;
pub mod plan;
pub mod radam;
pub mod rmsprop;
pub mod rprop;
pub mod rule;
pub mod schedulefree_adamw;
pub mod sgd;
pub mod stage;
pub mod table;
pub mod tensors;
pub mod vectors;

use std::sync::atomic::AtomicU64;

use crate::{
    error::Error,
    parallel::DefaultFloatEnvironment,
    reduce::{Term, max_magnitude},
    simd::Isa,
};
use norm::Largest;
use rule::Entry;
use table::Rows;

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
}

/// Runs a rule of one scalar without gradients; `scalars` are those of each tensor.
pub fn apply(isa: Isa, rule: &Entry, rows: &mut Rows, scalars: &[f64]) {
    let _environment = DefaultFloatEnvironment::enter();
    let cohorts: Vec<u32> = (0..).take(scalars.len()).collect();
    let factors = vec![1.0; scalars.len()];
    let pass = pipeline::Pass { isa, cohorts: &cohorts, scalars, factors: &factors };
    (rule.run)(&pass, rows);
}

/// What happens to gradients on their way to the rule.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Gradients are divided by this.
    pub grad_scale: f64,
    /// Clip the global norm to this.
    pub max_norm: Option<f64>,
    /// Refuse NaN and infinity.
    pub check_finite: bool,
}

/// One step's scalars: tensors with the same ones form a cohort.
#[derive(Clone, Copy, Debug)]
pub struct Cohorts<'a> {
    /// For each tensor its cohort.
    pub of_tensor: &'a [u32],
    /// For each cohort the rule's scalars, one after another.
    pub scalars: &'a [f64],
    /// For each cohort 1, or -1 to maximize.
    pub signs: &'a [f64],
}

/// Steps every tensor that has a gradient; returns the norm of all gradients if it was computed.
///
/// Nothing is written when this returns an error.
pub fn step(
    isa: Isa,
    rule: &Entry,
    gradients: &mut Gradients,
    cohorts: Cohorts<'_>,
    options: Options,
) -> Result<Option<f64>, Error> {
    let _environment = DefaultFloatEnvironment::enter();
    let (want, got) = (cohorts.signs.len() * rule.scalars.len(), cohorts.scalars.len());
    if want != got {
        return Err(Error::Length { what: "scalars", want, got });
    }
    let norm =
        options.max_norm.map(|_| gradients.reduce(isa, Reduction::Sum(Term::Square)).sqrt() / options.grad_scale.abs());
    if options.check_finite {
        check_finite(isa, gradients, norm, options.grad_scale)?;
    }
    let clip = match (options.max_norm, norm) {
        (Some(max_norm), Some(norm)) => clip_factor(max_norm, norm),
        _ => 1.0,
    };
    let factors: Vec<f64> = cohorts.signs.iter().map(|sign| sign * (clip / options.grad_scale)).collect();
    let pass = pipeline::Pass { isa, cohorts: cohorts.of_tensor, scalars: cohorts.scalars, factors: &factors };
    (rule.run)(&pass, &mut gradients.rows);
    Ok(norm)
}

/// min(1, max_norm / (norm + 1e-6)), NaN for a norm that is NaN.
#[must_use]
pub fn clip_factor(max_norm: f64, norm: f64) -> f64 {
    let factor = max_norm / (norm + 1e-6);
    if factor > 1.0 { 1.0 } else { factor }
}

/// Every gradient, divided by `grad_scale`, is finite in its compute type, and so is their norm if there is one.
fn check_finite(isa: Isa, gradients: &Gradients, norm: Option<f64>, grad_scale: f64) -> Result<(), Error> {
    let factor = 1.0 / grad_scale;
    // A norm well within float32's range bounds every element, so the read that made it is the check.
    if norm.is_some_and(|norm| norm <= f64::from(f32::MAX / 2.0)) && (factor as f32).is_finite() {
        return Ok(());
    }
    let Largest { f32, f64 } = norm::largest(isa, &gradients.rows);
    let finite = (f32 as f32 * factor as f32).is_finite() && (f64 * factor).is_finite();
    let found = if finite { None } else { norm::first_nonfinite(isa, &gradients.rows, factor) };
    if let Some((tensor, element, value)) = found {
        return Err(Error::NonFinite { tensor, element, value, grad_scale });
    }
    match norm {
        Some(norm) if !norm.is_finite() => Err(Error::NormOverflow(norm)),
        _ => Ok(()),
    }
}
