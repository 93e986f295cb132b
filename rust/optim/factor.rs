//! Factored second moments (Adafactor): means of squared gradients over the rows and the columns of matrices.
//!
//! A row's sum has the fixed shape of [`crate::reduce`] over its elements. A column's sum goes by blocks of 64 rows, each in
//! order from +0.0, blocks added in order from +0.0.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use fearless_simd::prelude::*;

use super::{
    pipeline::{Pass, Rules, Scaled},
    row::Factors,
    rule::{Factoring, Rule},
    spread::Spread,
    stage::{Buffer, STAGE},
    strip::PreparedGrad,
    table::Rows,
};
use crate::{
    dispatch,
    dtype::{Compute, DType},
    parallel,
    reduce::{BLOCK, LANES, Lanes, Term, fold_partials},
    simd::Isa,
};

/// Rows of a block.
const HEIGHT: usize = 64;

/// For each row of the step the means that stand for its second moment, if it has them.
#[derive(Debug)]
pub(super) struct Means(Vec<Option<RowMeans>>);

#[derive(Debug)]
struct RowMeans {
    /// A number for each row of each matrix: its mean by the mean of all of them.
    ratios: Vec<f64>,
    /// A number for each column of each matrix.
    columns: Vec<f64>,
    width: usize,
    matrix: usize,
}

impl Means {
    /// Ratios and columns of a row of the step.
    pub(super) fn of_row(&self, row: usize) -> Option<[Spread<'_>; 2]> {
        let RowMeans { ratios, columns, width, matrix } = self.0[row].as_ref()?;
        Some([
            Spread::Repeat { table: ratios, run: *width },
            Spread::Cycle { table: columns, columns: *width, matrix: *matrix },
        ])
    }
}

/// A block of rows of a matrix of some row of the step.
#[derive(Clone, Copy, Debug)]
struct Block {
    row: usize,
    /// Its first element in the row of the step.
    element: usize,
    /// Its first row among those of all blocks.
    first: usize,
    height: usize,
    width: usize,
    /// Its first column sum among those of all blocks.
    columns: usize,
}

/// Sums of all blocks.
#[derive(Debug, Default)]
struct Sums {
    rows: Vec<AtomicU64>,
    columns: Vec<AtomicU64>,
}

/// Updates the stored means of rows and columns; `None` if the rule has none.
pub(super) fn update<R32, R64, const N: usize>(
    pass: &Pass<'_>,
    rows: &mut Rows,
    rules: &Rules<R32, R64>,
) -> Option<Means>
where
    R32: Rule<f32, N>,
    R64: Rule<f64, N>,
{
    if rows.have_factors().all(|factored| !factored) {
        return None;
    }
    let blocks = blocks(rows);
    let sums = measure(pass, rows, rules, &blocks);
    let mut means: Vec<Option<RowMeans>> = (0..rows.plan().rows()).map(|_| None).collect();
    for of_row in blocks.chunk_by(|a, b| a.row == b.row) {
        let row = of_row[0].row;
        let factoring = match rows.compute_of(row) {
            DType::F64 => Averages::new(rules.f64[row].rule.factoring(), pass.isa),
            _ => Averages::new(rules.f32[row].rule.factoring(), pass.isa),
        };
        means[row] = rows.factors_mut(row).map(|factors| factoring.update(factors, of_row, &sums));
    }
    Some(Means(means))
}

fn blocks(rows: &Rows) -> Vec<Block> {
    let mut blocks = vec![];
    let (mut first, mut columns) = (0, 0);
    for row in 0..rows.plan().rows() {
        let Some((height, width)) = rows.matrices_of(row) else { continue };
        for matrix in (0..rows.len_of(row)).step_by((height * width).max(1)) {
            for top in (0..height).step_by(HEIGHT) {
                let height = HEIGHT.min(height - top);
                blocks.push(Block { row, element: matrix + top * width, first, height, width, columns });
                first += height;
                columns += width;
            }
        }
    }
    blocks
}

