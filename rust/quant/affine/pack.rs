//! Codes of 2 and 4 bits in bytes, the first in the lowest bits.

use fearless_simd::prelude::*;

use crate::quant::tile::{load_bytes, store_bytes};

/// Neighbours of at most 4 bits in one byte each.
#[inline(always)]
fn nibbles<S: Simd>(first: S::u8s, second: S::u8s) -> S::u8s {
    let [a, b]: [S::u16s; 2] = [first.bitcast(), second.bitcast()];
    ((a & 0x0f) | ((a >> 4) & 0xf0)).narrow((b & 0x0f) | ((b >> 4) & 0xf0))
}

/// Neighbours of at most 2 bits in 4 bits of a byte each.
#[inline(always)]
fn pairs<S: Simd>(first: S::u8s, second: S::u8s) -> S::u8s {
    let [a, b]: [S::u16s; 2] = [first.bitcast(), second.bitcast()];
    ((a & 0x03) | ((a >> 6) & 0x0c)).narrow((b & 0x03) | ((b >> 6) & 0x0c))
}

/// The reverse of [`nibbles`].
#[inline(always)]
fn from_nibbles<S: Simd>(bytes: S::u8s) -> [S::u8s; 2] {
    let (a, b) = bytes.widen();
    [((a & 0x0f) | ((a & 0xf0) << 4)).bitcast(), ((b & 0x0f) | ((b & 0xf0) << 4)).bitcast()]
}

/// The reverse of [`pairs`].
#[inline(always)]
fn from_pairs<S: Simd>(bytes: S::u8s) -> [S::u8s; 2] {
    let (a, b) = bytes.widen();
    [((a & 0x03) | ((a & 0x0c) << 6)).bitcast(), ((b & 0x03) | ((b & 0x0c) << 6)).bitcast()]
}

/// Codes, one a byte, to `of_byte` (2 or 4) a byte; bits behind the last code are 0.
#[inline(always)]
pub(super) fn pack<S: Simd>(simd: S, of_byte: usize, codes: &[u8], packed: &mut [u8]) {
    let (wide, mut at) = (S::u8s::LEN, 0);
    while at < packed.len() {
        let mut four = [S::u8s::splat(simd, 0); 4];
        for k in 0..of_byte {
            four[k] = load_bytes(simd, codes, codes.len().min(at * of_byte + k * wide));
        }
        if of_byte == 4 {
            four = [pairs::<S>(four[0], four[1]), pairs::<S>(four[2], four[3]), four[2], four[3]];
        }
        store_bytes::<S>(nibbles::<S>(four[0], four[1]), packed, at, wide);
        at += wide;
    }
}

/// The reverse.
#[inline(always)]
pub(super) fn unpack<S: Simd>(simd: S, of_byte: usize, packed: &[u8], codes: &mut [u8]) {
    let (wide, mut at) = (S::u8s::LEN, 0);
    while at < packed.len() {
        let [a, b] = from_nibbles::<S>(load_bytes(simd, packed, at));
        let mut four = [a, b, a, b];
        if of_byte == 4 {
            let [first, second] = [from_pairs::<S>(a), from_pairs::<S>(b)];
            four = [first[0], first[1], second[0], second[1]];
        }
        for k in 0..of_byte {
            let place = at * of_byte + k * wide;
            if place < codes.len() {
                store_bytes::<S>(four[k], codes, place, wide);
            }
        }
        at += wide;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{dispatch, simd::Isa};

    #[test]
    fn low_bits_first_and_back() {
        for isa in Isa::available() {
            let mut packed = [0xff; 3];
            dispatch!(isa, simd => pack(simd, 2, &[1, 2, 3, 0xfc, 5], &mut packed));
            assert_eq!(packed, [0x21, 0xc3, 0x05]);
            dispatch!(isa, simd => pack(simd, 4, &[1, 2, 3, 0xfc, 2], &mut packed[..2]));
            assert_eq!(packed[..2], [0b0011_1001, 0b10]);
            for (of_byte, mask) in [(2, 15), (4, 3)] {
                for len in [1, 2, 63, 64, 65, 255, 256, 300] {
                    let codes: Vec<u8> = (0..len).map(|i| (i * 7 + i / 5) as u8).collect();
                    let (mut packed, mut back) = (vec![0; codes.len().div_ceil(of_byte)], vec![0; codes.len()]);
                    dispatch!(isa, simd => pack(simd, of_byte, &codes, &mut packed));
                    dispatch!(isa, simd => unpack(simd, of_byte, &packed, &mut back));
                    assert!(codes.iter().zip(&back).all(|(a, b)| a & mask == *b), "{of_byte} {len}");
                }
            }
        }
    }
}
