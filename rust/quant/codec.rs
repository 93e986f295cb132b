//! What a codec is, and the sweeps over an array: strips of whole blocks, read or written where they are.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};

use bytemuck::Pod;
use fearless_simd::prelude::*;

use super::{geometry::Geometry, tile::largest_bits};
use crate::{
    array::{Input, Output, Part},
    dispatch,
    error::Error,
    parallel,
    simd::Isa,
};

/// Blocks of numbers to codes and back. Numbers are float32; other stored types are rounded to it as they are read.
pub trait Codec: Copy + Send + Sync {
    /// What the elements of a block share.
    type Scale: Pod + Send + Sync;

    /// Becomes infinity the largest number? Else the codec sees it.
    const SATURATES: bool = true;

    /// Does it mark the scale of a block with an element that is not finite? Else there must be none.
    const MARKS: bool = false;

    /// Is it such a mark?
    fn is_mark(_scale: &Self::Scale) -> bool {
        false
    }

    /// Bytes that the codes of a block of so many elements take.
    fn code_bytes(&self, len: usize) -> usize;

    /// Blocks one after another, `first` being the number of the first; only the last may be shorter than `block`. No NaN.
    fn encode<S: Simd>(
        &self,
        simd: S,
        first: usize,
        block: usize,
        x: &[f32],
        codes: &mut [u8],
        scales: &mut [Self::Scale],
    );

    /// The reverse.
    fn decode<S: Simd>(
        &self,
        simd: S,
        first: usize,
        block: usize,
        codes: &[u8],
        scales: &[Self::Scale],
        out: &mut [f32],
    );
}

/// Elements of a strip, unless a block is longer. It is read twice, first for what is not finite or largest, and long strips
/// let memory wait the second time: at 4096 elements an array of 64 MiB takes half as long again.
const STRIP: usize = 1024;

/// Elements that are worth a turn of a thread.
pub(super) const PIECE: usize = 32 * 1024;

/// From this many elements on a sweep is worth more than one thread.
pub(super) const PARALLEL: usize = 64 * 1024;

/// What becomes of NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nan {
    /// An error.
    Refused,
    /// Zero.
    Zeroed,
}

/// Blocks that one thread works on at a time.
struct Piece<C, X> {
    first: usize,
    end: usize,
    codes: C,
    /// Scales, and the array's part when it is written.
    rest: X,
}

/// The first blocks of pieces, and the end of the last one.
fn cuts(geometry: Geometry) -> Vec<usize> {
    let blocks = geometry.blocks();
    let of_piece = (PIECE / geometry.block.min(geometry.len).max(1)).max(1);
    (0..blocks).step_by(of_piece).chain([blocks]).collect()
}

/// Fails unless codes and scales have the bytes that the geometry implies.
fn check<C: Codec>(codec: C, geometry: Geometry, elements: usize, codes: usize, scales: usize) -> Result<(), Error> {
    let check = |what, want, got| if want == got { Ok(()) } else { Err(Error::Length { what, want, got }) };
    check("x", geometry.elements(), elements)?;
    check("codes", geometry.code_start(geometry.blocks(), |len| codec.code_bytes(len)), codes)?;
    check("scales", geometry.blocks() * size_of::<C::Scale>(), scales)
}

/// Bytes as scales, none if these have no size; an error if they are not aligned.
fn as_scales<T: Pod>(bytes: &[u8]) -> Result<&[T], Error> {
    if size_of::<T>() == 0 || bytes.is_empty() {
        return Ok(&[]);
    }
    bytemuck::try_cast_slice(bytes).map_err(|_| Error::Misaligned("scales"))
}

fn as_scales_mut<T: Pod>(bytes: &mut [u8]) -> Result<&mut [T], Error> {
    if size_of::<T>() == 0 || bytes.is_empty() {
        return Ok(&mut []);
    }
    bytemuck::try_cast_slice_mut(bytes).map_err(|_| Error::Misaligned("scales"))
}

/// The first `count` scales, and the rest; those without a size are none.
fn split_scales<T>(scales: &mut [T], count: usize) -> (&mut [T], &mut [T]) {
    scales.split_at_mut(if size_of::<T>() == 0 { 0 } else { count })
}

/// Where the scales of block `at` of a piece lie.
const fn scales_of<T>(at: usize, count: usize) -> std::ops::Range<usize> {
    if size_of::<T>() == 0 { 0..0 } else { at..at + count }
}

