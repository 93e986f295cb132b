//! Microscaling: short blocks of small floats, each block under a scale of one byte.

use fearless_simd::prelude::*;

use super::{
    codec::Codec,
    float8::E4m3,
    minifloat::{self, Minifloat, encode_finite},
    scaled::{LIFT, LOW},
    tile::{load, load_bytes, store, store_bytes},
};
use crate::simd::{TILE_VECTORS, Tile, tile_len};

/// Two bits of exponent, one of mantissa: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives.
#[derive(Clone, Copy, Debug)]
pub struct E2m1;

impl Minifloat for E2m1 {
    const MANTISSA: u32 = 1;
    const BIAS: u32 = 1;
    const SIGN: u32 = 3;
    const LARGEST: f32 = 6.0;
    const OVERFLOW: f32 = 6.0;
    const NAN: f32 = 6.0;
    const SPECIAL: u32 = 8;
}

/// The scale of a block as a byte.
pub trait BlockScale: Copy + Send + Sync {
    /// Becomes infinity the largest number?
    const SATURATES: bool;

    /// The byte for a block's largest magnitude.
    fn byte(&self, absmax: f32) -> u8;

    /// What the byte stands for.
    fn value(&self, byte: u8) -> f32;

    /// Two factors that numbers are multiplied by, one after the other, to divide them by the scale.
    fn factors(&self, byte: u8) -> [f32; 2];
}

/// 2^(floor(log2 absmax) - `MOST`), `MOST` being the exponent of the largest element, in the format e8m0.
#[derive(Clone, Copy, Debug)]
pub struct PowerOfTwo<const MOST: u8>;

/// The byte of NaN.
const NAN: u8 = 0xff;

impl<const MOST: u8> BlockScale for PowerOfTwo<MOST> {
    const SATURATES: bool = false;

    #[inline(always)]
    fn byte(&self, absmax: f32) -> u8 {
        let exponent = (absmax.to_bits() >> 23) as u8;
        if exponent == NAN { NAN } else { exponent.saturating_sub(MOST) }
    }

    #[inline(always)]
    fn value(&self, byte: u8) -> f32 {
        match byte {
            0 => f32::from_bits(1 << 22),
            NAN => f32::NAN,
            _ => f32::from_bits(u32::from(byte) << 23),
        }
    }

    #[inline(always)]
    fn factors(&self, byte: u8) -> [f32; 2] {
        [1.0, f32::from_bits((254 - u32::from(byte.min(253))) << 23)]
    }
}

/// An e4m3 number of sixths of the block's largest magnitude, under a scale of the whole tensor.
#[derive(Clone, Copy, Debug)]
pub struct UnderTensor {
    /// The tensor's scale, 0 if there are but zeros.
    pub tensor: f32,
}

impl BlockScale for UnderTensor {
    const SATURATES: bool = true;

    #[inline(always)]
    fn byte(&self, absmax: f32) -> u8 {
        let wanted = absmax / self.tensor / E2m1::LARGEST;
        if self.tensor > 0.0 { minifloat::code_of::<E4m3>(wanted.min(E4m3::LARGEST)) } else { 0 }
    }

    #[inline(always)]
    fn value(&self, byte: u8) -> f32 {
        minifloat::value_of::<E4m3>(byte) * self.tensor
    }

    #[inline(always)]
    fn factors(&self, byte: u8) -> [f32; 2] {
        match self.value(byte) {
            0.0 => [1.0, 0.0],
            value if value < LOW => [LIFT, 1.0 / (value * LIFT)],
            value => [1.0, 1.0 / value],
        }
    }
}

/// Blocks of numbers of format `F`.
#[derive(Clone, Copy, Debug)]
pub struct Micro<F, B> {
    /// The elements' format; codes of four bits come in pairs, the first in the low half of a byte.
    pub format: F,
    /// The blocks' scales.
    pub scale: B,
}

/// Blocks that one call works on at most.
const BLOCKS: usize = 256;

/// Factors and scales of a call's blocks, and of what a tile reads behind them.
const ROOM: usize = BLOCKS + 4;

/// Multiplies each vector of the tile at element `at` by the factors of its block of 2^`log` elements.
#[inline(always)]
fn times<S: Simd>(mut tile: Tile<S, f32>, at: usize, log: u32, factors: &[[f32; 2]; ROOM]) -> Tile<S, f32> {
    for k in 0..TILE_VECTORS {
        let [lift, factor] = factors[(at + k * S::f32s::LEN) >> log];
        tile[k] = tile[k] * lift * factor;
    }
    tile
}

