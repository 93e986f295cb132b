//! The tile pipeline: load, scale the gradient, apply the rule, store, four vectors at a time, all stages in one function
//! for each rule, compute type and CPU level.

use fearless_simd::prelude::*;

use super::{
    rule::Rule,
    stage::{Arrays, Piece, STAGE, Staged, Tiles},
    table::{ChunkArrays, Pieces, Rows},
};
use crate::{
    dispatch,
    dtype::{Compute, DType},
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
    /// For each cohort what its gradients are multiplied by.
    pub factors: &'a [f64],
}

/// A rule and what gradients are multiplied by before they reach it.
#[derive(Clone, Copy, Debug)]
struct Scaled<R, T> {
    rule: R,
    factor: T,
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
        let rules32 = self.scaled(rule32);
        let rules64 = self.scaled(rule64);
        rows.for_each_piece(|pieces| {
            dispatch!(self.isa, simd => self.step_pieces(simd, pieces, &rules32, &rules64));
        });
    }

    fn scaled<R, T: Compute>(&self, make: impl Fn(&[f64]) -> R) -> Vec<Scaled<R, T>> {
        let width = self.scalars.len() / self.factors.len().max(1);
        let cohort = |(k, &factor)| Scaled {
            rule: make(&self.scalars[k * width..(k + 1) * width]),
            factor: T::from_f64(factor),
        };
        self.factors.iter().enumerate().map(cohort).collect()
    }

    #[inline(always)]
    fn step_pieces<S: Simd, R32: Rule<f32, N>, R64: Rule<f64, N>, const N: usize>(
        &self,
        simd: S,
        mut pieces: Pieces<'_>,
        rules32: &[Scaled<R32, f32>],
        rules64: &[Scaled<R64, f64>],
    ) {
        let mut stage = Staged::default();
        while let Some(mut chunk) = pieces.next_chunk() {
            let cohort = self.cohorts[chunk.tensor()] as usize;
            match chunk.compute() {
                DType::F64 => step_chunk(simd, &rules64[cohort], &mut chunk, &mut stage),
                _ => step_chunk(simd, &rules32[cohort], &mut chunk, &mut stage),
            }
        }
    }
}

/// Whole tiles in place, the rest (or all of it, where the arrays are no slices) by way of the stage.
#[inline(always)]
fn step_chunk<S: Simd, T: Compute, R: Rule<T, N>, const N: usize>(
    simd: S,
    rule: &Scaled<R, T>,
    chunk: &mut ChunkArrays<'_>,
    stage: &mut Staged<N>,
) {
    let whole = chunk.len() - chunk.len() % tile_len::<S, T>();
    let mut done = 0;
    if let Some(mut piece) = chunk.in_place(whole) {
        step_tiles(simd, rule, &mut piece, whole);
        done = whole;
    }
    if done < chunk.len() {
        step_staged(simd, rule, chunk, done, stage);
    }
}

/// Gathers, steps whole tiles (the padding's results go nowhere) and scatters.
#[inline(never)]
fn step_staged<S: Simd, T: Compute, R: Rule<T, N>, const N: usize>(
    simd: S,
    rule: &Scaled<R, T>,
    chunk: &mut ChunkArrays<'_>,
    done: usize,
    stage: &mut Staged<N>,
) {
    for at in (done..chunk.len()).step_by(STAGE) {
        let count = STAGE.min(chunk.len() - at);
        chunk.gather(at, count, stage);
        step_tiles(simd, rule, &mut stage.piece(), count.next_multiple_of(tile_len::<S, T>()));
        chunk.scatter(at, count, stage);
    }
}

/// `len` elements of a piece, a multiple of the tile. One function, called from both ways above; a second loop spares
/// arrays that are stored as they are computed the question of how each is stored: 0.30 or 0.14 ns an element of AdamW in L2.
#[inline(never)]
fn step_tiles<S: Simd, T: Compute, R: Rule<T, N>, const N: usize>(
    simd: S,
    rule: &Scaled<R, T>,
    piece: &mut Piece<'_, N>,
    len: usize,
) {
    simd.vectorize(
        #[inline(always)]
        || match piece.plain::<T>() {
            Some(mut plain) => step_all(simd, *rule, &mut plain, len),
            None => step_all(simd, *rule, piece, len),
        },
    );
}

#[inline(always)]
fn step_all<S: Simd, T: Compute, R: Rule<T, N>, const N: usize>(
    simd: S,
    rule: Scaled<R, T>,
    arrays: &mut impl Arrays<T, N>,
    len: usize,
) {
    let mut at = 0;
    while at < len {
        let mut tiles = arrays.load(simd, at);
        step_tile(rule, &mut tiles);
        arrays.store(simd, tiles, at);
        at += tile_len::<S, T>();
    }
}

#[inline(always)]
fn step_tile<S: Simd, T: Compute, R: Rule<T, N>, const N: usize>(rule: Scaled<R, T>, tiles: &mut Tiles<S, T, N>) {
    for i in 0..TILE_VECTORS {
        let (param, grad) = (tiles.param[i], tiles.grad[i] * rule.factor);
        let mut state = [param; N];
        for k in 0..N {
            state[k] = tiles.state[k][i];
        }
        let (param, state) = rule.rule.step(param, grad, state);
        tiles.param[i] = param;
        for k in 0..N {
            tiles.state[k][i] = state[k];
        }
    }
}
