//! The smallest and the largest numbers that share a scale.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use fearless_simd::prelude::*;

use super::{Place, Range, nan::FirstNan, place::STRIP};
use crate::{
    array::Input,
    dispatch,
    dtype::load_native,
    error::Error,
    parallel,
    prefetch::prefetch,
    quant::codec::{Nan, PARALLEL, PIECE},
    simd::{Isa, TILE_VECTORS},
};

/// Runs of fewer elements are looked at one element after another.
const SHORT: usize = 64;

/// Bits of the largest magnitudes below and above 0: those of numbers, above infinity's for NaN.
type Bits = [u32; 2];

const INFINITY: u32 = f32::INFINITY.to_bits();

/// A range without NaN, infinity being the largest number.
#[inline(always)]
fn range_of([below, above]: Bits) -> Range {
    Range { below: f32::from_bits(below).min(f32::MAX), above: f32::from_bits(above).min(f32::MAX) }
}

/// Bits of a block. As integers without a sign negative numbers are the largest, with one positive numbers are.
#[inline(always)]
fn bits_of<S: Simd>(simd: S, x: &[f32]) -> Bits {
    let (mut at, n) = (0, S::f32s::LEN);
    let (mut below, mut above) = ([S::u32s::splat(simd, 0); TILE_VECTORS], [S::i32s::splat(simd, 0); TILE_VECTORS]);
    while at + TILE_VECTORS * n <= x.len() {
        prefetch(x, at, TILE_VECTORS * n);
        let tile = load_native::<S, f32>(simd, x, at);
        for k in 0..TILE_VECTORS {
            below[k] = below[k].max(tile[k].bitcast::<S::u32s>());
            above[k] = above[k].max(tile[k].bitcast::<S::i32s>());
        }
        at += TILE_VECTORS * n;
    }
    if x.len() < n {
        return few_bits(x);
    }
    while at < x.len() {
        // The last vector may see elements again.
        let vector = S::f32s::from_slice(simd, &x[at.min(x.len() - n)..][..n]);
        below[0] = below[0].max(vector.bitcast::<S::u32s>());
        above[0] = above[0].max(vector.bitcast::<S::i32s>());
        at += n;
    }
    let below = below[0].max(below[1]).max(below[2].max(below[3])).reduce_max();
    let above = above[0].max(above[1]).max(above[2].max(above[3])).reduce_max();
    [negative(below), above as u32]
}

/// The magnitude's bits of a negative number, 0 for others.
const fn negative(bits: u32) -> u32 {
    if bits > i32::MAX as u32 { bits & 0x7fff_ffff } else { 0 }
}

#[inline(always)]
fn few_bits(x: &[f32]) -> Bits {
    let (mut below, mut above) = (0, 0);
    for value in x {
        below = below.max(value.to_bits());
        above = above.max(value.to_bits() as i32);
    }
    [negative(below), above as u32]
}

/// The range of a block; none if it has NaN.
#[inline(always)]
pub(super) fn range<S: Simd>(simd: S, x: &[f32]) -> Option<Range> {
    let [below, above] = bits_of(simd, x);
    (below.max(above) <= INFINITY).then(|| range_of([below, above]))
}

/// What of each scale was seen by all threads.
struct Table(Vec<[AtomicU32; 2]>);

impl Table {
    fn merge(&self, step: usize, bits: Bits) {
        for (all, own) in self.0[step].iter().zip(bits) {
            if all.load(Relaxed) < own {
                all.fetch_max(own, Relaxed);
            }
        }
    }
}

/// The range of each scale's numbers, in one sweep over the array. NaN is an error, or as if it was 0.
pub(super) fn ranges(isa: Isa, place: Place, nan: Nan, x: &Input) -> Result<Vec<Range>, Error> {
    let table = Table((0..place.steps()).map(|_| Default::default()).collect());
    let (first_nan, len) = (FirstNan::new(nan), x.len());
    // Short runs of all channels fill a table of the thread's own first: it must be worth that.
    let piece = if place.run_len() < SHORT { PIECE.max(16 * place.steps()) } else { PIECE };
    parallel::for_each(len.div_ceil(piece), len >= PARALLEL, &|k| {
        let part = [k * piece, len.min((k + 1) * piece)];
        dispatch!(isa, simd => look_at(simd, place, x, part, &table, &first_nan));
    });
    first_nan.error()?;
    Ok(table.0.into_iter().map(|bits| range_of(bits.map(AtomicU32::into_inner))).collect())
}

