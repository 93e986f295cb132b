//! Sums of squared gradients over the rows and the columns of matrices.
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
    rule::Rule,
    strip::PreparedGrad,
    table::Rows,
};
use crate::{
    array::buffer::Buffer,
    dispatch,
    dtype::{Compute, DType, load_native, store_native},
    parallel,
    reduce::{BLOCK, LANES, Lanes, Term, fold_partials},
};

/// Rows of a block.
const HEIGHT: usize = 64;

/// Column sums of blocks that wait to be added up, at least; they are a 64th of the elements that were read.
const WAITING: usize = 128 * 1024;

/// Groups of a wave, at least, so that many threads have something to do.
const LEAST_GROUPS: usize = 64;

/// The matrices of a row of the step, in blocks of rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    pub(super) row: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    /// Matrices.
    pub(super) count: usize,
    /// Blocks of a matrix.
    pub(super) tall: usize,
    /// Its first row and its first column among those of all grids.
    pub(super) rows: usize,
    pub(super) columns: usize,
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
pub(super) struct Sums {
    pub(super) rows: Vec<AtomicU64>,
    pub(super) columns: Vec<f64>,
}

pub(super) fn grids(rows: &Rows) -> Vec<Grid> {
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
pub(super) fn measure<R32, R64, const N: usize>(
    pass: &Pass<'_>,
    rows: &Rows,
    rules: &Rules<R32, R64>,
    grids: &[Grid],
) -> Sums
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

pub(super) fn number(bits: &AtomicU64) -> f64 {
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
        let mut sums = load_native::<S, f64>(simd, columns, at);
        for k in 0..4 {
            sums[k] += tile[k] * tile[k];
        }
        store_native::<S, f64>(sums, columns, at);
    }
}
