//! Codes of strips whose scales and zero points are known.

use fearless_simd::prelude::*;

use super::{
    Grid, Place, Steps,
    kernel::{Each, Runs, Same, Scales, decode, encode},
    pack::{pack, unpack},
    place::STRIP,
};
use crate::quant::{codec::Codec, tile::WIDEST};

/// Elements of the shortest run that is worked on alone.
const SHORT: usize = 64;

/// Elements of the longest period that gets a table of its own.
const LONGEST: usize = 64 * 1024;

/// Room for a strip: codes before they are packed, and a number for each element.
#[derive(Default)]
pub(super) struct Staged {
    codes: Vec<u8>,
    numbers: Numbers,
}

#[derive(Default)]
struct Numbers {
    factor: Vec<f32>,
    zero: Vec<f32>,
}

/// A number for each element of an axis' period, which goes on for a strip.
pub(super) struct Cycle {
    period: usize,
    numbers: Numbers,
}

impl Cycle {
    /// Of an axis whose runs are short, where there are many periods.
    pub(super) fn new(place: Place, steps: Steps<'_>, inverts: bool) -> Option<Self> {
        let Place::Axis { channels, inner, len } = place else { return None };
        let period = channels * inner;
        if channels == 1 || inner >= SHORT || period >= len || (inner > 1 && period > LONGEST) {
            return None;
        }
        let of_place = (0..period + STRIP + WIDEST).map(|k| steps.same(k / inner % channels, inverts));
        let (factor, zero) = of_place.map(|same| (same.factor, same.zero)).unzip();
        Some(Self { period, numbers: Numbers { factor, zero } })
    }

    #[inline(always)]
    fn each(&self, start: usize) -> Each<'_> {
        let at = start % self.period;
        Each { factor: &self.numbers.factor[at..], zero: &self.numbers.zero[at..] }
    }
}

impl Steps<'_> {
    /// The numbers of a scale; `inverts` if numbers are multiplied by 1 / scale.
    #[inline(always)]
    fn same(&self, step: usize, inverts: bool) -> Same {
        let scale = self.scales[step];
        let zero = if self.zero_points.is_empty() { 0.0 } else { self.zero_points[step] as f32 };
        Same { factor: if inverts { 1.0 / scale } else { scale }, zero }
    }
}

/// A codec with scales and zero points that are known.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    pub(super) grid: Grid,
    pub(super) place: Place,
    pub(super) steps: Steps<'a>,
    /// The scale that `steps` begin with.
    pub(super) first: usize,
    pub(super) cycle: Option<&'a Cycle>,
}

/// What is done with elements and scales.
trait Work {
    fn run<S: Simd, P: Scales>(&mut self, simd: S, grid: Grid, scales: P, from: usize, to: usize);
}

struct Encode<'a> {
    x: &'a [f32],
    codes: &'a mut [u8],
    has_nan: bool,
}

impl Work for Encode<'_> {
    #[inline(always)]
    fn run<S: Simd, P: Scales>(&mut self, simd: S, grid: Grid, scales: P, from: usize, to: usize) {
        self.has_nan |= encode(simd, grid, scales, &self.x[from..to], &mut self.codes[from..to]);
    }
}

struct Decode<'a> {
    codes: &'a [u8],
    out: &'a mut [f32],
}

impl Work for Decode<'_> {
    #[inline(always)]
    fn run<S: Simd, P: Scales>(&mut self, simd: S, grid: Grid, scales: P, from: usize, to: usize) {
        decode(simd, grid, scales, &self.codes[from..to], &mut self.out[from..to]);
    }
}