/// Quantizes an array in one sweep. Under [`Nan::Refused`] a NaN is an error, which leaves codes and scales in any state:
/// where they must stay as they are, [`check_nan`] comes first.
pub fn quantize<C: Codec>(
    isa: Isa,
    codec: C,
    geometry: Geometry,
    nan: Nan,
    x: &Input,
    codes: &mut [u8],
    scales: &mut [u8],
) -> Result<(), Error> {
    check(codec, geometry, x.len(), codes.len(), scales.len())?;
    let (mut codes, mut scales) = (codes, as_scales_mut::<C::Scale>(scales)?);
    let (cuts, mut pieces) = (cuts(geometry), vec![]);
    for pair in cuts.windows(2) {
        let [first, end] = [pair[0], pair[1]];
        let bytes = |block| geometry.code_start(block, |len| codec.code_bytes(len));
        let (own, others) = codes.split_at_mut(bytes(end) - bytes(first));
        let (rest, more) = split_scales(scales, end - first);
        (codes, scales) = (others, more);
        pieces.push(Piece { first, end, codes: own, rest });
    }
    let first_nan = AtomicUsize::new(usize::MAX);
    parallel::for_each_mut(&mut pieces, x.len() >= PARALLEL, &|_, piece| {
        dispatch!(isa, simd => encode_piece(simd, codec, geometry, nan, x, piece, &first_nan));
    });
    nan_error(first_nan.into_inner())
}

pub(super) fn nan_error(first: usize) -> Result<(), Error> {
    if first == usize::MAX { Ok(()) } else { Err(Error::Nan { index: first }) }
}

#[inline(always)]
fn encode_piece<S: Simd, C: Codec>(
    simd: S,
    codec: C,
    geometry: Geometry,
    nan: Nan,
    x: &Input,
    piece: &mut Piece<&mut [u8], &mut [C::Scale]>,
    first_nan: &AtomicUsize,
) {
    let (mut room, mut clean) = (vec![], vec![]);
    let mut block = piece.first;
    let bytes = |block| geometry.code_start(block, |len| codec.code_bytes(len));
    while block < piece.end {
        let end = strip_end(geometry, block, piece.end);
        let (start, len) = (geometry.start(block), geometry.start(end) - geometry.start(block));
        let x = x.block::<S, f32>(simd, start, len, &mut room);
        let first_nan = if nan == Nan::Refused { Some(first_nan) } else { None };
        let codes = &mut piece.codes[bytes(block) - bytes(piece.first)..bytes(end) - bytes(piece.first)];
        let scales = &mut piece.rest[scales_of::<C::Scale>(block - piece.first, end - block)];
        let mut is_clean = C::MARKS || is_finite::<S, C>(simd, x);
        if is_clean {
            codec.encode(simd, block, geometry.block, x, codes, scales);
            is_clean = !C::MARKS || !scales.iter().any(C::is_mark);
        }
        if !is_clean {
            make_finite(x, start, C::SATURATES, &mut clean, first_nan);
            codec.encode(simd, block, geometry.block, &clean, codes, scales);
        }
        block = end;
    }
}

/// Whole blocks of one row, as many as make a strip.
fn strip_end(geometry: Geometry, block: usize, end: usize) -> usize {
    end.min(geometry.row_end(block)).min(block + (STRIP / geometry.block).max(1))
}

/// Are all elements as codecs want them?
#[inline(always)]
fn is_finite<S: Simd, C: Codec>(simd: S, x: &[f32]) -> bool {
    let (largest, infinity) = (largest_bits(simd, x), f32::INFINITY.to_bits());
    largest < infinity || (largest == infinity && !C::SATURATES)
}

/// NaN becomes zero, infinity the largest number if it `saturates`.
#[inline(never)]
pub(super) fn make_finite(
    x: &[f32],
    start: usize,
    saturates: bool,
    clean: &mut Vec<f32>,
    first_nan: Option<&AtomicUsize>,
) {
    clean.clear();
    for (i, &value) in x.iter().enumerate() {
        if value.is_nan() {
            first_nan.map(|first| first.fetch_min(start + i, Relaxed));
        }
        clean.push(match value {
            _ if value.is_nan() => 0.0,
            _ if saturates => value.clamp(f32::MIN, f32::MAX),
            _ => value,
        });
    }
}

