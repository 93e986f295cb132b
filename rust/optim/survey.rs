//! The one read of the gradients where more than a norm or a check is asked of it: pruned elements left out, values clipped,
//! norms of units. Block by block, so that what is read twice is read from the cache.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use fearless_simd::prelude::*;

use super::{
    fold::{Preparation, STRIP, prepare},
    grad::Grad,
    norm::Largest,
    plan::Chunk,
    table::Rows,
};
use crate::{
    array::{
        buffer::Buffer,
        reading::{Read, read},
    },
    dispatch,
    dtype::{Compute, DType},
    reduce::{BLOCK, LANES, Lanes, Term, fold_partials, max_abs},
    simd::Isa,
};

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// The largest magnitude before values are clipped?
    pub largest: bool,
    /// A sum over all elements, after values are clipped?
    pub term: Option<Term>,
    /// Norms of units, after values are clipped?
    pub units: bool,
    /// Multiply by this and clip to that.
    pub clip: Option<(f64, f64)>,
}

/// What was found.
#[derive(Debug)]
pub struct Answer {
    /// The largest magnitude.
    pub largest: Largest,
    /// The sum.
    pub sum: f64,
    /// For each row and each of its units the sums of squares of gradient and parameter.
    pub units: Vec<Vec<[f64; 2]>>,
}

/// Blocks of the units of a row: each unit has blocks of its own.
#[derive(Clone, Copy, Debug)]
struct Units {
    /// Elements of a unit.
    unit: usize,
    /// Blocks of a unit.
    blocks: usize,
    /// Its row's first block among those of all rows.
    first: usize,
    count: usize,
}

impl Units {
    fn of(grad: Grad<'_>, first: usize) -> Self {
        let unit = grad.unit().max(1);
        Self { unit, blocks: unit.div_ceil(BLOCK), first, count: grad.len() / unit }
    }

    /// Starts, lengths and places of the blocks that start in `from..to` of the row.
    fn starting_in(self, from: usize, to: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        let first = from / self.unit * self.blocks + (from % self.unit).div_ceil(BLOCK);
        (first..self.count * self.blocks)
            .map(move |k| (k / self.blocks * self.unit + k % self.blocks * BLOCK, k))
            .take_while(move |&(start, _)| start < to)
            .map(move |(start, k)| (start, BLOCK.min(self.unit - start % self.unit), self.first + k))
    }
}

/// Results of all blocks, each written once.
struct Results {
    largest: [AtomicU64; 2],
    blocks: Vec<AtomicU64>,
    units: Vec<[AtomicU64; 2]>,
}

/// Reads all gradients once.
#[must_use]
pub fn survey(isa: Isa, rows: &Rows, question: Question) -> Answer {
    let mut all: Vec<Units> = vec![];
    for grad in rows.grads() {
        let first = all.last().map_or(0, |units: &Units| units.first + units.count * units.blocks);
        all.push(Units::of(grad, first));
    }
    let total = if question.units { all.last().map_or(0, |units| units.first + units.count * units.blocks) } else { 0 };
    let results = Results {
        largest: Default::default(),
        blocks: (0..rows.plan().total_blocks()).map(|_| AtomicU64::new(0)).collect(),
        units: (0..total).map(|_| Default::default()).collect(),
    };
    rows.for_each_grad_piece(|chunks| {
        dispatch!(isa, simd => for (chunk, grad) in chunks {
            match grad.compute() {
                DType::F64 => read_chunk(simd, question, grad, *chunk, all[chunk.row], &results, &mut Reader::<f64>::default()),
                _ => read_chunk(simd, question, grad, *chunk, all[chunk.row], &results, &mut Reader::<f32>::default()),
            }
        });
    });
    results.fold(isa, rows, &all, question)
}

/// Room for a block.
struct Reader<T> {
    block: [T; BLOCK],
    stage: Buffer,
}

impl<T: Compute> Default for Reader<T> {
    fn default() -> Self {
        Self { block: [T::default(); BLOCK], stage: Buffer::default() }
    }
}

impl<T: Compute> Reader<T> {
    /// A block of an array, zeros behind it.
    fn read<S: Simd>(&mut self, simd: S, source: impl Read, start: usize, len: usize) {
        read(simd, source, start, len, &mut self.block, &mut self.stage);
    }

