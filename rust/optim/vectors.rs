//! Lists of arrays as one vector: the inner product, a fixed-shape sum of the elements' products.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use fearless_simd::prelude::*;

use super::{grad::Grad, norm::total, plan::Chunk, table::Rows};
use crate::{
    array::buffer::{Buffer, STAGE},
    dispatch,
    float_environment::DefaultFloatEnvironment,
    reduce::{BLOCK, LANES, Lanes},
    simd::Isa,
};

/// Σ a·b over all rows, in float64: each row by its fixed tree, the rows in order. The rows of both have the same lengths.
#[must_use]
pub fn dot(isa: Isa, a: &Rows, b: &Rows) -> f64 {
    let _environment = DefaultFloatEnvironment::enter();
    let mut partials = vec![];
    partials.resize_with(a.plan().total_blocks(), AtomicU64::default);
    let others: Vec<Grad<'_>> = b.grads().collect();
    a.for_each_grad_piece(|chunks| {
        let mut stages = [Buffer::default(), Buffer::default()];
        dispatch!(isa, simd => for (chunk, grad) in chunks {
            dot_chunk(simd, [grad, others[chunk.row]], chunk, &partials, &mut stages);
        });
    });
    total(isa, a.plan(), &partials)
}

#[inline(always)]
fn dot_chunk<S: Simd>(simd: S, pair: [Grad<'_>; 2], chunk: &Chunk, partials: &[AtomicU64], stages: &mut [Buffer; 2]) {
    for (k, at) in (0..chunk.len).step_by(BLOCK).enumerate() {
        let result = dot_block(simd, pair, chunk.start + at, BLOCK.min(chunk.len - at), stages);
        partials[chunk.block + k].store(result.to_bits(), Relaxed);
    }
}

#[inline(always)]
fn dot_block<S: Simd>(simd: S, [a, b]: [Grad<'_>; 2], start: usize, len: usize, stages: &mut [Buffer; 2]) -> f64 {
    let mut lanes = Lanes::default();
    let mut done = 0;
    if let (Some(a), Some(b)) = (a.values(start, len), b.values(start, len)) {
        lanes.add_products(simd, a, b, 0, len / LANES);
        done = len - len % LANES;
    }
    for at in (done..len).step_by(STAGE) {
        let count = STAGE.min(len - at);
        a.gather(start + at, count, &mut stages[0]);
        b.gather(start + at, count, &mut stages[1]);
        lanes.add_products(simd, stages[0].values(), stages[1].values(), 0, 1);
    }
    lanes.fold()
}
