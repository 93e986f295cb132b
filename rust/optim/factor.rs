//! Factored second moments (Adafactor): means of squared gradients over the rows and the columns of matrices.
//!
//! A row's sum has the fixed shape of [`crate::reduce`] over its elements. A column's sum goes by blocks of 64 rows, each in
//! order from +0.0, blocks added in order from +0.0.

use std::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use fearless_simd::prelude::*;

use super::{
    pipeline::{Pass, Rules, Scaled},
    plan::CHUNK,
    rule::{Factoring, Rule},
    spread::Spread,
    stage::{Buffer, STAGE},
    strip::PreparedGrad,
    table::{Factors, Rows},
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

/// Column sums of blocks that wait to be added up, at least; they are a 64th of the elements that were read.
const WAITING: usize = 128 * 1024;

/// Groups of a wave, at least, so that many threads have something to do.
const LEAST_GROUPS: usize = 64;

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

/// The matrices of a row of the step, in blocks of rows.
#[derive(Clone, Copy, Debug)]
struct Grid {
    row: usize,
    height: usize,
    width: usize,
    /// Matrices.
    count: usize,
    /// Blocks of a matrix.
    tall: usize,
    /// Its first row and its first column among those of all grids.
    rows: usize,
    columns: usize,
}

impl Grid {
    /// Blocks that are worth a turn.
    fn turn(&self) -> usize {
        (CHUNK / (self.height.min(HEIGHT) * self.width)).max(1)
    }
}

/// Blocks of one grid, worked through by one thread.
#[derive(Clone, Debug)]
struct Group {
    grid: Grid,
    blocks: Range<usize>,
    /// Its first column sum among those of its wave.
    partials: usize,
}

/// Sums of squares over all rows and columns of all grids.
#[derive(Debug)]
struct Sums {
    rows: Vec<AtomicU64>,
    columns: Vec<f64>,
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
    let grids = grids(rows);
    let sums = measure(pass, rows, rules, &grids);
    let mut means: Vec<Option<RowMeans>> = (0..rows.plan().rows()).map(|_| None).collect();
    for grid in grids {
        let row = grid.row;
        let factoring = match rows.compute_of(row) {
            DType::F64 => Averages::new(rules.f64[row].rule.factoring(), pass.isa),
            _ => Averages::new(rules.f32[row].rule.factoring(), pass.isa),
        };
        means[row] = rows.factors_mut(row).map(|factors| factoring.update(factors, grid, &sums));
    }
    Some(Means(means))
}

fn grids(rows: &Rows) -> Vec<Grid> {
    let mut grids = vec![];
    let (mut first, mut columns) = (0, 0);
    for row in 0..rows.plan().rows() {
        let Some((height, width)) = rows.matrices_of(row).filter(|_| rows.len_of(row) > 0) else { continue };
        let count = rows.len_of(row) / (height * width);
        grids.push(Grid { row, height, width, count, tall: height.div_ceil(HEIGHT), rows: first, columns });
        first += count * height;
        columns += count * width;
    }
    grids
}

/// Wave after wave of groups, so that what waits to be added up is no part of the arrays' size.
fn measure<R32, R64, const N: usize>(pass: &Pass<'_>, rows: &Rows, rules: &Rules<R32, R64>, grids: &[Grid]) -> Sums
where
    R32: Rule<f32, N>,
    R64: Rule<f64, N>,
{
    let last = grids
        .last()
        .map_or((0, 0), |grid| (grid.rows + grid.count * grid.height, grid.columns + grid.count * grid.width));
    let mut sums = Sums { rows: zeros(last.0), columns: vec![0.0; last.1] };
    let mut groups = grids.iter().flat_map(|&grid| {
        let (blocks, turn) = (grid.count * grid.tall, grid.turn());
        (0..blocks).step_by(turn).map(move |k| Group { grid, blocks: k..blocks.min(k + turn), partials: 0 })
    });
    let (mut wave, mut partials): (Vec<Group>, Vec<AtomicU64>) = (vec![], vec![]);
    loop {
        wave.clear();
        let mut waiting = 0;
        while waiting < WAITING || wave.len() < LEAST_GROUPS {
            let Some(group) = groups.next() else { break };
            let width = group.grid.width;
            wave.push(Group { partials: waiting, ..group });
            waiting += wave[wave.len() - 1].blocks.len() * width;
        }
        if wave.is_empty() {
            return sums;
        }
        partials.resize_with(partials.len().max(waiting), AtomicU64::default);
        parallel::for_each(wave.len(), rows.plan().is_large(), &|k| {
            let (group, sums) = (&wave[k], (&sums.rows[..], &partials[..]));
            let row = group.grid.row;
            match rows.compute_of(row) {
                DType::F64 => {
                    dispatch!(pass.isa, simd => measure_group(simd, pass, rows, &rules.f64[row], group, sums));
                }
                _ => dispatch!(pass.isa, simd => measure_group(simd, pass, rows, &rules.f32[row], group, sums)),
            }
        });
        for Group { grid, blocks, partials: first } in &wave {
            let of_blocks = partials[*first..].chunks(grid.width);
            for (block, of_block) in blocks.clone().zip(of_blocks) {
                let columns = &mut sums.columns[grid.columns + block / grid.tall * grid.width..];
                for (sum, bits) in columns.iter_mut().zip(of_block) {
                    *sum += number(bits);
                }
            }
        }
    }
}

fn zeros(count: usize) -> Vec<AtomicU64> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

fn number(bits: &AtomicU64) -> f64 {
    f64::from_bits(bits.load(Relaxed))
}

/// Room for the sums of a block.
struct Room<T> {
    grad: [T; BLOCK],
    /// Of a row.
    partials: Vec<f64>,
    columns: Vec<f64>,
    stage: Buffer,
}

#[inline(always)]
fn measure_group<S: Simd, T: Compute, R>(
    simd: S,
    pass: &Pass<'_>,
    rows: &Rows,
    rule: &Scaled<R, T>,
    group: &Group,
    sums: (&[AtomicU64], &[AtomicU64]),
) {
    let Group { grid, ref blocks, partials } = *group;
    let grad = PreparedGrad::new(pass, grid.row, rows.grad(grid.row), rule);
    let mut room = Room {
        grad: [T::default(); BLOCK],
        partials: vec![0.0; grid.width.div_ceil(BLOCK)],
        columns: vec![0.0; grid.width.next_multiple_of(LANES)],
        stage: Buffer::default(),
    };
    for (k, block) in blocks.clone().enumerate() {
        let (matrix, top) = (block / grid.tall, block % grid.tall * HEIGHT);
        let height = HEIGHT.min(grid.height - top);
        let first = matrix * grid.height + top;
        room.columns.fill(0.0);
        let rows = &sums.0[grid.rows + first..][..height];
        if grid.width <= LANES {
            measure_narrow(simd, grad, first, grid.width, rows, &mut room);
        } else {
            measure_wide(simd, grad, first, grid.width, rows, &mut room);
        }
        for (sum, column) in sums.1[partials + k * grid.width..].iter().zip(&room.columns[..grid.width]) {
            sum.store(column.to_bits(), Relaxed);
        }
    }
}

/// A block whose rows are read one after another; `first` is its first row.
#[inline(always)]
fn measure_wide<S: Simd, T: Compute>(
    simd: S,
    grad: PreparedGrad<'_, T>,
    first: usize,
    width: usize,
    sums: &[AtomicU64],
    room: &mut Room<T>,
) {
    for (i, sum) in sums.iter().enumerate() {
        for (k, at) in (0..width).step_by(BLOCK).enumerate() {
            let len = BLOCK.min(width - at);
            let padded = len.next_multiple_of(LANES);
            grad.read(simd, (first + i) * width + at, len, &mut room.grad, &mut room.stage);
            let mut lanes = Lanes::default();
            room.grad[len..padded].fill(T::default());
            lanes.add::<S, T>(simd, Term::Square, T::values(&room.grad), 0, len.div_ceil(LANES));
            room.partials[k] = lanes.fold();
            add_squares(simd, &room.grad, &mut room.columns[at..at + padded]);
        }
        sum.store(fold_partials(simd, &mut room.partials).to_bits(), Relaxed);
    }
}

/// A block whose rows have at most an element a lane, many of them read at once. Lanes that have none are +0.0 and change no
/// sum of squares, so folding begins where there are some.
#[inline(always)]
fn measure_narrow<S: Simd, T: Compute>(
    simd: S,
    grad: PreparedGrad<'_, T>,
    first: usize,
    width: usize,
    sums: &[AtomicU64],
    room: &mut Room<T>,
) {
    let at_once = BLOCK / width;
    for (k, sums) in sums.chunks(at_once).enumerate() {
        grad.read(simd, (first + k * at_once) * width, sums.len() * width, &mut room.grad, &mut room.stage);
        for (sum, row) in sums.iter().zip(room.grad.chunks(width)) {
            let mut lanes = [0.0; LANES];
            for j in 0..width {
                let x = row[j].to_f64();
                lanes[j] = x * x;
                room.columns[j] += lanes[j];
            }
            let mut half = width.next_power_of_two() / 2;
            while half > 0 {
                for j in 0..half {
                    lanes[j] += lanes[j + half];
                }
                half /= 2;
            }
            sum.store(lanes[0].to_bits(), Relaxed);
        }
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

    fn update(self, factors: &mut Factors, grid: Grid, sums: &Sums) -> RowMeans {
        let Grid { height, width, count, .. } = grid;
        let rows = &sums.rows[grid.rows..][..count * height];
        let rows: Vec<f64> = rows.iter().map(|bits| number(bits) / width as f64).collect();
        let columns = &sums.columns[grid.columns..][..count * width];
        let columns: Vec<f64> = columns.iter().map(|sum| sum / height as f64).collect();
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
