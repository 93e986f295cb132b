//! The one read of the gradients before a step: norms by fixed-shape sums, the largest magnitude, the first bad element.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use fearless_simd::prelude::*;

use super::{
    grad::Grad,
    plan::{Chunk, Plan},
    table::Rows,
};
use crate::{
    array::{
        buffer::{Buffer, STAGE},
        reading::read,
    },
    dispatch,
    dtype::{Compute, DType},
    reduce::{BLOCK, LANES, Lanes, Term, fold_partials, max_abs, max_magnitude},
    simd::{Isa, tile_len},
};

const _: () = assert!(STAGE == LANES);

/// The sum of all rows' gradients: each row by its fixed tree, the rows in order. `partials` is room for the blocks' results.
pub fn sum(isa: Isa, rows: &Rows, term: Term, partials: &mut Vec<AtomicU64>) -> f64 {
    partials.resize_with(rows.plan().total_blocks(), AtomicU64::default);
    let shared = &partials[..];
    rows.for_each_grad_piece(|chunks| {
        let mut stage = Buffer::default();
        dispatch!(isa, simd => for (chunk, grad) in chunks {
            match grad.compute() {
                DType::F64 => sum_chunk::<_, f64>(simd, term, grad, chunk, shared, &mut stage),
                _ => sum_chunk::<_, f32>(simd, term, grad, chunk, shared, &mut stage),
            }
        });
    });
    total(isa, rows.plan(), shared)
}

/// The blocks' results by the fixed tree of each row, the rows in order.
pub(super) fn total(isa: Isa, plan: &Plan, partials: &[AtomicU64]) -> f64 {
    let mut results: Vec<f64> = partials.iter().map(|bits| f64::from_bits(bits.load(Relaxed))).collect();
    let mut total = 0.0;
    for row in 0..plan.rows() {
        total += dispatch!(isa, simd => fold_partials(simd, &mut results[plan.blocks(row)]));
    }
    total
}

#[inline(always)]
fn sum_chunk<S: Simd, T: Compute>(
    simd: S,
    term: Term,
    grad: Grad<'_>,
    chunk: &Chunk,
    partials: &[AtomicU64],
    stage: &mut Buffer,
) {
    for (k, at) in (0..chunk.len).step_by(BLOCK).enumerate() {
        let result = sum_block::<S, T>(simd, term, grad, chunk.start + at, BLOCK.min(chunk.len - at), stage);
        partials[chunk.block + k].store(result.to_bits(), Relaxed);
    }
}

#[inline(always)]
fn sum_block<S: Simd, T: Compute>(
    simd: S,
    term: Term,
    grad: Grad<'_>,
    start: usize,
    len: usize,
    stage: &mut Buffer,
) -> f64 {
    let mut lanes = Lanes::default();
    let mut done = 0;
    if let Some(values) = grad.values(start, len) {
        lanes.add::<S, T>(simd, term, values, 0, len / LANES);
        done = len - len % LANES;
    }
    if done < len {
        for at in (done..len).step_by(STAGE) {
            grad.gather(start + at, STAGE.min(len - at), stage);
            lanes.add::<S, T>(simd, term, stage.values(), 0, 1);
        }
    }
    lanes.fold()
}

/// The largest magnitude among gradients of either compute type; NaN if there is one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Largest {
    /// Over rows computed in float32.
    pub f32: f64,
    /// Over rows computed in float64.
    pub f64: f64,
}

impl Largest {
    /// The largest magnitude after multiplying and clipping, in the compute types.
    #[must_use]
    pub fn clipped(self, factor: f64, limit: f64) -> f64 {
        let clip = |x: f64, limit: f64| if x > limit { limit } else { x };
        let narrow = self.f32 as f32 * factor.abs() as f32;
        max_magnitude(clip(f64::from(narrow), f64::from(limit as f32)), clip(self.f64 * factor.abs(), limit))
    }
}

/// The largest magnitude of all gradients.
#[must_use]
pub fn largest(isa: Isa, rows: &Rows) -> Largest {
    let found = [AtomicU64::new(0), AtomicU64::new(0)];
    rows.for_each_grad_piece(|chunks| {
        let mut stage = Buffer::default();
        dispatch!(isa, simd => for (chunk, grad) in chunks {
            match grad.compute() {
                DType::F64 => found[1].fetch_max(max_chunk::<_, f64>(simd, grad, chunk, &mut stage).to_bits(), Relaxed),
                _ => found[0].fetch_max(max_chunk::<_, f32>(simd, grad, chunk, &mut stage).to_bits(), Relaxed),
            };
        });
    });
    let [f32, f64] = found.map(|bits| f64::from_bits(bits.into_inner()));
    Largest { f32, f64 }
}

#[inline(always)]
fn max_chunk<S: Simd, T: Compute>(simd: S, grad: Grad<'_>, chunk: &Chunk, stage: &mut Buffer) -> f64 {
    let (mut done, mut result) = (0, 0.0);
    if let Some(values) = grad.values(chunk.start, chunk.len) {
        done = chunk.len - chunk.len % tile_len::<S, T>();
        result = max_abs::<S, T>(simd, values, 0, done);
    }
    if done < chunk.len {
        for at in (done..chunk.len).step_by(STAGE) {
            grad.gather(chunk.start + at, STAGE.min(chunk.len - at), stage);
            result = max_magnitude(result, max_abs::<S, T>(simd, stage.values(), 0, STAGE));
        }
    }
    result
}

/// The first element, tensors in order and C order within, whose product with `factor` is not finite: tensor, element, value.
#[must_use]
pub fn first_nonfinite(isa: Isa, rows: &Rows, factor: f64) -> Option<(usize, usize, f64)> {
    rows.grads().find_map(|grad| {
        let found = match grad.compute() {
            DType::F64 => dispatch!(isa, simd => nonfinite_in_row::<_, f64>(simd, grad, factor)),
            _ => dispatch!(isa, simd => nonfinite_in_row::<_, f32>(simd, grad, factor)),
        };
        found.map(|(element, value)| (grad.tensor(), element, value))
    })
}

fn nonfinite_in_row<S: Simd, T: Compute>(simd: S, grad: Grad<'_>, factor: f64) -> Option<(usize, f64)> {
    let (mut values, mut stage) = ([T::default(); STAGE], Buffer::default());
    for start in (0..grad.len()).step_by(STAGE) {
        let len = STAGE.min(grad.len() - start);
        read(simd, grad, start, len, &mut values, &mut stage);
        for (i, &value) in values[..len].iter().enumerate() {
            let kept = grad.kept(start + i).is_none_or(|bits| bits.word(0) & 1 == 1);
            if kept && !(value * T::from_f64(factor)).to_f64().is_finite() {
                return Some((start + i, value.to_f64()));
            }
        }
    }
    None
}
