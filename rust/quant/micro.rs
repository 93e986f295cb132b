//! Microscaling: short blocks of small floats, each block under a scale of one byte.

use fearless_simd::prelude::*;

use super::{
    codec::Codec,
    float8::E4m3,
    minifloat::{self, Minifloat, encode_finite},
    scaled::{LIFT, LOW},
    tile::{WIDEST, absmax, largest_of_blocks, load, load_bytes, store, store_bytes, to_bytes, to_words},
};
use crate::{
    dtype::{load_native, store_native},
    simd::{TILE_VECTORS, Tile, tile_len},
};

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

/// The scale of a block as a byte; many blocks at once.
pub trait BlockScale: Copy + Send + Sync {
    /// Becomes infinity the largest number?
    const SATURATES: bool;

    /// The bytes for blocks' largest magnitudes.
    fn bytes<S: Simd>(&self, simd: S, absmax: Tile<S, f32>) -> S::u8s;

    /// What the bytes stand for.
    fn values<S: Simd>(&self, simd: S, bytes: S::u8s) -> Tile<S, f32>;

    /// Two factors a block that numbers are multiplied by, one after the other, to divide them by the scale.
    fn factors<S: Simd>(&self, simd: S, bytes: S::u8s) -> [Tile<S, f32>; 2];
}

/// 2^(floor(log2 absmax) - `MOST`), `MOST` being the exponent of the largest element, in the format e8m0.
#[derive(Clone, Copy, Debug)]
pub struct PowerOfTwo<const MOST: u32>;

/// The byte of NaN.
const NAN: u8 = 0xff;

impl<const MOST: u32> BlockScale for PowerOfTwo<MOST> {
    const SATURATES: bool = false;

    #[inline(always)]
    fn bytes<S: Simd>(&self, simd: S, absmax: Tile<S, f32>) -> S::u8s {
        let mut bytes = [S::u32s::splat(simd, 0); TILE_VECTORS];
        for k in 0..TILE_VECTORS {
            let exponent: S::u32s = absmax[k].bitcast::<S::u32s>() >> 23;
            bytes[k] = exponent.simd_eq(u32::from(NAN)).select(exponent, exponent.max(MOST) - MOST);
        }
        to_bytes::<S>(bytes)
    }

    /// The byte 0 is 2^-127, a subnormal number.
    #[inline(always)]
    fn values<S: Simd>(&self, simd: S, bytes: S::u8s) -> Tile<S, f32> {
        let words = to_words::<S>(bytes);
        let mut values = [S::f32s::splat(simd, 0.0); TILE_VECTORS];
        let (least, nan) = (S::u32s::splat(simd, 1 << 22), S::u32s::splat(simd, f32::NAN.to_bits()));
        for k in 0..TILE_VECTORS {
            let number = words[k].simd_eq(0).select(least, words[k] << 23);
            values[k] = words[k].simd_eq(u32::from(NAN)).select(nan, number).bitcast();
        }
        values
    }

    #[inline(always)]
    fn factors<S: Simd>(&self, simd: S, bytes: S::u8s) -> [Tile<S, f32>; 2] {
        let words = to_words::<S>(bytes);
        let mut factors = [[S::f32s::splat(simd, 1.0); TILE_VECTORS]; 2];
        for k in 0..TILE_VECTORS {
            let exponent: S::u32s = S::u32s::splat(simd, 254) - words[k].min(253);
            factors[1][k] = (exponent << 23).bitcast();
        }
        factors
    }
}

/// A sixth of the block's largest magnitude as an e4m3 number, under a scale of the whole tensor.
#[derive(Clone, Copy, Debug)]
pub struct UnderTensor {
    /// The tensor's scale, 0 if there are but zeros.
    pub tensor: f32,
}

impl BlockScale for UnderTensor {
    const SATURATES: bool = true;

    #[inline(always)]
    fn bytes<S: Simd>(&self, simd: S, mut absmax: Tile<S, f32>) -> S::u8s {
        let divisor = if self.tensor > 0.0 { self.tensor } else { 1.0 };
        for k in 0..TILE_VECTORS {
            absmax[k] = absmax[k] / divisor / E2m1::LARGEST;
        }
        encode_finite::<S, E4m3>(simd, absmax)
    }

    #[inline(always)]
    fn values<S: Simd>(&self, simd: S, bytes: S::u8s) -> Tile<S, f32> {
        let mut values = minifloat::decode::<S, E4m3>(simd, bytes);
        for k in 0..TILE_VECTORS {
            values[k] *= self.tensor;
        }
        values
    }

