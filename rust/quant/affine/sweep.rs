//! The sweeps over an array: one where a scale belongs to a block that fits a cache, else one for the ranges before.

use fearless_simd::prelude::*;

use super::{
    Grid, Place, Range,
    kernel::{Each, Same, decode, encode},
    nan::FirstNan,
    pack::{pack, unpack},
    place::STRIP,
    ranges::{range, ranges},
};
use crate::{
    array::{Input, Output},
    dispatch,
    error::Error,
    parallel,
    quant::{
        codec::{self, Codec, Nan, PARALLEL, PIECE},
        geometry::Geometry,
        tile::WIDEST,
    },
    simd::Isa,
};

/// Elements of the longest block that is read once.
const LONGEST: usize = 64 * 1024;

/// Elements of the shortest run that is worked on alone.
const SHORT: usize = 64;

/// Scales and zero points, one a [`Place`] has; no zero points where they are 0.
#[derive(Clone, Copy, Debug)]
pub struct Steps<'a> {
    /// What codes are multiplied by.
    pub scales: &'a [f32],
    /// The codes of 0.
    pub zero_points: &'a [i32],
}

/// What is written.
#[derive(Debug)]
pub struct CodesMut<'a> {
    /// Codes, packed if they have 2 or 4 bits.
    pub codes: &'a mut [u8],
    /// What codes are multiplied by.
    pub scales: &'a mut [f32],
    /// The codes of 0, or none.
    pub zero_points: &'a mut [i32],
}

impl Steps<'_> {
    #[inline(always)]
    fn zero(&self, step: usize) -> f32 {
        if self.zero_points.is_empty() { 0.0 } else { self.zero_points[step] as f32 }
    }

    /// What a number is divided or multiplied by on its way to a code.
    #[inline(always)]
    fn factor(&self, grid: Grid, step: usize) -> f32 {
        if grid.is_reciprocal { 1.0 / self.scales[step] } else { self.scales[step] }
    }
}

fn check(grid: Grid, place: Place, elements: usize, codes: usize, steps: Steps<'_>) -> Result<(), Error> {
    let check = |what, want, got| if want == got { Ok(()) } else { Err(Error::Length { what, want, got }) };
    let strips = place.strips();
    check("x", place.len(), elements)?;
    check("codes", strips.code_start(strips.blocks(), |len| grid.code_bytes(len)), codes)?;
    check("scales", place.steps(), steps.scales.len())?;
    let points = if grid.qmin == 0 { place.steps() } else { steps.zero_points.len().min(place.steps()) };
    check("zero_points", points, steps.zero_points.len())
}

/// Blocks that one thread works on at a time.
struct Piece<'a> {
    first: usize,
    end: usize,
    codes: &'a mut [u8],
    scales: &'a mut [f32],
    zero_points: &'a mut [i32],
}

/// Pieces of whole blocks; scales and zero points, if there are some, are those of the blocks.
fn pieces<'a>(grid: Grid, geometry: Geometry, to: CodesMut<'a>) -> Vec<Piece<'a>> {
    let of_piece = (PIECE / geometry.block.min(geometry.len).max(1)).max(1);
    let bytes = |block| geometry.code_start(block, |len| grid.code_bytes(len));
    let CodesMut { mut codes, mut scales, mut zero_points } = to;
    let mut pieces = vec![];
    for first in (0..geometry.blocks()).step_by(of_piece) {
        let end = geometry.blocks().min(first + of_piece);
        let (own, others) = codes.split_at_mut(bytes(end) - bytes(first));
        let (own_scales, more_scales) = scales.split_at_mut(scales.len().min(end - first));
        let (own_points, more_points) = zero_points.split_at_mut(zero_points.len().min(end - first));
        pieces.push(Piece { first, end, codes: own, scales: own_scales, zero_points: own_points });
        (codes, scales, zero_points) = (others, more_scales, more_points);
    }
    pieces
}

