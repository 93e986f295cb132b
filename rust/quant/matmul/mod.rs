//! Products of arrays with quantized matrices, whose codes are decoded in registers.
//!
//! | module | what it knows |
//! |---|---|
//! | `matrix` | where codes and scales of a row are |
//! | `weights` | codes as numbers, as many as a tile has |
//! | `wide` | the same by instructions of AVX-512 |
//! | `floats` | float32 activations: products in 16 lanes |
//! | `integers` | activations of eight bits: exact sums |

mod floats;
mod integers;
mod matrix;
mod weights;
mod wide;

use std::ops::Range;

use fearless_simd::prelude::*;

pub use self::matrix::{Matrix, Steps};
use self::weights::{FourBits, Int4, Int8, Integers, Weights};
use crate::{
    array::{Input, Output, Part},
    dispatch,
    error::Error,
    parallel,
    quant::{
        fourbit::{FP4, NF4},
        tile::WIDEST,
    },
    simd::Isa,
};

/// Codes that are worth a turn of a thread.
const PIECE: usize = 64 * 1024;

/// From this many products on a matrix is worth more than one thread.
const PARALLEL: usize = 256 * 1024;

/// From so many activations on they are cut into pieces, not the rows of the matrix.
const LARGE: usize = 64;

/// Rows of activations that a row of codes is decoded for at once, at most.
const MANY: usize = 4;

/// Rows of the matrix that one row of activations is multiplied with at once, at most.
const SIDE_BY_SIDE: usize = 4;

/// What a thread works out: the products of some rows of the matrix and of all activations.
trait Products: Sync {
    /// The matrix.
    fn matrix(&self) -> &Matrix<'_>;

    /// Have all rows the same steps, of whole vectors?
    fn are_whole<S: Simd>(&self) -> bool;

    /// Those of `R` rows from number `row` on and of `B` activations from `first` on. Without a rest, and if there are several
    /// rows, they must be whole.
    fn rows<S: Simd, const R: usize, const B: usize, const REST: bool>(
        &self,
        simd: S,
        row: usize,
        first: usize,
    ) -> [[f32; B]; R];
}

/// out = x · matrixᵀ: activations as they are.
pub fn floats(isa: Isa, kind: &str, matrix: &Matrix, x: &Input, out: &mut Output) -> Result<(), Error> {
    let mut room = vec![];
    let all = dispatch!(isa, simd => x.block::<_, f32>(simd, 0, x.len(), &mut room));
    match kind {
        "int8" => float_products(isa, Int8, matrix, all, out),
        "int4" => float_products(isa, Int4, matrix, all, out),
        "nf4" => float_products(isa, FourBits::new(NF4), matrix, all, out),
        "fp4" => float_products(isa, FourBits::new(FP4), matrix, all, out),
        _ => Err(Error::UnknownCodec(kind.to_owned())),
    }
}

fn float_products<W: Weights>(isa: Isa, weights: W, matrix: &Matrix, x: &[f32], out: &mut Output) -> Result<(), Error> {
    matrix.check(W::BITS, x.len(), out.len())?;
    run(isa, &floats::Floats { weights, matrix, x }, out);
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
    run(isa, &integers::Sums { weights, matrix, codes: &codes, scales: &scales }, out);
    Ok(())
}

/// What a thread works out at a time: products of rows of the matrix and of activations. There is a part of the output for
/// each of the activations, or one for all of them and all rows.
struct Piece<'a> {
    rows: Range<usize>,
    batch: Range<usize>,
    parts: Vec<Part<'a>>,
}

/// Pieces are runs of activations where there are many, else runs of rows.
fn run<P: Products>(isa: Isa, products: &P, out: &mut Output) {
    let (rows, len) = (products.matrix().rows, products.matrix().len);
    let batch = out.len().checked_div(rows).unwrap_or(0);
    let together = (PIECE / len.max(1)).next_multiple_of(SIDE_BY_SIDE).max(1);
    let mut pieces = if batch < LARGE { by_rows(rows, batch, together, out) } else { by_batch(rows, batch, out) };
    let is_large = rows * len * batch >= PARALLEL;
    parallel::for_each_mut(&mut pieces, is_large, &|_, piece| {
        dispatch!(isa, simd => work(simd, products, together, piece));
    });
}

