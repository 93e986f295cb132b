//! State kept as codes of eight bits: a block of 256 elements in C order shares a scale.
//!
//! A strip's codes become float32 in the first-level cache, the rule steps those, and when all elements of a block are new its
//! scale is known and they become codes again.

use fearless_simd::prelude::*;

use super::{chunk::ChunkArrays, fold::STRIP, plan::CHUNK, row::MAX_STATE};
use crate::{
    dtype::ValuesMut,
    error::Error,
    layout::Layout,
    quant::{
        dynamic8::Dynamic8,
        float8::{E4m3, Float8, Ue5m3},
        scaled::{Levels, decode_blocks, encode_block_randomly, encode_blocks},
    },
    random::Philox,
};

/// Elements that share a scale.
pub const STATE_BLOCK: usize = 256;

/// Philox streams of one state array's rounding to those of the next one's: sixteen purposes.
const SLOT_STREAMS: u32 = 16 << 24;

const _: () = assert!(STRIP.is_multiple_of(STATE_BLOCK) && CHUNK.is_multiple_of(STRIP));

/// How a state array is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateCodec {
    /// Dynamic 8-bit codes.
    Dynamic8,
    /// The same without signs. What is above zero stays so: a second moment of 0 would make a step of any size.
    UnsignedDynamic8,
    /// Floats of four bits of exponent.
    E4m3,
    /// Floats of five bits of exponent without signs. What is above zero stays so.
    Ue5m3,
}

impl StateCodec {
    /// The codec of that name.
    pub fn find(name: &str) -> Result<Self, Error> {
        match name {
            "dynamic8_signed" => Ok(Self::Dynamic8),
            "dynamic8_unsigned" => Ok(Self::UnsignedDynamic8),
            "scaled_e4m3fn" => Ok(Self::E4m3),
            "scaled_ue5m3" => Ok(Self::Ue5m3),
            _ => Err(Error::UnknownCodec(name.to_owned())),
        }
    }

    fn decode<S: Simd>(self, simd: S, codes: &[u8], scales: &[f32], out: &mut [f32]) {
        match self {
            Self::Dynamic8 => decode(simd, &Dynamic8::<true, false>, codes, scales, out),
            Self::UnsignedDynamic8 => decode(simd, &Dynamic8::<false, true>, codes, scales, out),
            Self::E4m3 => decode(simd, &Float8(E4m3), codes, scales, out),
            Self::Ue5m3 => decode(simd, &Ue5m3::<true>, codes, scales, out),
        }
    }

    /// With random words each number becomes one of the two levels around it, without bias.
    fn encode<S: Simd>(self, simd: S, x: &[f32], codes: &mut [u8], scales: &mut [f32], words: Option<&[u32]>) {
        match self {
            Self::Dynamic8 => encode(simd, &Dynamic8::<true, false>, x, codes, scales, words),
            Self::UnsignedDynamic8 => encode(simd, &Dynamic8::<false, true>, x, codes, scales, words),
            Self::E4m3 => encode(simd, &Float8(E4m3), x, codes, scales, words),
            Self::Ue5m3 => encode(simd, &Ue5m3::<true>, x, codes, scales, words),
        }
    }
}

/// The random words of a strip from element `first` on. A call, so that a strip without them has no room to clear.
#[inline(never)]
fn words<S: Simd>(simd: S, philox: Philox, first: usize) -> [u32; STRIP] {
    let mut words = [0; STRIP];
    simd.vectorize(
        #[inline(always)]
        || philox.words(first as u64, &mut words),
    );
    words
}

#[inline(never)]
fn decode<S: Simd, L: Levels>(simd: S, levels: &L, codes: &[u8], scales: &[f32], out: &mut [f32]) {
    simd.vectorize(
        #[inline(always)]
        || decode_blocks(simd, levels, STATE_BLOCK, codes, scales, out),
    );
}

#[inline(never)]
fn encode<S: Simd, L: Levels>(
    simd: S,
    levels: &L,
    x: &[f32],
    codes: &mut [u8],
    scales: &mut [f32],
    words: Option<&[u32]>,
) {
    simd.vectorize(
        #[inline(always)]
        || {
            let Some(words) = words else { return encode_blocks(simd, levels, STATE_BLOCK, x, codes, scales) };
            for (k, x) in x.chunks(STATE_BLOCK).enumerate() {
                let (start, end) = (k * STATE_BLOCK, k * STATE_BLOCK + x.len());
                scales[k] = encode_block_randomly(simd, levels, x, &mut codes[start..end], &words[start..end]);
            }
        },
    );
}

/// A state array of the caller: codes and scales, each in C order without gaps.
#[derive(Clone, Debug)]
pub struct Coded {
    /// How.
    pub codec: StateCodec,
    /// A byte an element.
    pub codes: Layout,
    /// A float32 a block.
    pub scales: Layout,
}

/// The coded state of a strip as float32, for each state array of the rule that has codes.
#[derive(Debug)]
pub(super) struct Decoded {
    numbers: [[f32; STRIP]; MAX_STATE],
}

impl Default for Decoded {
    fn default() -> Self {
        Self { numbers: [[0.0; STRIP]; MAX_STATE] }
    }
}

impl Decoded {
    /// Decodes the strip's elements when it begins one.
    #[inline(always)]
    pub(super) fn fill<S: Simd>(&mut self, simd: S, chunk: &mut ChunkArrays<'_>, at: usize) {
        if !at.is_multiple_of(STRIP) {
            return;
        }
        let len = STRIP.min(chunk.len() - at);
        for (k, numbers) in self.numbers.iter_mut().enumerate() {
            if let Some((codec, codes, scales)) = chunk.coded(k, at, len) {
                codec.decode(simd, codes, scales, &mut numbers[..len]);
                numbers[len..].fill(0.0);
            }
        }
    }

    /// Encodes the strip that ends at `end`, if one does; at random with a stream, that of the state arrays' purposes.
    #[inline(always)]
    pub(super) fn leave<S: Simd>(&self, simd: S, chunk: &mut ChunkArrays<'_>, end: usize, philox: Option<Philox>) {
        if !end.is_multiple_of(STRIP) && end < chunk.len() {
            return;
        }
        let at = (end - 1) / STRIP * STRIP;
        let first = chunk.chunk().start + at;
        for (k, numbers) in self.numbers.iter().enumerate() {
            let Some((codec, codes, scales)) = chunk.coded(k, at, end - at) else { continue };
            let words = philox.map(|philox| {
                let philox = Philox { stream: philox.stream + k as u32 * SLOT_STREAMS, ..philox };
                words(simd, philox, first)
            });
            codec.encode(simd, &numbers[..end - at], codes, scales, words.as_ref().map(<[u32; STRIP]>::as_slice));
        }
    }

    /// Numbers stand in for the state arrays that have codes.
    #[inline(always)]
    pub(super) fn stand_in<'a, const N: usize>(
        &'a mut self,
        is_coded: [bool; MAX_STATE],
        at: usize,
        state: &mut [ValuesMut<'a>; N],
    ) {
        for ((values, numbers), is_coded) in state.iter_mut().zip(&mut self.numbers).zip(is_coded) {
            if is_coded {
                *values = ValuesMut::F32(&mut numbers[at % STRIP..]);
            }
        }
    }
}
