//! Norms whose statistics belong to a row, backward.
//!
//! With g = dy·weight and x̂ the normalized elements: dx = (g - mean(g) - x̂·mean(g·x̂))·rstd, the means over the row; dweight is
//! the sum of dy·x̂ and dbias that of dy over all elements of a place, in float64: row after row of a piece from +0.0, then
//! piece after piece, which the shape alone fixes. Elements of a channel in one row are summed in the shape of a row.

use std::ops::Range;

use fearless_simd::prelude::*;

use super::{
    affine::{Block, OfBlock, Place, Weights},
    formula::{Differentiate, Normalize},
    products::Products,
    rows::{Divisor, RowNorm},
};
use crate::{
    array::{Input, Output, Part},
    dispatch,
    dtype::{Compute, DType, load_native, store_native},
    map::{Add, Next, map, map_before},
    parallel,
    reduce::LANES,
    row_sums::{OfRows, ROWS, Rows, SEGMENT, at_once, sum_rows},
    simd::{Isa, TILE_VECTORS},
};

/// What is read.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// Gradient of the output.
    pub dy: &'a Input,
    /// The rows.
    pub x: &'a Input,
    /// Factors of the normalized elements.
    pub weight: Option<&'a Input>,
    /// Added to the gradient of the rows, if the rows were used elsewhere too.
    pub dsum: Option<&'a Input>,
    /// A mean for each row.
    pub mean: &'a [f64],
    /// And 1 by what it was divided by.
    pub rstd: &'a [f64],
}

/// What is written.
#[derive(Debug)]
pub struct Outputs<'a> {
    /// Gradient of the rows.
    pub dx: &'a mut Output,
    /// Gradients of weight and bias, one a place; empty if there is no weight.
    pub dweight: &'a mut [f64],
    /// The same for the bias.
    pub dbias: &'a mut [f64],
}

/// Rows that one thread works on, and the sums over them.
struct Piece<'a> {
    rows: Range<usize>,
    dx: Part<'a>,
    /// Made by the thread that fills it, in whose cache it then is; the next as well.
    dweight: Vec<f64>,
    dbias: Vec<f64>,
}

/// Gradients of all rows, and of weight and bias.
pub fn backward(isa: Isa, norm: RowNorm, inputs: Inputs<'_>, outputs: &mut Outputs<'_>) {
    match inputs.x.dtype().compute() {
        DType::F64 => run::<f64>(isa, norm, inputs, outputs),
        _ => run::<f32>(isa, norm, inputs, outputs),
    }
}

fn run<T: Compute>(isa: Isa, norm: RowNorm, inputs: Inputs<'_>, outputs: &mut Outputs<'_>) {
    let weight = inputs.weight.map(|input| Weights::<T>::new(isa, norm.place, norm.len, input));
    let backward = Backward { norm, inputs, weight };
    let mut pieces = pieces(&norm, outputs.dx);
    let places = outputs.dweight.len();
    parallel::for_each_mut(&mut pieces, norm.is_large(), &|_, piece| {
        (piece.dweight, piece.dbias) = (vec![0.0; places], vec![0.0; places]);
        dispatch!(isa, simd => backward.work_on(simd, piece));
    });
    for piece in &pieces {
        for (sum, part) in outputs.dweight.iter_mut().zip(&piece.dweight) {
            *sum += part;
        }
        for (sum, part) in outputs.dbias.iter_mut().zip(&piece.dbias) {
            *sum += part;
        }
    }
}

fn pieces<'a>(norm: &RowNorm, dx: &'a mut Output) -> Vec<Piece<'a>> {
    let turn = norm.turn();
    let starts = || (0..norm.rows).step_by(turn);
    let parts = dx.parts(starts().map(|start| (start + turn).min(norm.rows) * norm.len));
    let piece = |(start, dx): (usize, _)| Piece {
        rows: start..(start + turn).min(norm.rows),
        dx,
        dweight: vec![],
        dbias: vec![],
    };
    starts().zip(parts).map(piece).collect()
}

/// A backward pass.
struct Backward<'a, T: Compute> {
    norm: RowNorm,
    inputs: Inputs<'a>,
    weight: Option<Weights<'a, T>>,
}

/// Room for a block in the compute type.
#[derive(Default)]
struct Room<T> {
    dy: Vec<T>,
    x: Vec<T>,
    dsum: Vec<T>,
    weight: Vec<T>,
    /// The gradient without what is added.
    alone: Vec<T>,
    staged: Vec<T>,
}