fn by_rows(rows: usize, batch: usize, together: usize, out: &mut Output) -> Vec<Piece<'_>> {
    let runs = |k: usize| k * together..rows.min((k + 1) * together);
    let count = rows.div_ceil(together);
    let mut pieces: Vec<_> =
        (0..count).map(|k| Piece { rows: runs(k), batch: 0..batch, parts: Vec::with_capacity(batch) }).collect();
    let ends = (0..batch * count).map(|k| k / count * rows + runs(k % count).end);
    for (k, part) in out.parts(ends).into_iter().enumerate() {
        pieces[k % count].parts.push(part);
    }
    pieces
}

fn by_batch(rows: usize, batch: usize, out: &mut Output) -> Vec<Piece<'_>> {
    let end = |start: usize| batch.min(start + LARGE / 2);
    let starts = (0..batch).step_by(LARGE / 2);
    let parts = out.parts(starts.clone().map(|start| end(start) * rows));
    starts
        .zip(parts)
        .map(|(start, part)| Piece { rows: 0..rows, batch: start..end(start), parts: vec![part] })
        .collect()
}

/// As many rows of the matrix as stay in a cache are worked through with all activations of the piece.
#[inline(always)]
fn work<S: Simd, P: Products>(simd: S, products: &P, together: usize, piece: &mut Piece<'_>) {
    let rows = products.matrix().rows;
    let (mut room, mut results) = (vec![], vec![0.0; MANY * together.min(piece.rows.len())]);
    for first in piece.rows.clone().step_by(together) {
        let count = together.min(piece.rows.end - first);
        let mut at = piece.batch.start;
        while at < piece.batch.end {
            let results = &mut results[..MANY * count];
            let done = match piece.batch.end - at {
                1 => fill::<S, P, SIDE_BY_SIDE, 1>(simd, products, first, at, results),
                2 | 3 => fill::<S, P, 2, 2>(simd, products, first, at, results),
                _ => fill::<S, P, 2, MANY>(simd, products, first, at, results),
            };
            for k in at..at + done {
                let part = if piece.parts.len() == 1 { 0 } else { k - piece.batch.start };
                let found = &results[(k - at) * count..(k - at + 1) * count];
                piece.parts[part].fill(simd, k * rows + first, count, &mut room, |out: &mut [f32]| {
                    out.copy_from_slice(found);
                });
            }
            at += done;
        }
    }
}

/// Products of `B` activations, those of one after those of another; `R` rows of the matrix at a time where there are enough
/// registers and no rest.
#[inline(always)]
fn fill<S: Simd, P: Products, const R: usize, const B: usize>(
    simd: S,
    products: &P,
    first: usize,
    at: usize,
    results: &mut [f32],
) -> usize {
    let (count, mut row) = (results.len() / MANY, 0);
    let (are_whole, is_wide) = (products.are_whole::<S>(), S::u8s::LEN == WIDEST);
    while are_whole && is_wide && row + R <= count {
        put(&products.rows::<S, R, B, false>(simd, first + row, at), row, count, results);
        row += R;
    }
    while are_whole && !is_wide && row < count {
        put(&products.rows::<S, 1, B, false>(simd, first + row, at), row, count, results);
        row += 1;
    }
    while row < count {
        put(&products.rows::<S, 1, B, true>(simd, first + row, at), row, count, results);
        row += 1;
    }
    B
}

#[inline(always)]
fn put<const R: usize, const B: usize>(found: &[[f32; B]; R], row: usize, count: usize, results: &mut [f32]) {
    for r in 0..R {
        for b in 0..B {
            results[b * count + row + r] = found[r][b];
        }
    }
}

#[cfg(test)]
mod tests;