/// Fails at the first NaN.
pub fn check_nan(isa: Isa, x: &Input) -> Result<(), Error> {
    let first_nan = AtomicUsize::new(usize::MAX);
    parallel::for_each(x.len().div_ceil(PIECE), x.len() >= PARALLEL, &|piece| {
        let end = x.len().min((piece + 1) * PIECE);
        dispatch!(isa, simd => find_nan(simd, x, piece * PIECE, end, &first_nan));
    });
    nan_error(first_nan.into_inner())
}

#[inline(always)]
fn find_nan<S: Simd>(simd: S, x: &Input, start: usize, end: usize, first_nan: &AtomicUsize) {
    let mut room = vec![];
    for at in (start..end).step_by(STRIP) {
        let x = x.block::<S, f32>(simd, at, STRIP.min(end - at), &mut room);
        if largest_bits(simd, x) > f32::INFINITY.to_bits() {
            let found = x.iter().position(|value| value.is_nan());
            first_nan.fetch_min(at + found.unwrap_or(0), Relaxed);
        }
    }
}

/// The largest magnitude of an array, infinity being the largest number. Under [`Nan::Refused`] a NaN is an error.
pub fn absmax(isa: Isa, nan: Nan, x: &Input) -> Result<f32, Error> {
    let (first_nan, largest) = (AtomicUsize::new(usize::MAX), AtomicU32::new(0));
    parallel::for_each(x.len().div_ceil(PIECE), x.len() >= PARALLEL, &|piece| {
        let end = x.len().min((piece + 1) * PIECE);
        dispatch!(isa, simd => find_absmax(simd, x, piece * PIECE, end, &first_nan, &largest));
    });
    let first_nan = if nan == Nan::Refused { first_nan.into_inner() } else { usize::MAX };
    nan_error(first_nan).map(|()| f32::from_bits(largest.into_inner()))
}

#[inline(always)]
fn find_absmax<S: Simd>(simd: S, x: &Input, start: usize, end: usize, first_nan: &AtomicUsize, largest: &AtomicU32) {
    let (mut room, mut clean, mut most) = (vec![], vec![], 0);
    for at in (start..end).step_by(STRIP) {
        let x = x.block::<S, f32>(simd, at, STRIP.min(end - at), &mut room);
        let mut found = largest_bits(simd, x);
        if found >= f32::INFINITY.to_bits() {
            make_finite(x, at, true, &mut clean, Some(first_nan));
            found = largest_bits(simd, &clean);
        }
        most = most.max(found);
    }
    largest.fetch_max(most, Relaxed);
}

/// Decodes an array in one sweep.
pub fn dequantize<C: Codec>(
    isa: Isa,
    codec: C,
    geometry: Geometry,
    codes: &[u8],
    scales: &[u8],
    out: &mut Output,
) -> Result<(), Error> {
    check(codec, geometry, out.len(), codes.len(), scales.len())?;
    let (cuts, len) = (cuts(geometry), out.len());
    let scales = as_scales::<C::Scale>(scales)?;
    let parts = out.parts(cuts[1..].iter().map(|&end| geometry.start(end)));
    let pieces = cuts.windows(2).zip(parts);
    let mut pieces: Vec<_> =
        pieces.map(|(pair, rest)| Piece { first: pair[0], end: pair[1], codes: (), rest }).collect();
    parallel::for_each_mut(&mut pieces, len >= PARALLEL, &|_, piece| {
        dispatch!(isa, simd => decode_piece(simd, codec, geometry, codes, scales, piece));
    });
    Ok(())
}

#[inline(always)]
fn decode_piece<S: Simd, C: Codec>(
    simd: S,
    codec: C,
    geometry: Geometry,
    codes: &[u8],
    scales: &[C::Scale],
    piece: &mut Piece<(), Part<'_>>,
) {
    let mut room = vec![];
    let mut block = piece.first;
    let bytes = |block| geometry.code_start(block, |len| codec.code_bytes(len));
    while block < piece.end {
        let end = strip_end(geometry, block, piece.end);
        let (start, len) = (geometry.start(block), geometry.start(end) - geometry.start(block));
        let codes = &codes[bytes(block)..bytes(end)];
        let scales = &scales[scales_of::<C::Scale>(block, end - block)];
        piece.rest.fill(
            simd,
            start,
            len,
            &mut room,
            #[inline(always)]
            |out| codec.decode(simd, block, geometry.block, codes, scales, out),
        );
        block = end;
    }
}