/// A block and what was read of it.
struct Read<'a, T> {
    block: Block,
    dy: &'a [T],
    x: &'a [T],
    weight: Option<OfBlock<'a, T>>,
    products: [Products; ROWS],
}

impl<T: Compute> Backward<'_, T> {
    #[inline(always)]
    fn work_on<S: Simd>(&self, simd: S, piece: &mut Piece<'_>) {
        let (len, step) = (self.norm.len, at_once::<S>(self.norm.len));
        let mut room = Room::default();
        for row in piece.rows.clone().step_by(step) {
            let count = step.min(piece.rows.end - row);
            let segments = (0..len).step_by(SEGMENT);
            let blocks = segments.map(|at| Block { row, at, len: SEGMENT.min(len - at), count });
            let mut sums = [[0.0; ROWS]; 2];
            for block in blocks.clone() {
                self.measure(simd, block, piece, &mut room, &mut sums);
            }
            for block in blocks {
                self.write(simd, block, &sums, piece, &mut room);
            }
        }
    }

    /// Adds the sums of a block's rows, and those of its elements' places.
    #[inline(always)]
    fn measure<S: Simd>(
        &self,
        simd: S,
        block: Block,
        piece: &mut Piece<'_>,
        room: &mut Room<T>,
        sums: &mut [OfRows; 2],
    ) {
        let Room { dy, x, weight, .. } = room;
        let read = self.read(simd, block, [dy, x, weight]);
        let (len, count) = (block.len, block.count);
        let of_block = match read.weight {
            None => {
                let rows = Rows { inputs: [read.dy, read.x], strides: [len; 2], len, count };
                sum_rows(simd, &rows, &read.products)
            }
            Some(weight) => {
                let rows =
                    Rows { inputs: [read.dy, read.x, weight.all], strides: [len, len, weight.stride], len, count };
                sum_rows(simd, &rows, &read.products)
            }
        };
        for m in 0..2 {
            for i in 0..count {
                sums[m][i] += of_block[m][i];
            }
        }
        if !piece.dweight.is_empty() {
            self.add_places(simd, &read, piece);
        }
    }

    #[inline(always)]
    fn read<'b, S: Simd>(&'b self, simd: S, block: Block, [dy, x, weight]: [&'b mut Vec<T>; 3]) -> Read<'b, T> {
        let (start, len) = (block.row * self.norm.len + block.at, block.len * block.count);
        let mut products = [Products::default(); ROWS];
        for i in 0..block.count {
            products[i] = Products { mean: self.inputs.mean[block.row + i], rstd: self.inputs.rstd[block.row + i] };
        }
        let weight = self.weight.as_ref().map(|weights| weights.of_block(block, weight));
        Read {
            block,
            dy: self.inputs.dy.block(simd, start, len, dy),
            x: self.inputs.x.block(simd, start, len, x),
            weight,
            products,
        }
    }

    #[inline(always)]
    fn add_places<S: Simd>(&self, simd: S, read: &Read<'_, T>, piece: &mut Piece<'_>) {
        let block = read.block;
        for i in 0..block.count {
            let (dy, x, products) = (block.row_of(i, read.dy), block.row_of(i, read.x), read.products[i]);
            match self.norm.place {
                Place::Element => {
                    let places = block.at..block.at + block.len;
                    let sums = [&mut piece.dweight[places.clone()], &mut piece.dbias[places]];
                    add_elements(simd, dy, x, products, sums);
                }
                Place::Channel { groups, run } => {
                    let first = (block.row + i) % groups * (self.norm.len / run);
                    let sums = [&mut piece.dweight[first..], &mut piece.dbias[first..]];
                    add_runs(simd, dy, x, (run, block.at), products, sums);
                }
            }
        }
    }

    #[inline(always)]
    fn write<S: Simd>(&self, simd: S, block: Block, sums: &[OfRows; 2], piece: &mut Piece<'_>, room: &mut Room<T>) {
        let Room { dy, x, dsum, weight, alone, staged } = room;
        let read = self.read(simd, block, [dy, x, weight]);
        let (start, len) = (block.row * self.norm.len + block.at, block.len);
        let dsum = self.inputs.dsum.map(|input| input.block(simd, start, len * block.count, dsum));
        alone.resize(alone.len().max(len), T::default());
        piece.dx.fill(
            simd,
            start,
            len * block.count,
            staged,
            #[inline(always)]
            |dx| {
                for i in 0..block.count {
                    let (sums, dx) = ([sums[0][i], sums[1][i]], &mut dx[i * len..(i + 1) * len]);
                    match dsum {
                        None => self.differentiate(simd, &read, i, sums, dx),
                        Some(dsum) => {
                            self.differentiate(simd, &read, i, sums, &mut alone[..len]);
                            map(simd, [&alone[..len], block.row_of(i, dsum)], dx, Add);
                        }
                    }
                }
            },
        );
    }

    /// The gradient of row `i` of a block.
    #[inline(always)]
    fn differentiate<S: Simd>(&self, simd: S, read: &Read<'_, T>, i: usize, [g, gx]: [f64; 2], dx: &mut [T]) {
        let (n, Products { mean, rstd }) = (self.norm.len as f64, read.products[i]);
        let (mean_g, mean_gx) = match self.norm.divisor {
            Divisor::Deviation(_) => (g / n, gx / n),
            Divisor::RootMeanSquare(_) => (0.0, gx / n),
            Divisor::Length => (0.0, gx),
        };
        let normalize = Normalize::new(mean, rstd);
        let formula = Differentiate { normalize, mean_g: T::from_f64(mean_g), mean_gx: T::from_f64(mean_gx) };
        let (x, dy) = (read.block.row_of(i, read.x), read.block.row_of(i, read.dy));
        let next = Next { inputs: 2, after: read.x.len() };
        match read.weight {
            None => map_before(simd, [x, dy], dx, formula, next),
            Some(weight) => map_before(simd, [x, dy, weight.of_row(i)], dx, formula, next),
        }
    }
}

