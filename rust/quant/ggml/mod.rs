//! Blocks as GGML lays them out: float16 scales and packed codes in one run of bytes.
//!
//! | module | what it knows |
//! |---|---|
//! | `lanes` | thirty-two numbers as two vectors, bytes and sums of them |
//! | `plain` | sixteen blocks of 32 at once |
//! | `symmetric` | Q8_0, Q4_0 and Q5_0: one scale a block |
//! | `q4_1` | Q4_1: a scale and a minimum |
//! | `q4_k` | Q4_K: eight such blocks whose scales and minimums have six bits |
//! | `q6_k` | Q6_K: sixteen blocks of sixteen whose scales have eight bits |

mod lanes;
mod plain;
mod q4_1;
mod q4_k;
mod q6_k;
mod symmetric;

use fearless_simd::prelude::*;

pub use self::{
    q4_1::Q41,
    q4_k::Q4K,
    q6_k::Q6K,
    symmetric::{Q40, Q50, Q80},
};
use super::codec::Codec;

/// A kind of block.
pub trait Kind: Copy + Send + Sync {
    /// Numbers of a block.
    const LEN: usize;

    /// Bytes of a block.
    const BYTES: usize;

    /// Blocks that are encoded at once, at most.
    const GROUP: usize = 1;

    /// Some blocks.
    fn encode<S: Simd>(simd: S, x: &[f32], to: &mut [u8]);

    /// The reverse for one block.
    fn decode<S: Simd>(simd: S, from: &[u8], out: &mut [f32]);
}

/// Arrays of whole blocks.
#[derive(Clone, Copy, Debug)]
pub struct Ggml<K>(pub K);

impl<K: Kind> Codec for Ggml<K> {
    type Scale = ();

    fn code_bytes(&self, len: usize) -> usize {
        len / K::LEN * K::BYTES
    }

    #[inline(always)]
    fn encode<S: Simd>(&self, simd: S, _: usize, _: usize, x: &[f32], codes: &mut [u8], _: &mut [()]) {
        let blocks = x.len() / K::LEN;
        for k in (0..blocks).step_by(K::GROUP) {
            let end = blocks.min(k + K::GROUP);
            K::encode(simd, &x[k * K::LEN..end * K::LEN], &mut codes[k * K::BYTES..end * K::BYTES]);
        }
    }

    #[inline(always)]
    fn decode<S: Simd>(&self, simd: S, _: usize, _: usize, codes: &[u8], _: &[()], out: &mut [f32]) {
        for k in 0..out.len() / K::LEN {
            K::decode(simd, &codes[k * K::BYTES..][..K::BYTES], &mut out[k * K::LEN..][..K::LEN]);
        }
    }
}

const _: () = assert!(Q80::BYTES == 34 && Q40::BYTES == 18 && Q41::BYTES == 20 && Q50::BYTES == 22);
const _: () = assert!(Q4K::BYTES == 144 && Q6K::BYTES == 210);

/// Writes a float16 at byte `at`; what is beyond its range becomes its largest number.
#[inline(always)]
fn put_f16(to: &mut [u8], at: usize, x: f32) {
    to[at..at + 2].copy_from_slice(&crate::half::f16_bits(x.clamp(-F16_MAX, F16_MAX)).to_le_bytes());
}

/// The float16 at byte `at`.
#[inline(always)]
fn get_f16(from: &[u8], at: usize) -> f32 {
    crate::half::f16_value(u16::from_le_bytes([from[at], from[at + 1]]))
}

const F16_MAX: f32 = 65504.0;

/// 1 / scale, or 0 where that is no number: such a scale becomes 0 in float16.
#[inline(always)]
fn inverse(scale: f32) -> f32 {
    let inverse = 1.0 / scale;
    if inverse.is_finite() { inverse } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{dispatch, simd::Isa};

    fn encode<K: Kind>(isa: Isa, kind: K, x: &[f32]) -> Vec<u8> {
        let mut codes = vec![0; x.len() / K::LEN * K::BYTES];
        dispatch!(isa, simd => Ggml(kind).encode(simd, 0, K::LEN, x, &mut codes, &mut []));
        codes
    }

    fn decode<K: Kind>(isa: Isa, kind: K, codes: &[u8]) -> Vec<f32> {
        let mut out = vec![0.0; codes.len() / K::BYTES * K::LEN];
        dispatch!(isa, simd => Ggml(kind).decode(simd, 0, K::LEN, codes, &[], &mut out));
        out
    }

    /// Numbers that are codes times a scale of 1, with the largest first, come back as they are.
    #[test]
    fn whole_numbers_are_kept_at_each_level() {
        let ramp = |first: f32, from: i32, to: i32| -> Vec<f32> {
            let rest = (0..31).map(|i| (from + i * 7 % (to - from + 1)) as f32);
            [first].into_iter().chain(rest).collect()
        };
        for isa in Isa::available() {
            let x = ramp(127.0, -120, 126);
            let codes = encode(isa, Q80, &x);
            assert_eq!((codes.len(), &codes[..3]), (34, &[0x00, 0x3c, 127][..]));
            assert_eq!(decode(isa, Q80, &codes), x);
            let x = ramp(-8.0, -7, 7);
            let codes = encode(isa, Q40, &x);
            // Number 16 shares a byte with the first.
            assert_eq!((codes.len(), &codes[..3]), (18, &[0x00, 0x3c, (x[16] + 8.0) as u8 * 16][..]));
            assert_eq!(decode(isa, Q40, &codes), x);
            let x = ramp(-16.0, -15, 15);
            assert_eq!(decode(isa, Q50, &encode(isa, Q50, &x)), x);
            let x = [ramp(-3.0, -3, 12), ramp(12.0, -3, 12)].concat();
            assert_eq!(decode(isa, Q41, &encode(isa, Q41, &x)), x);
        }
    }

    #[test]
    fn halves_go_away_from_zero_or_up() {
        for isa in Isa::available() {
            let mut x = [0.0; 32];
            x[..6].copy_from_slice(&[127.0, 0.5, -0.5, 2.5, 0.499_999_97, -1.5]);
            assert_eq!(encode(isa, Q80, &x)[2..8], [127, 1, 255, 3, 0, 254]);
            x[..6].copy_from_slice(&[-8.0, 0.5, -0.5, 7.5, -7.5, 0.0]);
            let low: Vec<u8> = encode(isa, Q40, &x)[2..8].iter().map(|byte| byte & 15).collect();
            assert_eq!(low, [0, 9, 8, 15, 1, 8]);
        }
    }

    /// Eight blocks on the grid of their own scale and minimum.
    #[test]
    fn grids_of_k_blocks_are_kept() {
        let (four, six): (Vec<_>, Vec<_>) = (0..256_i16)
            .map(|i| {
                let code = if i % 16 == 0 { -32 } else { i * 5 % 64 - 32 };
                ((63 - i / 32 * 8) * (i * 7 % 16) - 63 + i / 32 * 5, (i / 16 - 16) * 8 * code)
            })
            .unzip();
        let [four, six] = [four, six].map(|x| x.into_iter().map(f32::from).collect::<Vec<_>>());
        for isa in Isa::available() {
            assert_eq!(decode(isa, Q4K, &encode(isa, Q4K, &four)), four, "{isa:?}");
            assert_eq!(decode(isa, Q6K, &encode(isa, Q6K, &six)), six, "{isa:?}");
        }
    }
}
