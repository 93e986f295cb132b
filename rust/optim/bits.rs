//! Masks of parameters: one bit an element, in C order.

use std::sync::Arc;

use fearless_simd::prelude::*;

use crate::simd::{TILE_VECTORS, Tile};

/// Bytes behind the last one of a mask, so that 64 bits can be read from any element on.
const PADDING: usize = 24;

/// Which elements of a parameter are kept; the others are pruned.
#[derive(Clone, Debug)]
pub struct Mask(Arc<[u8]>);

impl Mask {
    /// Bit i mod 8 of byte i / 8 belongs to element i, the least significant bit first.
    #[must_use]
    pub fn new(bits: &[u8]) -> Self {
        let mut padded = bits.to_vec();
        padded.resize(bits.len() + PADDING, 0);
        Self(padded.into())
    }

    /// The bits from element `at` on.
    #[inline(always)]
    #[must_use]
    pub fn from(&self, at: usize) -> Bits<'_> {
        Bits { bytes: &self.0, at }
    }
}

/// The bits of a mask from some element on.
#[derive(Clone, Copy, Debug)]
pub struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    /// 64 bits, the lowest being that of element `i`.
    #[inline(always)]
    #[must_use]
    pub fn word(self, i: usize) -> u64 {
        let (byte, shift) = ((self.at + i) / 8, (self.at + i) % 8);
        let mut nine = [0; 16];
        nine[..9].copy_from_slice(&self.bytes[byte..byte + 9]);
        (u128::from_le_bytes(nine) >> shift) as u64
    }

    /// The tile with zeros where element `i` and those after it are pruned.
    #[inline(always)]
    pub fn keep<S: Simd, T: SimdFloatElement>(self, simd: S, mut tile: Tile<S, T>, i: usize) -> Tile<S, T> {
        let n = <T::Native<S> as SimdBase<S>>::LEN;
        let word = self.word(i);
        let zero = T::Native::<S>::splat(simd, T::default());
        for k in 0..TILE_VECTORS {
            let kept = <T::Native<S> as SimdBase<S>>::Mask::from_bitmask(simd, word >> (k * n));
            tile[k] = kept.select(tile[k], zero);
        }
        tile
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_starts_at_any_element() {
        let bytes: Vec<u8> = (0..40).map(|i| (i * 37 + 11) as u8).collect();
        let mask = Mask::new(&bytes);
        for at in 0..320 {
            for i in 0..(320 - at).min(64) {
                let want = bytes[(at + i) / 8] >> ((at + i) % 8) & 1;
                assert_eq!(mask.from(at).word(0) >> i & 1, u64::from(want));
                assert_eq!(mask.from(at / 2).word(at - at / 2) >> i & 1, u64::from(want));
            }
        }
    }
}
