//! The tile pipeline: load, scale the gradient, apply the rule, store, four vectors at a time in registers. Those loops are the
//! only code that is made once for each rule ([`Loops`]); what is folded around the rule works strip by strip ([`super::fold`]).

use fearless_simd::prelude::*;

use super::{
    chunk::ChunkArrays,
    factor::Means,
    fold::Preparation,
    measure::{self, Wanted},
    rule::Rule,
    stage::{Arrays, Piece, Staged},
    table::{Pieces, Rows},
};
use crate::{
    array::buffer::STAGE,
    dispatch,
    dtype::{Compute, DType, store_native},
    random::Philox,
    simd::{Isa, TILE_VECTORS, tile_len},
};

/// Everything that the write pass of a step needs.
#[derive(Debug)]
pub struct Pass<'a> {
    /// CPU level.
    pub isa: Isa,
    /// For each tensor the cohort it belongs to: tensors with the same scalars.
    pub cohorts: &'a [u32],
    /// For each cohort its scalars, one after another.
    pub scalars: &'a [f64],
    /// For each cohort 1, or -1 to maximize.
    pub signs: &'a [f64],
    /// What happens around the rule.
    pub folds: Folds<'a>,
}

/// What happens around the rule, the same for all tensors.
#[derive(Clone, Copy, Debug)]
pub struct Folds<'a> {
    /// Gradients are multiplied by this.
    pub first: f64,
    /// Then clamped to this range around zero,
    pub limit: Option<f64>,
    /// then multiplied by this,
    pub second: f64,
    /// then by a factor for each unit of each row.
    pub unit_factors: Option<&'a [Vec<f64>]>,
    /// The moving average's step towards the parameter.
    pub ema_weight: f64,
    /// 16-bit parameters are rounded at random: key and step; the tensor's index is added to the stream.
    pub rounding: Option<Philox>,
    /// Coded state is rounded at random: the same.
    pub state_rounding: Option<Philox>,
    /// Nothing follows the rule: neither masks nor copies nor zeroed gradients.
    pub only_rule: bool,
}

impl Folds<'_> {
    /// Gradients times a factor.
    #[must_use]
    pub const fn factor(first: f64) -> Self {
        Self {
            first,
            limit: None,
            second: 1.0,
            unit_factors: None,
            ema_weight: 0.0,
            rounding: None,
            state_rounding: None,
            only_rule: false,
        }
    }
}

/// A rule and what gradients are multiplied by before they reach it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scaled<R, T> {
    pub(super) rule: R,
    /// 1 where a gradient is prepared on its own.
    pub(super) factor: T,
    /// How it is prepared then.
    pub(super) preparation: Preparation<T>,
}

/// A rule whose loops are called through a table.
pub(super) type Looped<'a, S, T, const N: usize> = Scaled<&'a dyn Loops<S, T, N>, T>;

impl<R, T: Copy> Scaled<R, T> {
    #[inline(always)]
    fn looped<S: Simd, const N: usize>(&self) -> Looped<'_, S, T, N>
    where
        R: Loops<S, T, N>,
    {
        Scaled { rule: &self.rule, factor: self.factor, preparation: self.preparation }
    }
}

