//! The sweeps over an array: one where a scale belongs to a block that fits a cache, else one for the ranges before.

use fearless_simd::prelude::*;

use super::{
    Grid, Place, Range,
    given::{Cycle, Given, Staged},
    nan::FirstNan,
    place::STRIP,
    ranges::{range, ranges},
};
use crate::{
    array::{Input, Output},
    dispatch,
    error::Error,
    parallel,
    quant::{
        codec::{self, Nan, PARALLEL, PIECE},
        geometry::Geometry,
    },
    simd::Isa,
};

/// Elements of the longest block that is read once.
const LONGEST: usize = 64 * 1024;

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
fn pieces(grid: Grid, geometry: Geometry, to: CodesMut<'_>) -> Vec<Piece<'_>> {
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
        dispatch!(isa, simd => measure_and_encode(simd, (grid, place, geometry), x, piece, &first_nan));
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
    codes: (Grid, Place, Geometry),
    x: &Input,
    piece: &mut Piece<'_>,
    first_nan: &FirstNan,
) {
    let (mut room, mut clean, mut staged) = (vec![], vec![], Staged::default());
    let (grid, place, geometry) = codes;
    let bytes = |block| geometry.code_start(block, |len| grid.code_bytes(len));
    let of_strip = (STRIP / geometry.block).max(1);
    let mut block = piece.first;
    while block < piece.end {
        let end = piece.end.min(geometry.row_end(block)).min(block + of_strip);
        let (start, own) = (geometry.start(block), block - piece.first..end - piece.first);
        let mut x = x.block::<S, f32>(simd, start, geometry.start(end) - start, &mut room);
        let scales = &mut piece.scales[own.clone()];
        let zero_points = if piece.zero_points.is_empty() { &mut [] } else { &mut piece.zero_points[own] };
        if !measure(simd, grid, geometry.block, x, scales, zero_points) {
            first_nan.zeroed(x, start, &mut clean);
            x = &clean;
            measure(simd, grid, geometry.block, x, scales, zero_points);
        }
        let given = Given { grid, place, steps: Steps { scales, zero_points }, first: block, cycle: None };
        let codes = &mut piece.codes[bytes(block) - bytes(piece.first)..bytes(end) - bytes(piece.first)];
        for (k, (x, codes)) in x.chunks(STRIP).zip(codes.chunks_mut(grid.code_bytes(STRIP))).enumerate() {
            given.encode(simd, start + k * STRIP, x, codes, &mut staged);
        }
        block = end;
    }
}

/// Scales and zero points of blocks; false if there is a NaN.
#[inline(always)]
fn measure<S: Simd>(simd: S, grid: Grid, block: usize, x: &[f32], scales: &mut [f32], zero_points: &mut [i32]) -> bool {
    for (k, x) in x.chunks(block).enumerate() {
        match range(simd, x) {
            Some(found) => set_step(grid, found, k, scales, zero_points),
            None => return false,
        }
    }
    true
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
    let cycle = Cycle::new(place, steps, grid.is_reciprocal);
    let given = Given { grid, place, steps, first: 0, cycle: cycle.as_ref() };
    let mut pieces = pieces(grid, strips, CodesMut { codes, scales: &mut [], zero_points: &mut [] });
    parallel::for_each_mut(&mut pieces, x.len() >= PARALLEL, &|_, piece| {
        dispatch!(isa, simd => encode_piece(simd, given, strips, x, piece, &first_nan));
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
    let cycle = Cycle::new(place, steps, false);
    codec::dequantize(
        isa,
        Given { grid, place, steps, first: 0, cycle: cycle.as_ref() },
        place.strips(),
        codes,
        &[],
        out,
    )
}