#[inline(always)]
fn look_at<S: Simd>(simd: S, place: Place, x: &Input, [start, end]: [usize; 2], table: &Table, first_nan: &FirstNan) {
    let (mut room, mut clean) = (vec![], vec![]);
    let is_short = place.run_len() < SHORT;
    let mut own = Own::new(if is_short { place.steps() } else { 0 });
    for at in (start..end).step_by(STRIP) {
        let x = x.block::<S, f32>(simd, at, STRIP.min(end - at), &mut room);
        if !is_short {
            add_runs(simd, place, x, at, table, (first_nan, &mut clean));
        } else if range(simd, x).is_some() {
            own.add(simd, place, x, at);
        } else {
            first_nan.zeroed(x, at, &mut clean);
            own.add(simd, place, &clean, at);
        }
    }
    for (k, (&below, &above)) in own.below.iter().zip(&own.above).enumerate() {
        table.merge(k, [below, above]);
    }
}

#[inline(always)]
fn add_runs<S: Simd>(
    simd: S,
    place: Place,
    x: &[f32],
    start: usize,
    table: &Table,
    (first_nan, clean): (&FirstNan, &mut Vec<f32>),
) {
    let mut at = 0;
    while at < x.len() {
        let (step, left) = place.run(start + at);
        let end = x.len().min(at.saturating_add(left));
        let mut bits = bits_of(simd, &x[at..end]);
        if bits[0].max(bits[1]) > INFINITY {
            first_nan.zeroed(&x[at..end], start + at, clean);
            bits = bits_of(simd, clean);
        }
        table.merge(step, bits);
        at = end;
    }
}

/// What one thread saw of all indices of an axis.
struct Own {
    below: Vec<u32>,
    above: Vec<u32>,
}

/// The bits of a positive number, 0 for others.
fn positive(x: f32) -> u32 {
    if x > 0.0 { x.to_bits() } else { 0 }
}

impl Own {
    fn new(channels: usize) -> Self {
        Self { below: vec![0; channels], above: vec![0; channels] }
    }

    #[inline(always)]
    fn add<S: Simd>(&mut self, simd: S, place: Place, x: &[f32], start: usize) {
        let mut at = 0;
        while at < x.len() {
            let (step, left) = place.run(start + at);
            if place.run_len() == 1 {
                let count = (self.below.len() - step).min(x.len() - at);
                self.add_each(simd, step, &x[at..at + count]);
                at += count;
                continue;
            }
            let end = x.len().min(at + left);
            for &value in &x[at..end] {
                self.below[step] = self.below[step].max(positive(-value));
                self.above[step] = self.above[step].max(positive(value));
            }
            at = end;
        }
    }

    /// Neighbours of different scales, from the k-th on.
    #[inline(always)]
    fn add_each<S: Simd>(&mut self, simd: S, k: usize, x: &[f32]) {
        let (below, above) = (&mut self.below[k..k + x.len()], &mut self.above[k..k + x.len()]);
        let (mut at, n) = (0, S::u32s::LEN);
        let (zero, sign) = (S::i32s::splat(simd, 0), S::u32s::splat(simd, 1 << 31));
        while at + n <= x.len() {
            let bits = S::f32s::from_slice(simd, &x[at..at + n]);
            let positive: S::u32s = bits.bitcast::<S::i32s>().max(zero).bitcast();
            let negative: S::u32s = (bits.bitcast::<S::u32s>() ^ sign).bitcast::<S::i32s>().max(zero).bitcast();
            S::u32s::from_slice(simd, &below[at..at + n]).max(negative).store_slice(&mut below[at..at + n]);
            S::u32s::from_slice(simd, &above[at..at + n]).max(positive).store_slice(&mut above[at..at + n]);
            at += n;
        }
        for k in at..x.len() {
            below[k] = below[k].max(positive(-x[k]));
            above[k] = above[k].max(positive(x[k]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_blocks_at_each_level() {
        for isa in Isa::available() {
            assert_eq!(dispatch!(isa, simd => range(simd, &[1.0, -2.0, -0.0])), Some(Range { below: 2.0, above: 1.0 }));
            let mut x: Vec<f32> = (0..100_u16).map(|i| f32::from(i) - 40.0).collect();
            let found = dispatch!(isa, simd => range(simd, &x));
            assert_eq!(found, Some(Range { below: 40.0, above: 59.0 }));
            assert_eq!(dispatch!(isa, simd => range(simd, &x[..10])), Some(Range { below: 40.0, above: 0.0 }));
            assert_eq!(dispatch!(isa, simd => range(simd, &[-0.0, 0.0])), Some(Range::default()));
            for nan in [f32::NAN, -f32::NAN] {
                x[77] = nan;
                assert_eq!(dispatch!(isa, simd => range(simd, &x)), None);
            }
            x[77] = f32::NEG_INFINITY;
            assert_eq!(dispatch!(isa, simd => range(simd, &x)).map(|range| range.below), Some(f32::MAX));
        }
    }
}