/// The loops over tiles of a rule; `len` is a multiple of the tile, gradients are multiplied by `factor`.
pub(super) trait Loops<S: Simd, T, const N: usize> {
    /// Steps `len` elements.
    fn step(&self, simd: S, factor: T, piece: &mut Piece<'_, N>, len: usize);

    /// What the rule measures of `len` elements.
    fn measure(&self, simd: S, factor: T, piece: &mut Piece<'_, N>, out: &mut [T], len: usize);
}

impl<S: Simd, T: Compute, R: Rule<T, N>, const N: usize> Loops<S, T, N> for R {
    /// A second loop spares arrays that are stored as they are computed the question of how each is stored: 0.30 or 0.14 ns
    /// an element of AdamW in L2.
    fn step(&self, simd: S, factor: T, piece: &mut Piece<'_, N>, len: usize) {
        simd.vectorize(
            #[inline(always)]
            || match piece.plain::<T>() {
                Some(mut plain) => step_all(simd, *self, factor, &mut plain, len),
                None => step_all(simd, *self, factor, piece, len),
            },
        );
    }

    fn measure(&self, simd: S, factor: T, piece: &mut Piece<'_, N>, out: &mut [T], len: usize) {
        if R::MEASURES {
            simd.vectorize(
                #[inline(always)]
                || match piece.plain::<T>() {
                    Some(plain) => measure_all(simd, *self, factor, &plain, out, len),
                    None => measure_all(simd, *self, factor, piece, out, len),
                },
            );
        }
    }
}

/// The rules of a pass for either compute type.
#[derive(Debug)]
pub(super) struct Rules<R32, R64> {
    /// One for each cohort, or one for each row?
    pub(super) by_cohort: bool,
    pub(super) f32: Vec<Scaled<R32, f32>>,
    pub(super) f64: Vec<Scaled<R64, f64>>,
}

impl Pass<'_> {
    /// Runs the pass with rules made from the cohorts' scalars, for either compute type.
    pub fn run<R32, R64, const N: usize>(
        &self,
        rows: &mut Rows,
        rule32: impl Fn(&[f64]) -> R32,
        rule64: impl Fn(&[f64]) -> R64,
    ) where
        R32: Rule<f32, N>,
        R64: Rule<f64, N>,
    {
        let rules = Rules { by_cohort: true, f32: self.scaled(rule32), f64: self.scaled(rule64) };
        let mut means = None;
        let rules = if R32::MEASURES { measure::rules_of_rows(self, rows, &rules, &mut means) } else { rules };
        rows.for_each_piece(|pieces| {
            dispatch!(self.isa, simd => self.work_on(simd, pieces, &rules, means.as_ref(), None));
        });
    }

    fn scaled<R, T: Compute>(&self, make: impl Fn(&[f64]) -> R) -> Vec<Scaled<R, T>> {
        let (width, folds) = (self.scalars.len() / self.signs.len().max(1), &self.folds);
        let cohort = |(k, &sign): (usize, &f64)| Scaled {
            rule: make(&self.scalars[k * width..(k + 1) * width]),
            factor: T::from_f64(sign * folds.first),
            preparation: Preparation::new(sign * folds.first, folds.limit, folds.second),
        };
        self.signs.iter().enumerate().map(cohort).collect()
    }

    /// Steps the chunks of a piece or, where sums are wanted, only measures them.
    #[inline(always)]
    pub(super) fn work_on<S: Simd, R32: Rule<f32, N>, R64: Rule<f64, N>, const N: usize>(
        &self,
        simd: S,
        mut pieces: Pieces<'_>,
        rules: &Rules<R32, R64>,
        means: Option<&Means>,
        wanted: Option<&Wanted>,
    ) {
        let mut stage = Staged::default();
        while let Some(mut chunk) = pieces.next_chunk() {
            let k = if rules.by_cohort { self.cohorts[chunk.tensor()] as usize } else { chunk.chunk().row };
            match chunk.compute() {
                DType::F64 => self.work_on_chunk(simd, rules.f64[k].looped(), &mut chunk, &mut stage, means, wanted),
                _ => self.work_on_chunk(simd, rules.f32[k].looped(), &mut chunk, &mut stage, means, wanted),
            }
        }
    }

    #[inline(always)]
    fn work_on_chunk<S: Simd, T: Compute, const N: usize>(
        &self,
        simd: S,
        rule: Looped<'_, S, T, N>,
        chunk: &mut ChunkArrays<'_>,
        stage: &mut Staged<N>,
        means: Option<&Means>,
        wanted: Option<&Wanted>,
    ) {
        if wanted.is_some() || self.is_folded(chunk, means) {
            self.work_on_strips(simd, rule, chunk, stage, means, wanted);
        } else {
            step_chunk(simd, rule, chunk, stage);
        }
    }
}

/// Whole tiles in place, the rest (or all of it, where the arrays are no slices) by way of the stage.
#[inline(always)]
fn step_chunk<S: Simd, T: Compute, const N: usize>(
    simd: S,
    rule: Looped<'_, S, T, N>,
    chunk: &mut ChunkArrays<'_>,
    stage: &mut Staged<N>,
) {
    let whole = if chunk.is_in_place() { chunk.len() - chunk.len() % tile_len::<S, T>() } else { 0 };
    if whole > 0 {
        rule.rule.step(simd, rule.factor, &mut chunk.in_place(0, whole).0, whole);
    }
    if whole < chunk.len() {
        step_staged(simd, rule, chunk, whole, stage);
    }
}

/// Gathers, steps whole tiles (the padding's results go nowhere) and scatters.
#[inline(never)]
fn step_staged<S: Simd, T: Compute, const N: usize>(
    simd: S,
    rule: Looped<'_, S, T, N>,
    chunk: &mut ChunkArrays<'_>,
    done: usize,
    stage: &mut Staged<N>,
) {
    for at in (done..chunk.len()).step_by(STAGE) {
        let count = STAGE.min(chunk.len() - at);
        chunk.gather(at, count, stage);
        rule.rule.step(simd, rule.factor, &mut stage.piece().0, count.next_multiple_of(tile_len::<S, T>()));
        chunk.scatter(at, count, stage);
    }
}

#[inline(always)]
fn step_all<S: Simd, T: Compute, R: Rule<T, N>, const N: usize>(
    simd: S,
    rule: R,
    factor: T,
    arrays: &mut impl Arrays<T, N>,
    len: usize,
) {
    let mut at = 0;
    while at < len {
        let mut tiles = arrays.load(simd, at);
        for i in 0..TILE_VECTORS {
            let (param, state) = rule.step(tiles.param[i], tiles.grad[i] * factor, tiles.state_of(i));
            tiles.param[i] = param;
            for k in 0..N {
                tiles.state[k][i] = state[k];
            }
        }
        arrays.store(simd, tiles, at);
        at += tile_len::<S, T>();
    }
}

#[inline(always)]
fn measure_all<S: Simd, T: Compute, R: Rule<T, N>, const N: usize>(
    simd: S,
    rule: R,
    factor: T,
    arrays: &impl Arrays<T, N>,
    out: &mut [T],
    len: usize,
) {
    let mut at = 0;
    while at < len {
        let tiles = arrays.load(simd, at);
        let mut measured = tiles.param;
        for i in 0..TILE_VECTORS {
            measured[i] = rule.measure(tiles.param[i], tiles.grad[i] * factor, tiles.state_of(i));
        }
        store_native::<S, T>(measured, out, at);
        at += tile_len::<S, T>();
    }
}