/// The largest magnitude of a block.
#[inline(always)]
fn absmax<S: Simd>(simd: S, x: &[f32]) -> f32 {
    let (mut largest, mut at) = (S::u32s::splat(simd, 0), 0);
    while at + S::f32s::LEN <= x.len() {
        let bits: S::u32s = S::f32s::from_slice(simd, &x[at..at + S::f32s::LEN]).bitcast();
        largest = largest.max(bits & 0x7fff_ffff);
        at += S::f32s::LEN;
    }
    let mut largest = largest.reduce_max();
    for value in &x[at..] {
        largest = largest.max(value.abs().to_bits());
    }
    f32::from_bits(largest)
}

/// Pairs of codes as bytes, the first code in the low half; they fill the front half of the vector.
#[inline(always)]
fn pack<S: Simd>(codes: S::u8s) -> S::u8s {
    let pairs: S::u16s = codes.bitcast();
    let joined = pairs | (pairs >> 4);
    joined.narrow(joined)
}

/// The reverse: the codes of each half of the vector.
#[inline(always)]
fn unpack<S: Simd>(bytes: S::u8s) -> [S::u8s; 2] {
    let (low, high) = bytes.widen();
    [split::<S>(low), split::<S>(high)]
}

#[inline(always)]
fn split<S: Simd>(pairs: S::u16s) -> S::u8s {
    ((pairs & 0x0f) | ((pairs << 4) & 0x0f00)).bitcast()
}

impl<F: Minifloat, B: BlockScale> Micro<F, B> {
    const IS_PACKED: bool = F::SIGN == 3;
}

impl<F: Minifloat, B: BlockScale> Codec for Micro<F, B> {
    type Scale = u8;

    const SATURATES: bool = B::SATURATES;

    fn code_bytes(&self, len: usize) -> usize {
        if Self::IS_PACKED { len.div_ceil(2) } else { len }
    }

    #[inline(always)]
    fn encode<S: Simd>(&self, simd: S, _: usize, block: usize, x: &[f32], codes: &mut [u8], scales: &mut [u8]) {
        let mut factors = [[1.0, 0.0]; ROOM];
        for (k, x) in x.chunks(block).enumerate() {
            scales[k] = self.scale.byte(absmax(simd, x));
            factors[k] = self.scale.factors(scales[k]);
        }
        let wide = tile_len::<S, f32>();
        for at in (0..x.len()).step_by(wide) {
            let found = encode_finite::<S, F>(simd, times::<S>(load(simd, x, at), at, block.ilog2(), &factors));
            if Self::IS_PACKED {
                store_bytes::<S>(pack::<S>(found), codes, at / 2, wide / 2);
            } else {
                store_bytes::<S>(found, codes, at, wide);
            }
        }
        if !B::SATURATES {
            self.clear(block, codes, scales);
        }
    }

    #[inline(always)]
    fn decode<S: Simd>(&self, simd: S, _: usize, block: usize, codes: &[u8], scales: &[u8], out: &mut [f32]) {
        let mut factors = [[1.0, 0.0]; ROOM];
        for k in 0..scales.len() {
            factors[k][1] = self.scale.value(scales[k]);
        }
        let wide = tile_len::<S, f32>();
        let step = if Self::IS_PACKED { 2 * wide } else { wide };
        for at in (0..out.len()).step_by(step) {
            if Self::IS_PACKED {
                let [first, second] = unpack::<S>(load_bytes(simd, codes, at / 2));
                store::<S>(times::<S>(minifloat::decode::<S, F>(simd, first), at, block.ilog2(), &factors), out, at);
                if at + wide < out.len() {
                    let tile = minifloat::decode::<S, F>(simd, second);
                    store::<S>(times::<S>(tile, at + wide, block.ilog2(), &factors), out, at + wide);
                }
            } else {
                let tile = minifloat::decode::<S, F>(simd, load_bytes(simd, codes, at));
                store::<S>(times::<S>(tile, at, block.ilog2(), &factors), out, at);
            }
        }
    }
}

impl<F: Minifloat, B: BlockScale> Micro<F, B> {
    /// Codes of blocks whose scale is NaN mean nothing: they are zero.
    fn clear(&self, block: usize, codes: &mut [u8], scales: &[u8]) {
        let bytes = self.code_bytes(block);
        for (k, codes) in codes.chunks_mut(bytes).enumerate() {
            if scales[k] == NAN {
                codes.fill(0);
            }
        }
    }
}
