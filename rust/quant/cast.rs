//! Casts between stored types, 8-bit floats among them.

use fearless_simd::prelude::*;

use super::{
    float8::{E4m3, E5m2},
    minifloat::{self, Minifloat},
    tile::{load, load_bytes, store, store_bytes},
};
use crate::{
    array::{Bytes, BytesMut, BytesPart, Input, Output, Part},
    dispatch,
    error::Error,
    parallel,
    simd::{Isa, tile_len},
};

/// An 8-bit format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// e4m3fn.
    E4m3,
    /// e5m2.
    E5m2,
}

impl Format {
    /// The format of that name.
    pub fn find(name: &str) -> Result<Self, Error> {
        match name {
            "float8_e4m3fn" => Ok(Self::E4m3),
            "float8_e5m2" => Ok(Self::E5m2),
            _ => Err(Error::UnknownCodec(name.to_owned())),
        }
    }
}

/// What is cast.
#[derive(Debug)]
pub enum Source {
    /// Numbers of a type that the core computes with.
    Floats(Input),
    /// Codes.
    Codes(Bytes, Format),
}

/// What is filled.
#[derive(Debug)]
pub enum Target {
    /// Numbers of a type that the core computes with.
    Floats(Output),
    /// Codes.
    Codes(BytesMut, To),
}

/// What codes become.
#[derive(Clone, Copy, Debug)]
pub struct To {
    /// Their format.
    pub format: Format,
    /// Becomes what is too large the largest number?
    pub saturates: bool,
}

impl Source {
    const fn len(&self) -> usize {
        match self {
            Self::Floats(x) => x.len(),
            Self::Codes(x, _) => x.len(),
        }
    }
}

/// What one thread fills at a time.
enum Piece<'a> {
    Floats(Part<'a>),
    Codes(BytesPart<'a>, To),
}

/// Elements of a piece.
const PIECE: usize = 32 * 1024;

/// Elements that are worked on at a time; they stay in the first-level cache.
const STRIP: usize = 2048;

/// From this many elements on a cast is worth more than one thread.
const PARALLEL: usize = 64 * 1024;

/// Casts each element by way of float32.
pub fn cast(isa: Isa, from: &Source, to: &mut Target) -> Result<(), Error> {
    let len = from.len();
    let ends = (1..=len.div_ceil(PIECE)).map(|k| len.min(k * PIECE));
    let mut pieces: Vec<Piece<'_>> = match to {
        Target::Floats(out) => {
            check(len, out.len())?;
            out.parts(ends).into_iter().map(Piece::Floats).collect()
        }
        Target::Codes(out, to) => {
            check(len, out.len())?;
            out.parts(ends).into_iter().map(|part| Piece::Codes(part, *to)).collect()
        }
    };
    parallel::for_each_mut(&mut pieces, len >= PARALLEL, &|k, piece| {
        dispatch!(isa, simd => cast_piece(simd, from, piece, k * PIECE, len.min((k + 1) * PIECE)));
    });
    Ok(())
}

const fn check(want: usize, got: usize) -> Result<(), Error> {
    if want == got { Ok(()) } else { Err(Error::Length { what: "out", want, got }) }
}

#[inline(always)]
fn cast_piece<S: Simd>(simd: S, from: &Source, piece: &mut Piece<'_>, start: usize, end: usize) {
    let (mut room, mut codes, mut staged) = (vec![], vec![], vec![]);
    for at in (start..end).step_by(STRIP) {
        let len = STRIP.min(end - at);
        match (from, &mut *piece) {
            (Source::Floats(x), Piece::Floats(part)) => part.put(simd, at, x.block::<S, f32>(simd, at, len, &mut room)),
            (Source::Floats(x), Piece::Codes(part, to)) => {
                let x = x.block::<S, f32>(simd, at, len, &mut room);
                part.fill(
                    at,
                    len,
                    &mut staged,
                    #[inline(always)]
                    |out| encode(simd, *to, x, out),
                );
            }
            (Source::Codes(bytes, format), Piece::Floats(part)) => {
                let codes = bytes.block(at, len, &mut codes);
                part.fill(
                    simd,
                    at,
                    len,
                    &mut room,
                    #[inline(always)]
                    |out| decode(simd, *format, codes, out),
                );
            }
            (Source::Codes(bytes, format), Piece::Codes(part, to)) => {
                room.resize(len, 0.0);
                decode(simd, *format, bytes.block(at, len, &mut codes), &mut room);
                part.fill(
                    at,
                    len,
                    &mut staged,
                    #[inline(always)]
                    |out| encode(simd, *to, &room, out),
                );
            }
        }
    }
}

#[inline(always)]
fn encode<S: Simd>(simd: S, to: To, x: &[f32], out: &mut [u8]) {
    match to.format {
        Format::E4m3 => encode_as::<S, E4m3>(simd, x, to.saturates, out),
        Format::E5m2 => encode_as::<S, E5m2>(simd, x, to.saturates, out),
    }
}

#[inline(always)]
fn encode_as<S: Simd, F: Minifloat>(simd: S, x: &[f32], saturates: bool, out: &mut [u8]) {
    let wide = tile_len::<S, f32>();
    for at in (0..x.len()).step_by(wide) {
        store_bytes::<S>(minifloat::encode::<S, F>(simd, load(simd, x, at), saturates), out, at, wide);
    }
}

#[inline(always)]
fn decode<S: Simd>(simd: S, format: Format, codes: &[u8], out: &mut [f32]) {
    match format {
        Format::E4m3 => decode_as::<S, E4m3>(simd, codes, out),
        Format::E5m2 => decode_as::<S, E5m2>(simd, codes, out),
    }
}

#[inline(always)]
fn decode_as<S: Simd, F: Minifloat>(simd: S, codes: &[u8], out: &mut [f32]) {
    for at in (0..out.len()).step_by(tile_len::<S, f32>()) {
        store::<S>(minifloat::decode::<S, F>(simd, load_bytes(simd, codes, at)), out, at);
    }
}
