//! Products of arrays with quantized matrices, whose codes are decoded in registers.
//!
//! | module | what it knows |
//! |---|---|
//! | `matrix` | where codes and scales of a row are |
//! | `weights` | codes as numbers, as many as a tile has |
//! | `floats` | float32 activations: products in 64 lanes |
//! | `integers` | activations of eight bits: exact sums |

mod floats;
mod integers;
mod matrix;
mod weights;

use fearless_simd::prelude::*;

pub use self::matrix::{Matrix, Steps};
use self::weights::{FourBits, Int4, Int8, Integers, Weights};
use crate::{
    array::{Input, Output, Part},
    dispatch,
    error::Error,
    parallel,
    quant::fourbit::{FP4, NF4},
    simd::Isa,
};

/// Codes that are worth a turn of a thread.
const PIECE: usize = 64 * 1024;

/// From this many products on a matrix is worth more than one thread.
const PARALLEL: usize = 256 * 1024;

/// Rows of activations that a row of codes is decoded for at once, at most.
const MANY: usize = 4;

/// What a thread works out: the products of some rows of the matrix and of all activations.
trait Products: Sync {
    /// Those of one row and of `B` activations, from number `first` on.
    fn row<S: Simd, const B: usize>(&self, simd: S, row: usize, first: usize) -> [f32; B];
}

/// out = x · matrixᵀ: activations as they are.
pub fn floats(isa: Isa, kind: &str, matrix: &Matrix, x: &Input, out: &mut Output) -> Result<(), Error> {
    let mut room = vec![];
    let all = dispatch!(isa, simd => x.block::<_, f32>(simd, 0, x.len(), &mut room));
    match kind {
        "int8" => float_products(isa, Int8, matrix, all, out),
        "int4" => float_products(isa, Int4, matrix, all, out),
        "nf4" => float_products(isa, FourBits(NF4), matrix, all, out),
        "fp4" => float_products(isa, FourBits(FP4), matrix, all, out),
        _ => Err(Error::UnknownCodec(kind.to_owned())),
    }
}

fn float_products<W: Weights>(isa: Isa, weights: W, matrix: &Matrix, x: &[f32], out: &mut Output) -> Result<(), Error> {
    matrix.check(W::BITS, x.len(), out.len())?;
    run(isa, matrix, &floats::Floats { weights, matrix, x }, out);
    Ok(())
}

/// The same with each row of activations quantized first; they must be finite.
pub fn integers(isa: Isa, kind: &str, matrix: &Matrix, x: &Input, out: &mut Output) -> Result<(), Error> {
    match kind {
        "int8" => integer_products(isa, Int8, matrix, x, out),
        "int4" => integer_products(isa, Int4, matrix, x, out),
        _ => Err(Error::UnknownCodec(kind.to_owned())),
    }
}

fn integer_products<W: Integers>(
    isa: Isa,
    weights: W,
    matrix: &Matrix,
    x: &Input,
    out: &mut Output,
) -> Result<(), Error> {
    matrix.check(W::BITS, x.len(), out.len())?;
    let (codes, scales) = integers::quantize(isa, x, matrix.len)?;
    run(isa, matrix, &integers::Sums { weights, matrix, codes: &codes, scales: &scales }, out);
    Ok(())
}

/// Rows are cut into pieces; the part of a piece is a run of each row of the output.
fn run<P: Products>(isa: Isa, matrix: &Matrix, products: &P, out: &mut Output) {
    let (rows, batch) = (matrix.rows, out.len().checked_div(matrix.rows).unwrap_or(0));
    let of_piece = (PIECE / matrix.len.max(1)).max(1);
    let pieces = rows.div_ceil(of_piece);
    let ends = (0..batch * pieces).map(|k| k / pieces * rows + rows.min((k % pieces + 1) * of_piece));
    let mut parts: Vec<Vec<Part<'_>>> = (0..pieces).map(|_| Vec::with_capacity(batch)).collect();
    for (k, part) in out.parts(ends).into_iter().enumerate() {
        parts[k % pieces].push(part);
    }
    let is_large = rows * matrix.len * batch >= PARALLEL;
    parallel::for_each_mut(&mut parts, is_large, &|k, parts| {
        let first = k * of_piece;
        dispatch!(isa, simd => piece(simd, products, first, of_piece.min(rows - first), rows, parts));
    });
}

#[inline(always)]
fn piece<S: Simd, P: Products>(simd: S, products: &P, first: usize, count: usize, rows: usize, parts: &mut [Part<'_>]) {
    let (mut results, mut room) = (vec![0.0; count * MANY], vec![]);
    let mut at = 0;
    while at < parts.len() {
        let together = match parts.len() - at {
            1 => fill::<S, P, 1>(simd, products, first, at, &mut results),
            2 | 3 => fill::<S, P, 2>(simd, products, first, at, &mut results),
            _ => fill::<S, P, MANY>(simd, products, first, at, &mut results),
        };
        for k in 0..together {
            let of_row = &results[k * count..(k + 1) * count];
            let start = (at + k) * rows + first;
            parts[at + k].fill(simd, start, count, &mut room, |out: &mut [f32]| out.copy_from_slice(of_row));
        }
        at += together;
    }
}

/// Products of `B` activations, those of one after those of another.
#[inline(always)]
fn fill<S: Simd, P: Products, const B: usize>(
    simd: S,
    products: &P,
    first: usize,
    at: usize,
    results: &mut [f32],
) -> usize {
    let count = results.len() / MANY;
    for row in 0..count {
        let found = products.row::<S, B>(simd, first + row, at);
        for k in 0..B {
            results[k * count + row] = found[k];
        }
    }
    B
}

#[cfg(test)]
mod tests;
