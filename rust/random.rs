//! Philox4x32-10: random numbers by counter.
//!
//! Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). A number is a function of key
//! and counter alone, so the same bits come out in any order, at any thread count and after a resume.
//!
//! Key = seed. Counter words = (block low, block high, step, stream), block = element / 4; element i takes word i mod 4.

use std::sync::{Mutex, PoisonError};

use crate::{
    optim::plan::{CHUNK, PARALLEL},
    parallel,
};

const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
const WEYL: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];
const ROUNDS: usize = 10;

/// Counters worked on side by side, so that the multiplications of several blocks overlap.
const BATCH: usize = 8;
/// The same where vectors are as wide as the CPU's level allows.
const WIDE_BATCH: usize = 16;

/// The four words that belong to a counter.
#[must_use]
pub fn philox4x32(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let mut counters = [[0; 1]; 4];
    for word in 0..4 {
        counters[word] = [counter[word]];
    }
    rounds(&mut counters, key);
    [counters[0][0], counters[1][0], counters[2][0], counters[3][0]]
}

/// Ten rounds over `N` counters, word by word.
#[inline(always)]
fn rounds<const N: usize>(x: &mut [[u32; N]; 4], mut key: [u32; 2]) {
    for _ in 0..ROUNDS {
        for i in 0..N {
            let a = u64::from(x[0][i]) * u64::from(MULTIPLIERS[0]);
            let b = u64::from(x[2][i]) * u64::from(MULTIPLIERS[1]);
            x[0][i] = (b >> 32) as u32 ^ x[1][i] ^ key[0];
            x[1][i] = b as u32;
            x[2][i] = (a >> 32) as u32 ^ x[3][i] ^ key[1];
            x[3][i] = a as u32;
        }
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
}

/// A stream of numbers: everything of the counter but the element.
#[derive(Clone, Copy, Debug)]
pub struct Philox {
    /// The key.
    pub seed: u64,
    /// Third counter word.
    pub step: u32,
    /// Fourth counter word: purpose · 2²⁴ + index of the tensor or layer.
    pub stream: u32,
}

impl Philox {
    const fn key(self) -> [u32; 2] {
        [self.seed as u32, (self.seed >> 32) as u32]
    }

    /// The words of blocks `first..first + N`.
    #[inline(always)]
    fn blocks<const N: usize>(self, first: u64) -> [[u32; N]; 4] {
        let mut x = [[0; N], [0; N], [self.step; N], [self.stream; N]];
        for i in 0..N {
            let block = first.wrapping_add(i as u64);
            x[0][i] = block as u32;
            x[1][i] = (block >> 32) as u32;
        }
        rounds(&mut x, self.key());
        x
    }

    /// The words of elements `start..start + out.len()`, both multiples of four.
    #[inline(always)]
    pub fn words(self, start: u64, out: &mut [u32]) {
        for (k, out) in out.chunks_mut(4 * WIDE_BATCH).enumerate() {
            let words = self.blocks::<WIDE_BATCH>(start / 4 + (k * WIDE_BATCH) as u64);
            for (i, word) in out.iter_mut().enumerate() {
                *word = words[i % 4][i / 4];
            }
        }
    }

    /// [`Self::uniform`] on several threads if that pays.
    pub fn fill(self, start: u64, out: &mut [f32]) {
        let large = out.len() >= PARALLEL;
        let pieces: Vec<_> = out.chunks_mut(CHUNK).map(Mutex::new).collect();
        parallel::for_each(pieces.len(), large, &|piece| {
            let mut values = pieces[piece].lock().unwrap_or_else(PoisonError::into_inner);
            self.uniform(start + (piece * CHUNK) as u64, &mut values);
        });
    }

    /// Fills `out` with uniform numbers in [0, 1): (word >> 8) · 2⁻²⁴ for elements `start..start + out.len()`.
    pub fn uniform(self, start: u64, out: &mut [f32]) {
        let mut at = 0;
        while at < out.len() {
            let element = start + at as u64;
            let words = self.blocks::<BATCH>(element / 4);
            let skip = (element % 4) as usize;
            let end = out.len().min(at + 4 * BATCH - skip);
            for (k, value) in out[at..end].iter_mut().enumerate() {
                let i = k + skip;
                *value = (words[i % 4][i / 4] >> 8) as f32 * 2f32.powi(-24);
            }
            at = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that the Random123 distribution ships for philox4x32 with 10 rounds.
    #[test]
    fn known_answers() {
        let cases = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, want) in cases {
            assert_eq!(philox4x32(counter, key), want);
        }
    }

    #[test]
    fn uniform_depends_on_the_element_alone() {
        let philox = Philox { seed: 0x0123_4567_89ab_cdef, step: 7, stream: 3 };
        let mut all = [0.0; 333];
        philox.uniform(0, &mut all);
        for start in 0..70 {
            let mut part = [0.0; 77];
            philox.uniform(start, &mut part);
            assert_eq!(part, all[start as usize..start as usize + 77]);
        }
        let word = philox4x32([80, 0, 7, 3], [0x89ab_cdef, 0x0123_4567])[1];
        assert_eq!(all[321].to_bits(), ((word >> 8) as f32 / 16_777_216.0).to_bits());
        assert!(all.iter().all(|x| (0.0..1.0).contains(x)));
    }

    #[test]
    fn blocks_past_2_to_the_32_use_the_second_counter_word() {
        let philox = Philox { seed: 1, step: 0, stream: 0 };
        let mut value = [0.0; 1];
        philox.uniform(4 << 32, &mut value);
        let word = philox4x32([0, 1, 0, 0], [1, 0])[0];
        assert_eq!(value[0].to_bits(), ((word >> 8) as f32 / 16_777_216.0).to_bits());
    }
}