/// Codes, scales and zero points of an array. A NaN that is refused leaves them in any state where [`is_one_sweep`]; else
/// as they were.
pub fn quantize(isa: Isa, grid: Grid, place: Place, nan: Nan, x: &Input, to: CodesMut<'_>) -> Result<(), Error> {
    check(grid, place, x.len(), to.codes.len(), Steps { scales: to.scales, zero_points: to.zero_points })?;
    let Some(geometry) = place.blocks(LONGEST, grid.of_byte()) else {
        let CodesMut { codes, scales, zero_points } = to;
        for (k, range) in ranges(isa, place, nan, x)?.into_iter().enumerate() {
            set_step(grid, range, k, scales, zero_points);
        }
        return quantize_given(isa, grid, place, nan, x, Steps { scales, zero_points }, codes);
    };
    let (first_nan, mut pieces) = (FirstNan::new(nan), pieces(grid, geometry, to));
    parallel::for_each_mut(&mut pieces, x.len() >= PARALLEL, &|_, piece| {
        dispatch!(isa, simd => measure_and_encode(simd, grid, geometry, x, piece, &first_nan));
    });
    first_nan.error()
}

/// Does [`quantize`] read the array once? Then it finds a NaN too late.
#[must_use]
pub fn is_one_sweep(grid: Grid, place: Place) -> bool {
    place.blocks(LONGEST, grid.of_byte()).is_some()
}

fn set_step(grid: Grid, range: Range, k: usize, scales: &mut [f32], zero_points: &mut [i32]) {
    let step = grid.step(range);
    scales[k] = step.scale;
    if !zero_points.is_empty() {
        zero_points[k] = step.zero_point;
    }
}

#[inline(always)]
fn measure_and_encode<S: Simd>(
    simd: S,
    grid: Grid,
    geometry: Geometry,
    x: &Input,
    piece: &mut Piece<'_>,
    first_nan: &FirstNan,
) {
    let (mut room, mut clean, mut staged) = (vec![], vec![], vec![]);
    let bytes = |block| geometry.code_start(block, |len| grid.code_bytes(len));
    for block in piece.first..piece.end {
        let (start, k) = (geometry.start(block), block - piece.first);
        let mut x = x.block::<S, f32>(simd, start, geometry.start(block + 1) - start, &mut room);
        let found = range(simd, x);
        if found.is_none() {
            first_nan.zeroed(x, start, &mut clean);
            x = &clean;
        }
        let found = found.or_else(|| range(simd, x)).unwrap_or_default();
        set_step(grid, found, k, piece.scales, piece.zero_points);
        let steps = Steps { scales: &piece.scales[k..=k], zero_points: piece.zero_points.get(k..=k).unwrap_or(&[]) };
        let same = Same { factor: steps.factor(grid, 0), zero: steps.zero(0) };
        let codes = &mut piece.codes[bytes(block) - bytes(piece.first)..bytes(block + 1) - bytes(piece.first)];
        if grid.of_byte() == 1 {
            encode(simd, grid, same, x, codes);
            continue;
        }
        staged.resize(STRIP, 0);
        for (x, codes) in x.chunks(STRIP).zip(codes.chunks_mut(grid.code_bytes(STRIP))) {
            encode(simd, grid, same, x, &mut staged[..x.len()]);
            pack(simd, grid.of_byte(), &staged[..x.len()], codes);
        }
    }
}

/// Codes of an array whose scales and zero points are known. A NaN that is refused leaves the codes in any state.
pub fn quantize_given(
    isa: Isa,
    grid: Grid,
    place: Place,
    nan: Nan,
    x: &Input,
    steps: Steps<'_>,
    codes: &mut [u8],
) -> Result<(), Error> {
    check(grid, place, x.len(), codes.len(), steps)?;
    let (first_nan, strips) = (FirstNan::new(nan), place.strips());
    let mut pieces = pieces(grid, strips, CodesMut { codes, scales: &mut [], zero_points: &mut [] });
    parallel::for_each_mut(&mut pieces, x.len() >= PARALLEL, &|_, piece| {
        dispatch!(isa, simd => encode_piece(simd, Given { grid, place, steps }, strips, x, piece, &first_nan));
    });
    first_nan.error()
}

#[inline(always)]
fn encode_piece<S: Simd>(
    simd: S,
    given: Given<'_>,
    strips: Geometry,
    x: &Input,
    piece: &mut Piece<'_>,
    first_nan: &FirstNan,
) {
    let (mut room, mut clean, mut staged) = (vec![], vec![], Staged::default());
    let bytes = |block| strips.code_start(block, |len| given.grid.code_bytes(len));
    for block in piece.first..piece.end {
        let start = strips.start(block);
        let x = x.block::<S, f32>(simd, start, strips.start(block + 1) - start, &mut room);
        let codes = &mut piece.codes[bytes(block) - bytes(piece.first)..bytes(block + 1) - bytes(piece.first)];
        if given.encode(simd, start, x, codes, &mut staged) {
            first_nan.zeroed(x, start, &mut clean);
            given.encode(simd, start, &clean, codes, &mut staged);
        }
    }
}