impl Given<'_> {
    /// Codes of elements from `start` on, at most a strip; is there a NaN?
    #[inline(always)]
    pub(super) fn encode<S: Simd>(
        &self,
        simd: S,
        start: usize,
        x: &[f32],
        codes: &mut [u8],
        staged: &mut Staged,
    ) -> bool {
        let (of_byte, inverts, len) = (self.grid.of_byte(), self.grid.is_reciprocal, x.len());
        let Staged { codes: room, numbers } = staged;
        if of_byte == 1 {
            let mut work = Encode { x, codes, has_nan: false };
            self.each_run(simd, start, len, inverts, numbers, &mut work);
            return work.has_nan;
        }
        room.resize(STRIP, 0);
        let mut work = Encode { x, codes: &mut room[..len], has_nan: false };
        self.each_run(simd, start, len, inverts, numbers, &mut work);
        let has_nan = work.has_nan;
        pack(simd, of_byte, &room[..len], codes);
        has_nan
    }

    /// Runs of one scale one after another, or all elements at once where runs are short.
    #[inline(always)]
    fn each_run<S: Simd>(
        &self,
        simd: S,
        start: usize,
        len: usize,
        inverts: bool,
        numbers: &mut Numbers,
        work: &mut impl Work,
    ) {
        let (grid, run) = (self.grid, self.place.run_len());
        if let Some(cycle) = self.cycle {
            return work.run(simd, grid, cycle.each(start), 0, len);
        }
        if run.is_power_of_two() && (16..STRIP).contains(&run) && self.place.run(start).1 >= run.min(len) {
            self.list(start, len, inverts, numbers);
            let (factor, zero, shift) = (&numbers.factor, &numbers.zero, run.trailing_zeros());
            if self.steps.zero_points.is_empty() {
                return work.run(simd, grid, Runs::<true> { factor, zero, shift }, 0, len);
            }
            return work.run(simd, grid, Runs::<false> { factor, zero, shift }, 0, len);
        }
        if run < SHORT {
            self.spread(start, len, inverts, numbers);
            return work.run(simd, grid, Each { factor: &numbers.factor, zero: &numbers.zero }, 0, len);
        }
        let (mut at, (mut step, mut left)) = (0, self.place.run(start));
        while at < len {
            let end = len.min(at.saturating_add(left));
            work.run(simd, grid, self.steps.same(step - self.first, inverts), at, end);
            at = end;
            (step, left) = self.place.next(step, start + at);
        }
    }

    /// The numbers of each run of `len` elements from `start` on, and more for a tile.
    #[inline(always)]
    fn list(&self, start: usize, len: usize, inverts: bool, Numbers { factor, zero }: &mut Numbers) {
        let Steps { scales, zero_points } = self.steps;
        factor.clear();
        zero.clear();
        let (mut step, mut left) = (self.place.run(start).0 - self.first, len.div_ceil(self.place.run_len()));
        while left > 0 {
            // After the last index of an axis comes the first one.
            let end = scales.len().min(step + left);
            factor.extend_from_slice(&scales[step..end]);
            for &point in zero_points.get(step..end).unwrap_or(&[]) {
                zero.push(point as f32);
            }
            left -= end - step;
            step = 0;
        }
        if inverts {
            for factor in &mut *factor {
                *factor = 1.0 / *factor;
            }
        }
        // A tile that is padded reads on.
        factor.extend([1.0; WIDEST / 16]);
        zero.extend([0.0; WIDEST / 16]);
    }

    /// The numbers of each of `len` elements from `start` on.
    #[inline(always)]
    fn spread(&self, start: usize, len: usize, inverts: bool, Numbers { factor, zero }: &mut Numbers) {
        factor.resize(STRIP + WIDEST, 1.0);
        zero.resize(STRIP + WIDEST, 0.0);
        let (mut at, (mut step, mut left)) = (0, self.place.run(start));
        while at < len {
            let end = len.min(at + left);
            let same = self.steps.same(step - self.first, inverts);
            factor[at..end].fill(same.factor);
            zero[at..end].fill(same.zero);
            at = end;
            (step, left) = self.place.next(step, start + at);
        }
    }
}

impl Codec for Given<'_> {
    type Scale = ();

    fn code_bytes(&self, len: usize) -> usize {
        self.grid.code_bytes(len)
    }

    #[inline(always)]
    fn encode<S: Simd>(&self, simd: S, first: usize, _: usize, x: &[f32], codes: &mut [u8], _: &mut [()]) {
        Given::encode(self, simd, self.place.strips().start(first), x, codes, &mut Staged::default());
    }

    #[inline(always)]
    fn decode<S: Simd>(&self, simd: S, first: usize, _: usize, codes: &[u8], _: &[()], out: &mut [f32]) {
        let (of_byte, len) = (self.grid.of_byte(), out.len());
        let (start, mut numbers) = (self.place.strips().start(first), Numbers::default());
        if of_byte == 1 {
            return self.each_run(simd, start, len, false, &mut numbers, &mut Decode { codes, out });
        }
        let mut room = [0; STRIP];
        unpack(simd, of_byte, codes, &mut room[..len]);
        self.each_run(simd, start, len, false, &mut numbers, &mut Decode { codes: &room[..len], out });
    }
}