    /// The inverse of a tiny scale may be no number, so that numbers are lifted first; a scale of zero makes them zero.
    #[inline(always)]
    fn factors<S: Simd>(&self, simd: S, bytes: S::u8s) -> [Tile<S, f32>; 2] {
        let values = self.values(simd, bytes);
        let (zero, one) = (S::f32s::splat(simd, 0.0), S::f32s::splat(simd, 1.0));
        let mut factors = [[one; TILE_VECTORS]; 2];
        for k in 0..TILE_VECTORS {
            let lift = values[k].simd_lt(LOW).select(S::f32s::splat(simd, LIFT), one);
            factors[0][k] = lift;
            factors[1][k] = values[k].simd_gt(0.0).select(one / (values[k] * lift), zero);
        }
        factors
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

/// Numbers of a call's blocks, and of what tiles read and write behind them.
type Room = [f32; BLOCKS + WIDEST];

/// Multiplies each vector of the tile at element `at` by the number of its block of 2^`log` elements.
#[inline(always)]
fn times<S: Simd>(mut tile: Tile<S, f32>, at: usize, log: u32, factors: &Room) -> Tile<S, f32> {
    for k in 0..TILE_VECTORS {
        tile[k] *= factors[(at + k * S::f32s::LEN) >> log];
    }
    tile
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
        let (wide, log) = (tile_len::<S, f32>(), block.ilog2());
        let (mut most, mut lifts, mut factors) =
            ([0.0; BLOCKS + WIDEST], [0.0; BLOCKS + WIDEST], [0.0; BLOCKS + WIDEST]);
        let whole = x.len() / block;
        largest_of_blocks(simd, block, &x[..whole * block], &mut most[..whole]);
        if whole < scales.len() {
            most[whole] = absmax(simd, &x[whole * block..]);
        }
        for at in (0..scales.len()).step_by(wide) {
            let bytes = self.scale.bytes(simd, load_native(simd, &most, at));
            let [lift, factor] = self.scale.factors(simd, bytes);
            store_native::<S, f32>(lift, &mut lifts, at);
            store_native::<S, f32>(factor, &mut factors, at);
            store_bytes::<S>(bytes, scales, at, wide);
        }
        for at in (0..x.len()).step_by(wide) {
            let lifted = times::<S>(load(simd, x, at), at, log, &lifts);
            let found = encode_finite::<S, F>(simd, times::<S>(lifted, at, log, &factors));
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
        let (wide, log, mut values) = (tile_len::<S, f32>(), block.ilog2(), [0.0; BLOCKS + WIDEST]);
        for at in (0..scales.len()).step_by(wide) {
            store_native::<S, f32>(self.scale.values(simd, load_bytes(simd, scales, at)), &mut values, at);
        }
        let step = if Self::IS_PACKED { 2 * wide } else { wide };
        for at in (0..out.len()).step_by(step) {
            if Self::IS_PACKED {
                let [first, second] = unpack::<S>(load_bytes(simd, codes, at / 2));
                store::<S>(times::<S>(minifloat::decode::<S, F>(simd, first), at, log, &values), out, at);
                if at + wide < out.len() {
                    let tile = minifloat::decode::<S, F>(simd, second);
                    store::<S>(times::<S>(tile, at + wide, log, &values), out, at + wide);
                }
            } else {
                let tile = minifloat::decode::<S, F>(simd, load_bytes(simd, codes, at));
                store::<S>(times::<S>(tile, at, log, &values), out, at);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{dispatch, simd::Isa};

    /// Codes, scales, and what they decode to.
    fn there_and_back<C: Codec<Scale = u8>>(codec: C, block: usize, x: &[f32]) -> Vec<(Vec<u8>, Vec<u8>, Vec<f32>)> {
        let mut found = vec![];
        for isa in Isa::available() {
            let (mut codes, mut scales) = (vec![0xaa; codec.code_bytes(x.len())], vec![0xaa; x.len().div_ceil(block)]);
            let mut back = vec![7.0; x.len()];
            dispatch!(isa, simd => codec.encode(simd, 0, block, x, &mut codes, &mut scales));
            dispatch!(isa, simd => codec.decode(simd, 0, block, &codes, &scales, &mut back));
            found.push((codes, scales, back));
        }
        assert!(found.iter().all(|one| format!("{one:?}") == format!("{:?}", found[0])));
        found
    }

    /// Absmax 5 is 2^2 · 1.25: the scale is 2^(2 - 2) = 1, so that 5 lies between 4 and 6 and becomes the even 4.
    #[test]
    fn a_short_block_of_mxfp4_by_hand() {
        let codec = Micro { format: E2m1, scale: PowerOfTwo::<2> };
        let (codes, scales, back) = there_and_back(codec, 32, &[5.0, -0.6, 0.1]).remove(0);
        assert_eq!((codes, scales, back), (vec![0x96, 0x00], vec![127], vec![4.0, -0.5, 0.0]));
    }

    /// 34 elements are a block of 32 and one of 2; the second one has an infinity.
    #[test]
    fn a_block_with_infinity_is_nan_alone() {
        let codec = Micro { format: E4m3, scale: PowerOfTwo::<8> };
        let mut x = [256.0; 34];
        x[33] = f32::NEG_INFINITY;
        let (codes, scales, back) = there_and_back(codec, 32, &x).remove(0);
        assert_eq!((&codes[31..], scales), (&[0x78, 0, 0][..], vec![127, NAN]));
        assert!(back[..32] == [256.0; 32] && back[32..].iter().all(|value| value.is_nan()));
    }

    /// Under a tensor's scale of 2 a block of absmax 24 has the scale 24 / 2 / 6 = 2, and numbers are quarters.
    #[test]
    fn blocks_of_nvfp4_by_hand() {
        let codec = Micro { format: E2m1, scale: UnderTensor { tensor: 2.0 } };
        let mut x = [0.0; 19];
        (x[0], x[1], x[17]) = (-24.0, 2.9, 0.0);
        let (codes, scales, back) = there_and_back(codec, 16, &x).remove(0);
        assert_eq!((codes[0], &codes[1..], scales), (0x1f, &[0; 9][..], vec![0x40, 0]));
        assert_eq!((back[0], back[1], &back[2..]), (-24.0, 2.0, &[0.0; 17][..]));
    }
}