fn measure<R32, R64, const N: usize>(pass: &Pass<'_>, rows: &Rows, rules: &Rules<R32, R64>, blocks: &[Block]) -> Sums
where
    R32: Rule<f32, N>,
    R64: Rule<f64, N>,
{
    let zeros = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
    let last = blocks.last().map_or((0, 0), |block| (block.first + block.height, block.columns + block.width));
    let sums = Sums { rows: zeros(last.0), columns: zeros(last.1) };
    parallel::for_each(blocks.len(), rows.plan().is_large(), &|k| {
        let block = blocks[k];
        match rows.compute_of(block.row) {
            DType::F64 => {
                dispatch!(pass.isa, simd => measure_block(simd, pass, rows, &rules.f64[block.row], block, &sums));
            }
            _ => dispatch!(pass.isa, simd => measure_block(simd, pass, rows, &rules.f32[block.row], block, &sums)),
        }
    });
    sums
}

#[inline(always)]
fn measure_block<S: Simd, T: Compute, R>(
    simd: S,
    pass: &Pass<'_>,
    rows: &Rows,
    rule: &Scaled<R, T>,
    block: Block,
    sums: &Sums,
) {
    let grad = PreparedGrad::new(pass, block.row, rows.grad(block.row), rule);
    let mut room = [T::default(); BLOCK];
    let mut partials = vec![0.0; block.width.div_ceil(BLOCK)];
    let mut columns = vec![0.0; block.width.next_multiple_of(LANES)];
    let mut stage = Buffer::default();
    for i in 0..block.height {
        for (k, at) in (0..block.width).step_by(BLOCK).enumerate() {
            let len = BLOCK.min(block.width - at);
            grad.read(simd, block.element + i * block.width + at, len, &mut room, &mut stage);
            let mut lanes = Lanes::default();
            room[len..len.next_multiple_of(LANES)].fill(T::default());
            lanes.add::<S, T>(simd, Term::Square, T::values(&room), 0, len.div_ceil(LANES));
            partials[k] = lanes.fold();
            add_squares(simd, &room, &mut columns[at..at + len.next_multiple_of(LANES)]);
        }
        sums.rows[block.first + i].store(fold_partials(simd, &mut partials).to_bits(), Relaxed);
    }
    for (sum, column) in sums.columns[block.columns..].iter().zip(&columns[..block.width]) {
        sum.store(column.to_bits(), Relaxed);
    }
}

/// columns += x², in float64.
#[inline(always)]
fn add_squares<S: Simd, T: Compute>(simd: S, x: &[T], columns: &mut [f64]) {
    let n = 4 * S::f64s::LEN;
    for at in (0..columns.len()).step_by(n) {
        let tile = T::widen_slice(simd, x, at);
        let mut sums = crate::dtype::load_native::<S, f64>(simd, columns, at);
        for k in 0..4 {
            sums[k] += tile[k] * tile[k];
        }
        crate::dtype::store_native::<S, f64>(sums, columns, at);
    }
}

/// Moving averages of the means; each operation rounded once to the compute type, of which these are exact.
#[derive(Clone, Copy, Debug)]
struct Averages {
    isa: Isa,
    weight: f64,
    eps: f64,
    round: fn(f64) -> f64,
}

impl Averages {
    fn new<T: Compute>(factoring: Factoring<T>, isa: Isa) -> Self {
        Self {
            isa,
            weight: factoring.one_minus_beta2.to_f64(),
            eps: factoring.eps.to_f64(),
            round: |x| T::from_f64(x).to_f64(),
        }
    }

    fn update(self, factors: &mut Factors, blocks: &[Block], sums: &Sums) -> RowMeans {
        let (height, width, count) = (factors.height, factors.width, factors.count);
        let number = |bits: &AtomicU64| f64::from_bits(bits.load(Relaxed));
        let first = blocks[0].first;
        let rows: Vec<f64> =
            sums.rows[first..first + count * height].iter().map(|bits| number(bits) / width as f64).collect();
        let mut columns = vec![0.0; count * width];
        let blocks_of_matrix = blocks.len() / count;
        for (k, block) in blocks.iter().enumerate() {
            let matrix = k / blocks_of_matrix;
            let of_block = &sums.columns[block.columns..block.columns + width];
            for (sum, bits) in columns[matrix * width..].iter_mut().zip(of_block) {
                *sum += number(bits);
            }
        }
        for sum in &mut columns {
            *sum /= height as f64;
        }
        let rows = factors.average(self.isa, 0, &rows, |mean, old| self.average(mean, old));
        let columns = factors.average(self.isa, 1, &columns, |mean, old| self.average(mean, old));
        let ratios = rows.chunks(height).flat_map(|rows| self.ratios(rows)).collect();
        RowMeans { ratios, columns, width, matrix: height * width }
    }

    /// old + (mean - old)·(1 - β2)
    fn average(self, mean: f64, old: f64) -> f64 {
        let difference = (self.round)((self.round)(mean) - old);
        (self.round)(old + (self.round)(difference * self.weight))
    }

    /// Each row's mean by the mean of all, which is at least ε.
    fn ratios(self, rows: &[f64]) -> Vec<f64> {
        let mut partials: Vec<f64> = rows.chunks(BLOCK).map(|rows| self.sum(rows)).collect();
        let total = dispatch!(self.isa, simd => fold_partials(simd, &mut partials));
        let mean = (self.round)(total / rows.len() as f64);
        let mean = if mean > self.eps { mean } else { self.eps };
        rows.iter().map(|row| (self.round)(row / mean)).collect()
    }

    fn sum(self, rows: &[f64]) -> f64 {
        let mut lanes = Lanes::default();
        for rows in rows.chunks(STAGE) {
            let mut padded = [0.0; STAGE];
            padded[..rows.len()].copy_from_slice(rows);
            dispatch!(self.isa, simd => lanes.add::<_, f64>(simd, Term::Value, f64::values(&padded), 0, 1));
        }
        lanes.fold()
    }
}