/// Room for a strip: codes before they are packed, and a number for each element.
#[derive(Default)]
struct Staged {
    codes: Vec<u8>,
    factor: Vec<f32>,
    zero: Vec<f32>,
}

/// A codec with scales and zero points that are known.
#[derive(Clone, Copy)]
struct Given<'a> {
    grid: Grid,
    place: Place,
    steps: Steps<'a>,
}

impl Given<'_> {
    /// Codes of elements from `start` on; is there a NaN?
    #[inline(always)]
    fn encode<S: Simd>(&self, simd: S, start: usize, x: &[f32], codes: &mut [u8], staged: &mut Staged) -> bool {
        if self.grid.of_byte() == 1 {
            return self.encode_bytes(simd, start, x, codes, staged);
        }
        let mut room = std::mem::take(&mut staged.codes);
        room.resize(STRIP, 0);
        let has_nan = self.encode_bytes(simd, start, x, &mut room[..x.len()], staged);
        pack(simd, self.grid.of_byte(), &room[..x.len()], codes);
        staged.codes = room;
        has_nan
    }

    #[inline(always)]
    fn encode_bytes<S: Simd>(&self, simd: S, start: usize, x: &[f32], codes: &mut [u8], staged: &mut Staged) -> bool {
        let (mut at, mut has_nan, grid) = (0, false, self.grid);
        if self.place.run_len() < SHORT {
            self.spread(start, x.len(), true, staged);
            return encode(simd, grid, Each { factor: &staged.factor, zero: &staged.zero }, x, codes);
        }
        while at < x.len() {
            let (step, left) = self.place.run(start + at);
            let end = x.len().min(at.saturating_add(left));
            let same = Same { factor: self.steps.factor(grid, step), zero: self.steps.zero(step) };
            has_nan |= encode(simd, grid, same, &x[at..end], &mut codes[at..end]);
            at = end;
        }
        has_nan
    }

    #[inline(always)]
    fn decode_bytes<S: Simd>(&self, simd: S, start: usize, codes: &[u8], out: &mut [f32], staged: &mut Staged) {
        let (mut at, grid) = (0, self.grid);
        if self.place.run_len() < SHORT {
            self.spread(start, out.len(), false, staged);
            return decode(simd, grid, Each { factor: &staged.factor, zero: &staged.zero }, codes, out);
        }
        while at < out.len() {
            let (step, left) = self.place.run(start + at);
            let end = out.len().min(at.saturating_add(left));
            let same = Same { factor: self.steps.scales[step], zero: self.steps.zero(step) };
            decode(simd, grid, same, &codes[at..end], &mut out[at..end]);
            at = end;
        }
    }

    /// A number for each of `len` elements from `start` on.
    #[inline(always)]
    fn spread(&self, start: usize, len: usize, encodes: bool, staged: &mut Staged) {
        let Staged { factor, zero, .. } = staged;
        factor.resize(STRIP + WIDEST, 1.0);
        zero.resize(STRIP + WIDEST, 0.0);
        let mut at = 0;
        while at < len {
            let (step, left) = self.place.run(start + at);
            let end = len.min(at + left);
            factor[at..end].fill(if encodes { self.steps.factor(self.grid, step) } else { self.steps.scales[step] });
            zero[at..end].fill(self.steps.zero(step));
            at = end;
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
        let (start, mut staged) = (self.place.strips().start(first), Staged::default());
        if self.grid.of_byte() == 1 {
            return self.decode_bytes(simd, start, codes, out, &mut staged);
        }
        let mut room = [0; STRIP];
        unpack(simd, self.grid.of_byte(), codes, &mut room[..out.len()]);
        self.decode_bytes(simd, start, &room[..out.len()], out, &mut staged);
    }
}

/// The numbers that codes stand for.
pub fn dequantize(
    isa: Isa,
    grid: Grid,
    place: Place,
    steps: Steps<'_>,
    codes: &[u8],
    out: &mut Output,
) -> Result<(), Error> {
    check(grid, place, out.len(), codes.len(), steps)?;
    codec::dequantize(isa, Given { grid, place, steps }, place.strips(), codes, &[], out)
}
