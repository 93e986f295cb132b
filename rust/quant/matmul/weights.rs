//! Codes as numbers, as many as a tile has.

use fearless_simd::prelude::*;

use crate::{
    quant::{fourbit::FourBit, scaled::Levels, tile::load_bytes},
    simd::Tile,
};

/// Codes that stand for numbers.
pub(super) trait Weights: Copy + Send + Sync {
    /// Bits of a code.
    const BITS: usize;

    /// The numbers of codes from number `at` on; behind the last code they are any that are finite.
    fn numbers<S: Simd>(&self, simd: S, codes: &[u8], at: usize) -> Tile<S, f32>;
}

/// Codes that are whole numbers.
pub(super) trait Integers: Weights {
    /// The codes from number `at` on.
    fn integers<S: Simd>(&self, simd: S, codes: &[u8], at: usize) -> S::i8s;
}

/// Eight bits with a sign.
#[derive(Clone, Copy)]
pub(super) struct Int8;

/// Four bits with a sign, the first code of a byte in its low half.
#[derive(Clone, Copy)]
pub(super) struct Int4;

/// Sixteen levels, the first code of a byte in its high half.
#[derive(Clone, Copy)]
pub(super) struct FourBits<const N: usize>(pub FourBit<N>);

#[inline(always)]
fn to_floats<S: Simd>(codes: S::i8s) -> Tile<S, f32> {
    let (low, high) = codes.widen();
    let ((a, b), (c, d)) = (low.widen(), high.widen());
    [a.to_float(), b.to_float(), c.to_float(), d.to_float()]
}

impl Weights for Int8 {
    const BITS: usize = 8;

    #[inline(always)]
    fn numbers<S: Simd>(&self, simd: S, codes: &[u8], at: usize) -> Tile<S, f32> {
        to_floats::<S>(self.integers(simd, codes, at))
    }
}

impl Integers for Int8 {
    #[inline(always)]
    fn integers<S: Simd>(&self, simd: S, codes: &[u8], at: usize) -> S::i8s {
        load_bytes(simd, codes, at).bitcast()
    }
}

impl Weights for Int4 {
    const BITS: usize = 4;

    #[inline(always)]
    fn numbers<S: Simd>(&self, simd: S, codes: &[u8], at: usize) -> Tile<S, f32> {
        to_floats::<S>(self.integers(simd, codes, at))
    }
}

impl Integers for Int4 {
    #[inline(always)]
    fn integers<S: Simd>(&self, simd: S, codes: &[u8], at: usize) -> S::i8s {
        let mut bytes = load_bytes(simd, codes, at / 2);
        if at % 2 == 1 {
            bytes = (bytes >> 4) | (load_bytes(simd, codes, at / 2 + 1) << 4);
        }
        let (pairs, _) = bytes.widen();
        let codes: S::u8s = ((pairs & 0x0f) | ((pairs & 0xf0) << 4)).bitcast();
        (codes ^ 8).bitcast::<S::i8s>() - 8
    }
}

impl<const N: usize> Weights for FourBits<N> {
    const BITS: usize = 4;

    #[inline(always)]
    fn numbers<S: Simd>(&self, simd: S, codes: &[u8], at: usize) -> Tile<S, f32> {
        let mut bytes = load_bytes(simd, codes, at / 2);
        if at % 2 == 1 {
            bytes = (bytes << 4) | (load_bytes(simd, codes, at / 2 + 1) >> 4);
        }
        let (pairs, _) = bytes.widen();
        self.0.levels(simd, ((pairs >> 4) | ((pairs & 0x0f) << 8)).bitcast())
    }
}
