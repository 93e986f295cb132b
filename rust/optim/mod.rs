//! Optimizer steps: check and measure the gradients (one read), then one read-write pass over everything.

pub mod adadelta;
pub mod adafactor;
pub mod adagrad;
pub mod adam;
pub mod adamax;
pub mod adan;
pub mod ademamix;
pub mod asgd;
pub mod bits;
pub mod chunk;
pub mod coded;
mod factor;
pub mod fold;
pub mod grad;
mod gradients;
mod grid;
pub mod internal;
pub mod lamb;
pub mod lars;
pub mod lion;
pub mod mapping;
mod measure;
pub mod muon;
pub mod nadam;
pub mod norm;
pub mod pipeline;
pub mod plan;
pub mod radam;
pub mod rmsprop;
pub mod row;
pub mod rprop;
pub mod rule;
pub mod schedulefree_adamw;
pub mod sgd;
pub mod stage;
mod strip;
pub mod survey;
pub mod table;
pub mod tensors;
pub mod vectors;

pub use gradients::{Gradients, Reduction};

use crate::{error::Error, float_environment::DefaultFloatEnvironment, random::Philox, simd::Isa};
use pipeline::{Folds, Pass};
use rule::Entry;
use table::Rows;

/// Runs a rule of one scalar without gradients; `scalars` are those of each tensor.
pub fn apply(isa: Isa, rule: &Entry, rows: &mut Rows, scalars: &[f64]) {
    let _environment = DefaultFloatEnvironment::enter();
    let cohorts: Vec<u32> = (0..).take(scalars.len()).collect();
    let signs = vec![1.0; scalars.len()];
    let pass = Pass { isa, cohorts: &cohorts, scalars, signs: &signs, folds: Folds::factor(1.0) };
    (rule.run)(&pass, rows);
}

/// What is folded into a step.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Gradients are divided by this.
    pub grad_scale: f64,
    /// Refuse NaN and infinity.
    pub check_finite: bool,
    /// Then clip each element to this range around zero.
    pub clip_value: Option<f64>,
    /// Then clip the norm of all gradients to this.
    pub max_norm: Option<f64>,
    /// Which norm.
    pub norm: Reduction,
    /// Then clip each unit's norm to this part of its parameter's norm.
    pub agc: Option<f64>,
    /// The moving average's step towards the parameter.
    pub ema_weight: f64,
    /// Round 16-bit parameters at random: key and step of the stream.
    pub rounding: Option<Philox>,
    /// Round coded state at random: the same.
    pub state_rounding: Option<Philox>,
    /// Nothing follows the rule: neither masks nor copies nor zeroed gradients.
    pub only_rule: bool,
}

impl Options {
    /// Gradients divided by a number, and nothing else.
    #[must_use]
    pub const fn plain(grad_scale: f64) -> Self {
        Self {
            grad_scale,
            check_finite: false,
            clip_value: None,
            max_norm: None,
            norm: Reduction::NORM,
            agc: None,
            ema_weight: 0.0,
            rounding: None,
            state_rounding: None,
            only_rule: false,
        }
    }
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
    let seen = gradients.look(isa, options)?;
    let (inverse, clip) = (1.0 / options.grad_scale, seen.clip_factor(options));
    let (first, second) = if options.clip_value.is_some() { (inverse, clip) } else { (clip / options.grad_scale, 1.0) };
    let unit_factors = options.agc.map(|agc| seen.unit_factors(agc, options, clip));
    let folds = Folds {
        first,
        limit: options.clip_value,
        second,
        unit_factors: unit_factors.as_deref(),
        ema_weight: options.ema_weight,
        rounding: options.rounding,
        state_rounding: options.state_rounding,
        only_rule: options.only_rule,
    };
    let Cohorts { of_tensor, scalars, signs } = cohorts;
    (rule.run)(&Pass { isa, cohorts: of_tensor, scalars, signs, folds }, gradients.rows_mut());
    Ok(seen.norm)
}
