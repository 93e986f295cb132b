//! The sweep before the write pass of rules that need norms of whole tensors (LAMB, LARS, Adafactor).
//!
//! It reads what the write pass will read, so both see the same gradients and the same stored state, and writes nothing.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use fearless_simd::prelude::*;

use super::{
    factor::{self, Means},
    pipeline::{Pass, Rules, Scaled},
    plan::Chunk,
    rule::{Norms, Rule},
    table::Rows,
};
use crate::{
    dispatch,
    dtype::Compute,
    reduce::{BLOCK, LANES, Lanes, Term, fold_partials},
};

/// The sums of squares of a block while it is being read.
#[derive(Debug, Default)]
pub(super) struct Sums {
    param: Lanes,
    measured: Lanes,
}

impl Sums {
    /// Adds the squares of `len` elements; what lies behind them is overwritten with zeros.
    pub(super) fn add<S: Simd, T: Compute>(&mut self, simd: S, param: &mut [T], measured: &mut [T], len: usize) {
        let rows = len.div_ceil(LANES);
        param[len..rows * LANES].fill(T::default());
        measured[len..rows * LANES].fill(T::default());
        simd.vectorize(
            #[inline(always)]
            || {
                self.param.add::<S, T>(simd, Term::Square, T::values(param), 0, rows);
                self.measured.add::<S, T>(simd, Term::Square, T::values(measured), 0, rows);
            },
        );
    }
}

/// Room for the results of all blocks.
#[derive(Debug)]
pub(super) struct Wanted {
    param: Vec<AtomicU64>,
    measured: Vec<AtomicU64>,
}

impl Wanted {
    fn new(rows: &Rows) -> Self {
        let zeros = || (0..rows.plan().total_blocks()).map(|_| AtomicU64::new(0)).collect();
        Self { param: zeros(), measured: zeros() }
    }

    /// Takes the sums of a block that ends at the chunk's element `end`; others go on.
    pub(super) fn take(&self, sums: &mut Sums, chunk: Chunk, end: usize) {
        if end.is_multiple_of(BLOCK) || end == chunk.len {
            let block = chunk.block + (end - 1) / BLOCK;
            let Sums { param, measured } = std::mem::take(sums);
            self.param[block].store(param.fold().to_bits(), Relaxed);
            self.measured[block].store(measured.fold().to_bits(), Relaxed);
        }
    }

    /// For each row the two norms.
    fn norms(self, pass: &Pass<'_>, rows: &Rows) -> Vec<Norms> {
        let numbers = |all: Vec<AtomicU64>| -> Vec<f64> {
            all.into_iter().map(|bits| f64::from_bits(bits.into_inner())).collect()
        };
        let (mut param, mut measured) = (numbers(self.param), numbers(self.measured));
        let norm = |sums: &mut [f64]| dispatch!(pass.isa, simd => fold_partials(simd, sums)).sqrt();
        let of_row = |row| {
            let blocks = rows.plan().blocks(row);
            Norms {
                len: rows.len_of(row),
                param: norm(&mut param[blocks.clone()]),
                measured: norm(&mut measured[blocks]),
            }
        };
        (0..rows.plan().rows()).map(of_row).collect()
    }
}

/// A rule for each row, made of its cohort's and of what is measured.
pub(super) fn rules_of_rows<R32, R64, const N: usize>(
    pass: &Pass<'_>,
    rows: &mut Rows,
    rules: &Rules<R32, R64>,
    means: &mut Option<Means>,
) -> Rules<R32, R64>
where
    R32: Rule<f32, N>,
    R64: Rule<f64, N>,
{
    let cohort_of: Vec<usize> = rows.tensors().map(|tensor| pass.cohorts[tensor] as usize).collect();
    let mut own = Rules {
        by_cohort: false,
        f32: cohort_of.iter().zip(rows.have_factors()).map(|(&k, factored)| rules.f32[k].of_tensor(factored)).collect(),
        f64: cohort_of.iter().zip(rows.have_factors()).map(|(&k, factored)| rules.f64[k].of_tensor(factored)).collect(),
    };
    *means = if R32::FACTORED { factor::update(pass, rows, &own) } else { None };
    let wanted = Wanted::new(rows);
    rows.for_each_piece(|pieces| {
        dispatch!(pass.isa, simd => pass.work_on(simd, pieces, &own, means.as_ref(), Some(&wanted)));
    });
    for (row, norms) in wanted.norms(pass, rows).into_iter().enumerate() {
        own.f32[row].rule = own.f32[row].rule.measured(norms);
        own.f64[row].rule = own.f64[row].rule.measured(norms);
    }
    own
}

impl<R: Copy, T: Compute> Scaled<R, T> {
    fn of_tensor<const N: usize>(self, factored: bool) -> Self
    where
        R: Rule<T, N>,
    {
        Self { rule: self.rule.of_tensor(factored), ..self }
    }
}
