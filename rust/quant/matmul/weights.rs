//! Codes as numbers, as many as a tile has.

use fearless_simd::prelude::*;

use super::wide::{Table, looked_up, signed};
use crate::{
    quant::{
        fourbit::FourBit,
        scaled::Levels,
        tile::{from_planes, load_bytes, sixteen_bytes},
    },
    simd::Tile,
};

/// Codes that stand for numbers.
pub(super) trait Weights: Copy + Send + Sync {
    /// Bits of a code.
    const BITS: usize;

    /// The numbers of `V` vectors of codes from number `at` on, which begins a byte.
    fn numbers<S: Simd, const V: usize>(&self, simd: S, codes: &[u8], at: usize) -> Tile<S, f32>;

    /// The numbers of codes from number `at` on; behind the last code they are any that are finite.
    fn numbers_anywhere<S: Simd>(&self, simd: S, codes: &[u8], at: usize) -> Tile<S, f32>;
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
pub(super) struct FourBits<const N: usize> {
    levels: FourBit<N>,
    table: Table,
}

#[inline(always)]
fn to_floats<S: Simd>(codes: S::i8s) -> Tile<S, f32> {
    let (low, high) = codes.widen();
    let ((a, b), (c, d)) = (low.widen(), high.widen());
    [a.to_float(), b.to_float(), c.to_float(), d.to_float()]
}

impl Weights for Int8 {
    const BITS: usize = 8;

    #[inline(always)]
    fn numbers<S: Simd, const V: usize>(&self, simd: S, codes: &[u8], at: usize) -> Tile<S, f32> {
        match signed::<S, V>(simd, &codes[at..]) {
            Some(numbers) => numbers,
            // All of them are there, which spares the question.
            None => to_floats::<S>(load_bytes(simd, &codes[at..at + S::u8s::LEN], 0).bitcast()),
        }
    }

    #[inline(always)]
    fn numbers_anywhere<S: Simd>(&self, simd: S, codes: &[u8], at: usize) -> Tile<S, f32> {
        to_floats::<S>(self.integers(simd, codes, at))
    }
}

impl Integers for Int8 {
    #[inline(always)]
    fn integers<S: Simd>(&self, simd: S, codes: &[u8], at: usize) -> S::i8s {
        load_bytes(simd, codes, at).bitcast()
    }
}

/// The number of each code of [`Int4`].
const NUMBERS: [f32; 16] = {
    let (mut numbers, mut code) = ([0.0; 16], 0);
    while code < 16 {
        numbers[code] = if code < 8 { code as f32 } else { code as f32 - 16.0 };
        code += 1;
    }
    numbers
};

/// Byte `at` of each of them; the lower two are 0.
const fn plane(at: usize) -> [u8; 16] {
    let (mut plane, mut code) = ([0; 16], 0);
    while code < 16 {
        plane[code] = NUMBERS[code].to_le_bytes()[at];
        code += 1;
    }
    plane
}

static INT4: Table = Table::new(NUMBERS, false);

impl Weights for Int4 {
    const BITS: usize = 4;

    #[inline(always)]
    fn numbers<S: Simd, const V: usize>(&self, simd: S, codes: &[u8], at: usize) -> Tile<S, f32> {
        match looked_up::<S, V>(simd, &INT4, &codes[at / 2..]) {
            Some(numbers) => numbers,
            None => self.numbers_anywhere(simd, codes, at),
        }
    }

    #[inline(always)]
    fn numbers_anywhere<S: Simd>(&self, simd: S, codes: &[u8], at: usize) -> Tile<S, f32> {
        if S::u8s::LEN < LOOKED_UP {
            return to_floats::<S>(self.integers(simd, codes, at));
        }
        const { assert!(plane(0)[15] == 0 && plane(1)[15] == 0) };
        let (codes, zero) = (nibbles(simd, codes, at), S::u8s::splat(simd, 0));
        let [low, high] = const { [plane(2), plane(3)] };
        let [low, high] = [sixteen_bytes::<S>(simd, &low), sixteen_bytes::<S>(simd, &high)];
        let high = high.swizzle_dyn_within_blocks(codes);
        from_planes::<S>([zero, zero, low.swizzle_dyn_within_blocks(codes), high])
    }
}

/// Where vectors have so many bytes, sixteen of them are looked up at once, which is faster than to widen them.
const LOOKED_UP: usize = 32;

/// Codes of four bits, one a byte.
#[inline(always)]
fn nibbles<S: Simd>(simd: S, codes: &[u8], at: usize) -> S::u8s {
    let mut bytes = load_bytes(simd, codes, at / 2);
    if at % 2 == 1 {
        bytes = (bytes >> 4) | (load_bytes(simd, codes, at / 2 + 1) << 4);
    }
    let (pairs, _) = bytes.widen();
    ((pairs & 0x0f) | ((pairs & 0xf0) << 4)).bitcast()
}

impl Integers for Int4 {
    #[inline(always)]
    fn integers<S: Simd>(&self, simd: S, codes: &[u8], at: usize) -> S::i8s {
        (nibbles(simd, codes, at) ^ 8).bitcast::<S::i8s>() - 8
    }
}

impl<const N: usize> FourBits<N> {
    pub(super) const fn new(levels: FourBit<N>) -> Self {
        Self { levels, table: Table::new(levels.table(), true) }
    }
}

impl<const N: usize> Weights for FourBits<N> {
    const BITS: usize = 4;

    #[inline(always)]
    fn numbers<S: Simd, const V: usize>(&self, simd: S, codes: &[u8], at: usize) -> Tile<S, f32> {
        match looked_up::<S, V>(simd, &self.table, &codes[at / 2..]) {
            Some(numbers) => numbers,
            None => self.numbers_anywhere(simd, codes, at),
        }
    }

    #[inline(always)]
    fn numbers_anywhere<S: Simd>(&self, simd: S, codes: &[u8], at: usize) -> Tile<S, f32> {
        let mut bytes = load_bytes(simd, codes, at / 2);
        if at % 2 == 1 {
            bytes = (bytes << 4) | (load_bytes(simd, codes, at / 2 + 1) >> 4);
        }
        let (pairs, _) = bytes.widen();
        self.levels.levels(simd, ((pairs >> 4) | ((pairs & 0x0f) << 8)).bitcast())
    }
}
