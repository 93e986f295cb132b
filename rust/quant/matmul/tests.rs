//! Products at each level: whole numbers, whose sums are exact, and a tree that is written out.

use super::{
    Matrix, Products, Steps,
    floats::Floats,
    integers::Sums,
    weights::{FourBits, Int4, Int8, Weights},
};
use crate::{dispatch, quant::fourbit::NF4, simd::Isa};

/// Codes from -7 to 7 one a byte, and two a byte with the first in the low half.
fn codes(count: usize) -> (Vec<i8>, Vec<u8>) {
    let codes: Vec<i8> = (0..count).map(|i| (i * i % 15) as i8 - 7).collect();
    let packed = codes.chunks(2).map(|pair| (pair[0] & 15) as u8 | (pair.get(1).map_or(0, |c| (c & 15) as u8) << 4));
    (codes.clone(), packed.collect())
}

fn rows<P: Products>(isa: Isa, products: &P, row: usize) -> Vec<f32> {
    dispatch!(isa, simd => products.rows::<_, 1, 3, true>(simd, row, 0))[0].to_vec()
}

#[test]
fn whole_numbers_are_exact_at_each_level() {
    for (rows_of, len) in [(3, 64), (5, 63), (4, 129), (3, 1), (3, 200)] {
        let (plain, packed) = codes(rows_of * len);
        let bytes: Vec<u8> = plain.iter().map(|&code| code as u8).collect();
        let activations: Vec<i8> = (0..3 * len).map(|i| (i % 11) as i8 - 5).collect();
        let x: Vec<f32> = activations.iter().map(|&a| f32::from(a)).collect();
        let signed: Vec<u8> = activations.iter().map(|&a| a as u8).collect();
        for isa in Isa::available() {
            for row in 0..rows_of {
                let want: Vec<f32> = (0..3)
                    .map(|b| (0..len).map(|i| f32::from(plain[row * len + i]) * x[b * len + i]).sum::<f32>() * 0.5)
                    .collect();
                let matrix = |codes| Matrix { codes, scales: &[0.5], rows: rows_of, len, steps: Steps::All };
                let eight = Floats { weights: Int8, matrix: &matrix(&bytes), x: &x };
                assert_eq!(rows(isa, &eight, row), want, "{isa:?} {len}");
                let four = Floats { weights: Int4, matrix: &matrix(&packed), x: &x };
                assert_eq!(rows(isa, &four, row), want, "{isa:?} {len}");
                let exact = Sums { weights: Int4, matrix: &matrix(&packed), codes: &signed, scales: &[1.0, 1.0, 1.0] };
                assert_eq!(rows(isa, &exact, row), want, "{isa:?} {len}");
            }
        }
    }
}

/// Blocks that go on from row to row: the first row of 100 has parts of two, the second of three.
#[test]
fn levels_and_blocks_across_rows_have_the_documented_tree() {
    let (len, scales) = (101, [1.5, 0.3, 7.0, 0.01]);
    let (_, packed) = codes(2 * len);
    let x: Vec<f32> = (0..3 * len).map(|i| (i as f32 * 0.37).sin()).collect();
    let matrix = Matrix { codes: &packed, scales: &scales, rows: 2, len, steps: Steps::Blocks(64) };
    let table = dispatch!(Isa::available()[0], simd => {
        let mut table = vec![];
        for code in 0..16_u8 {
            table.push(FourBits::new(NF4).numbers_anywhere(simd, &[code << 4], 0)[0].as_slice()[0]);
        }
        table
    });
    let level = |number: usize| {
        table[usize::from(if number.is_multiple_of(2) { packed[number / 2] >> 4 } else { packed[number / 2] & 15 })]
    };
    for row in 0..2 {
        let mut want = vec![];
        for b in 0..3 {
            let (mut total, mut at) = ([0.0_f32; 16], 0);
            while at < len {
                let end = len.min(at + 64 - (row * len + at) % 64);
                let mut sum = [0.0_f32; 16];
                for i in at..end {
                    sum[(i - at) % 16] += level(row * len + i) * x[b * len + i];
                }
                for lane in 0..16 {
                    total[lane] += sum[lane] * scales[(row * len + at) / 64];
                }
                at = end;
            }
            for half in [8, 4, 2, 1] {
                for i in 0..half {
                    total[i] += total[i + half];
                }
            }
            want.push(total[0]);
        }
        for isa in Isa::available() {
            assert_eq!(
                rows(isa, &Floats { weights: FourBits::new(NF4), matrix: &matrix, x: &x }, row),
                want,
                "{isa:?}"
            );
        }
    }
}