/// dweight += dy·x̂ and dbias += dy, element by element.
#[inline(always)]
fn add_elements<S: Simd, T: Compute>(simd: S, dy: &[T], x: &[T], products: Products, [dw, db]: [&mut [f64]; 2]) {
    let tile = TILE_VECTORS * S::f64s::LEN;
    let whole = dy.len() - dy.len() % tile;
    for at in (0..whole).step_by(tile) {
        add_tile(simd, [&dy[at..], &x[at..]], products, [&mut dw[at..], &mut db[at..]]);
    }
    let rest = dy.len() - whole;
    if rest > 0 {
        let (mut inputs, mut sums) = ([[T::default(); LANES]; 2], [[0.0; LANES]; 2]);
        inputs[0][..rest].copy_from_slice(&dy[whole..]);
        inputs[1][..rest].copy_from_slice(&x[whole..]);
        sums[0][..rest].copy_from_slice(&dw[whole..]);
        sums[1][..rest].copy_from_slice(&db[whole..]);
        let [sums_w, sums_b] = &mut sums;
        add_tile(simd, [&inputs[0], &inputs[1]], products, [sums_w, sums_b]);
        dw[whole..].copy_from_slice(&sums[0][..rest]);
        db[whole..].copy_from_slice(&sums[1][..rest]);
    }
}

#[inline(always)]
fn add_tile<S: Simd, T: Compute>(simd: S, [dy, x]: [&[T]; 2], products: Products, [dw, db]: [&mut [f64]; 2]) {
    let (g, x) = (T::widen_slice(simd, dy, 0), T::widen_slice(simd, x, 0));
    let [g, gx] = products.of_tiles::<S>(g, x);
    let (mut sums_w, mut sums_b) = (load_native::<S, f64>(simd, dw, 0), load_native::<S, f64>(simd, db, 0));
    for i in 0..TILE_VECTORS {
        sums_w[i] += gx[i];
        sums_b[i] += g[i];
    }
    store_native::<S, f64>(sums_w, dw, 0);
    store_native::<S, f64>(sums_b, db, 0);
}

/// dweight += Σ dy·x̂ and dbias += Σ dy over each channel's run of elements in a row.
#[inline(always)]
fn add_runs<S: Simd, T: Compute>(
    simd: S,
    dy: &[T],
    x: &[T],
    (run, at): (usize, usize),
    products: Products,
    [dw, db]: [&mut [f64]; 2],
) {
    let mut done = 0;
    while done < dy.len() {
        let place = at + done;
        let len = (run - place % run).min(dy.len() - done);
        let rows = Rows { inputs: [&dy[done..], &x[done..]], strides: [0; 2], len, count: 1 };
        let [g, gx] = sum_rows(simd, &rows, &[products; ROWS]);
        dw[place / run] += gx[0];
        db[place / run] += g[0];
        done += len;
    }
}