    /// What was read of a gradient without pruned elements, and clipped.
    fn prepare<S: Simd>(&mut self, simd: S, grad: Grad<'_>, start: usize, len: usize, clip: Option<(f64, f64)>) {
        if grad.kept(start).is_none() && clip.is_none() {
            return;
        }
        let (first, limit) = clip.map_or((1.0, None), |(first, limit)| (first, Some(limit)));
        let how = Preparation::new(first, limit, 1.0);
        for at in (0..len).step_by(STRIP) {
            let mut raw = [T::default(); STRIP];
            let count = STRIP.min((len - at).next_multiple_of(LANES));
            raw[..count].copy_from_slice(&self.block[at..at + count]);
            prepare(simd, T::values(&raw), grad.kept(start + at), how, None, &mut self.block[at..], count);
        }
        // An infinite factor made NaN of the zeros.
        self.block[len..len.next_multiple_of(LANES)].fill(T::default());
    }

    fn sum<S: Simd>(&self, simd: S, term: Term, len: usize) -> u64 {
        debug_assert!(self.block[len..len.next_multiple_of(LANES)].iter().all(|x| *x == T::default()));
        let (mut lanes, values) = (Lanes::default(), T::values(&self.block));
        simd.vectorize(
            #[inline(always)]
            || lanes.add::<S, T>(simd, term, values, 0, len.div_ceil(LANES)),
        );
        lanes.fold().to_bits()
    }
}

#[inline(always)]
fn read_chunk<S: Simd, T: Compute>(
    simd: S,
    question: Question,
    grad: Grad<'_>,
    chunk: Chunk,
    units: Units,
    results: &Results,
    reader: &mut Reader<T>,
) {
    for (k, at) in (0..chunk.len).step_by(BLOCK).enumerate() {
        let (start, len) = (chunk.start + at, BLOCK.min(chunk.len - at));
        reader.read(simd, grad, start, len);
        reader.prepare(simd, grad, start, len, None);
        if question.largest {
            let largest = max_abs::<S, T>(simd, T::values(&reader.block), 0, len.next_multiple_of(LANES));
            let place = usize::from(grad.compute() == DType::F64);
            results.largest[place].fetch_max(largest.to_bits(), Relaxed);
        }
        if let Some(term) = question.term {
            reader.prepare(simd, grad, start, len, question.clip);
            results.blocks[chunk.block + k].store(reader.sum(simd, term, len), Relaxed);
        }
        if question.units {
            for (start, len, place) in units.starting_in(start, start + len) {
                reader.read(simd, grad, start, len);
                reader.prepare(simd, grad, start, len, question.clip);
                results.units[place][0].store(reader.sum(simd, Term::Square, len), Relaxed);
                reader.read(simd, grad.param(), start, len);
                results.units[place][1].store(reader.sum(simd, Term::Square, len), Relaxed);
            }
        }
    }
}

impl Results {
    fn fold(self, isa: Isa, rows: &Rows, all: &[Units], question: Question) -> Answer {
        let number = |bits: &AtomicU64| f64::from_bits(bits.load(Relaxed));
        let mut blocks: Vec<f64> = self.blocks.iter().map(number).collect();
        let mut sum = 0.0;
        for row in 0..rows.plan().rows() {
            sum += dispatch!(isa, simd => fold_partials(simd, &mut blocks[rows.plan().blocks(row)]));
        }
        let fold = |units: &Units, k: usize, which: usize| {
            let first = units.first + k * units.blocks;
            if units.blocks == 1 {
                return number(&self.units[first][which]);
            }
            let blocks = &self.units[first..first + units.blocks];
            let mut blocks: Vec<f64> = blocks.iter().map(|sums| number(&sums[which])).collect();
            dispatch!(isa, simd => fold_partials(simd, &mut blocks))
        };
        let of_row = |units: &Units| (0..units.count).map(|k| [fold(units, k, 0), fold(units, k, 1)]).collect();
        let [f32, f64] = &self.largest;
        Answer {
            largest: Largest { f32: number(f32), f64: number(f64) },
            sum,
            units: if question.units { all.iter().map(of_row).collect() } else { vec![] },
        }
    }
}
