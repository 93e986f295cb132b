use super::{map::Map, *};
use crate::{
    dispatch,
    quant::scaled::{decode_blocks, encode_block},
    simd::Isa,
};

fn encode<L: Levels>(isa: Isa, levels: L, x: &[f32]) -> Vec<u8> {
    let mut codes = vec![0; x.len()];
    dispatch!(isa, simd => encode_block(simd, &levels, x, &mut codes));
    codes
}

fn decode<L: Levels>(isa: Isa, levels: L, codes: &[u8]) -> Vec<f32> {
    let mut out = vec![0.0; codes.len()];
    dispatch!(isa, simd => decode_blocks(simd, &levels, 256, codes, &[1.0], &mut out));
    out
}

/// Numbers on either side of a middle: all that a rank's rounding might put on the other one.
const NEAR: u32 = 2000;

/// Numbers around each middle of two values, where the largest is 1 so that nothing is scaled.
fn check_middles<const N: usize, L: Levels>(map: &Map<N>, levels: L, offset: usize, sign: f32) {
    let code = |rank: usize| if sign > 0.0 { offset + rank } else { offset - rank.min(127) };
    for isa in Isa::available() {
        for i in 0..N - 1 {
            let last = map.grid().last[i].to_bits();
            let near = (0..2 * NEAR).map(|k| f32::from_bits(last + 1 - NEAR + k).min(1.0) * sign);
            let x: Vec<_> = [1.0, -0.0].into_iter().chain(near).collect();
            let want = (0..2 * NEAR).map(|k| code(if k < NEAR { i } else { i + 1 }) as u8);
            let want: Vec<_> = [255, offset as u8].into_iter().chain(want).collect();
            assert_eq!(encode(isa, levels, &x), want, "{isa:?} {i}");
        }
    }
}

#[test]
fn each_middle_divides_two_codes_at_each_level() {
    check_middles(&MAP, Dynamic8::<true, false>, 127, 1.0);
    check_middles(&MAP, Dynamic8::<true, false>, 127, -1.0);
    check_middles(&UNSIGNED_MAP, Dynamic8::<false, false>, 0, 1.0);
}

/// Numbers of all magnitudes against a search through the middles.
#[test]
fn what_lies_between_is_found_at_each_level() {
    let x: Vec<_> = (0x2f00_0000_u32..=1.0_f32.to_bits()).step_by(9973).map(f32::from_bits).chain([1.0]).collect();
    let want: Vec<_> = x.iter().map(|&x| UNSIGNED_MAP.grid().search(x) as u8).collect();
    let signed: Vec<_> = x.iter().map(|&x| 127 + MAP.grid().search(x) as u8).collect();
    for isa in Isa::available() {
        assert!(encode(isa, Dynamic8::<false, false>, &x) == want, "{isa:?}");
        assert!(encode(isa, Dynamic8::<true, false>, &x) == signed, "{isa:?}");
    }
}

#[test]
fn each_code_decodes_to_its_value_and_back() {
    let all: Vec<u8> = (0..=255).collect();
    for isa in Isa::available() {
        let values = decode(isa, Dynamic8::<true, false>, &all);
        assert_eq!(values, SIGNED_VALUES);
        assert_eq!(encode(isa, Dynamic8::<true, false>, &values), all);
        let values = decode(isa, Dynamic8::<false, false>, &all);
        assert_eq!(values, UNSIGNED_VALUES);
        assert_eq!(encode(isa, Dynamic8::<false, false>, &values), all);
    }
}

#[test]
fn what_is_kept_never_becomes_zero() {
    for isa in Isa::available() {
        let x = [1.0, 1e-8, 1e-45, 0.0];
        assert_eq!(encode(isa, Dynamic8::<false, true>, &x), [255, 1, 1, 0]);
        assert_eq!(encode(isa, Dynamic8::<false, false>, &x), [255, 0, 0, 0]);
    }
}

/// A block of the smallest numbers there are.
#[test]
fn subnormal_blocks_are_scaled_all_the_same() {
    for isa in Isa::available() {
        let least = f32::from_bits(1);
        assert_eq!(encode(isa, Dynamic8::<true, false>, &[least, -least, 0.0]), [255, 0, 127]);
    }
}
