//! The numbers that differ between float32 and float64.
//!
//! The polynomials are minimax fits of our own (Remez' exchange in 50 digits; coefficients rounded one by one from the
//! lowest power up, the others fitted again each time). Highest power first. "Error" is the largest one of the function that the
//! polynomial serves, in units of 2^-24 of its value (float32) or 2^-53 (float64), before any rounding.

use fearless_simd::prelude::*;

use crate::dtype::Compute;

/// A float's bits.
type Bits<T> = <T as SimdFloatElement>::Bits;

/// A compute type and its constants.
pub trait Math: Compute {
    /// 0.
    const ZERO: Self;
    /// 1/2.
    const HALF: Self;
    /// 1.
    const ONE: Self;
    /// 2.
    const TWO: Self;
    /// Infinity.
    const INFINITY: Self;
    /// Not a number.
    const NAN: Self;
    /// The largest number.
    const MAX: Self;
    /// Beyond ± this the tails of erf, exp(-x²) and the logistic function are 0.
    const FAR: Self;
    /// log2(e).
    const LOG2_E: Self;
    /// ln 2 to so few bits that its product with any exponent is exact.
    const LN2_HIGH: Self;
    /// The rest of ln 2.
    const LN2_LOW: Self;
    /// 1.5·2^fraction bits: a sum with it is rounded to a whole number, which then stands in the low bits.
    const SHIFTER: Self;
    /// The same, the exponent's bias and a lift, which brings the exponent of any e^x ≤ 1 among those of normal numbers. The
    /// sum is even, so that a tie is rounded as by [`Self::SHIFTER`].
    const LIFTED_SHIFTER: Self;
    /// 2 to the power of minus the lift.
    const LOWERED: Self;
    /// The bits of [`Self::SHIFTER`] less twice the exponent's bias.
    const SHIFTER_LESS_BIASES: Bits<Self>;
    /// Bits below the exponent.
    const FRACTION_BITS: u32;
    /// A mask of them.
    const FRACTION: Bits<Self>;
    /// Twice the bits of 1: less the bits of a power of two they are those of its inverse.
    const ONE_TWICE: Bits<Self>;
    /// The bits of 2.
    const TWO_BITS: Bits<Self>;
    /// The bits of √½.
    const SQRT_HALF_BITS: Bits<Self>;
    /// The bits of 1 less those of √½.
    const ONE_LESS_SQRT_HALF: Bits<Self>;
    /// The bits of 2^fraction bits: a whole number below that, put into its low bits, is added to it.
    const WHOLE: Bits<Self>;
    /// 2^fraction bits plus the exponent's bias.
    const BIAS: Self;
    /// Makes every number above 0 normal.
    const TINY_SCALE: Self;
    /// [`Self::BIAS`] plus the exponent of [`Self::TINY_SCALE`].
    const TINY_BIAS: Self;
    /// From here down e^x is 0.
    const EXP_LEAST: Self;
    /// From here up e^x is Inf.
    const EXP_MOST: Self;
    /// From here down e^x - 1 is -1.
    const EXPM1_LEAST: Self;
    /// P of e^r - 1 = r + r²·P(r).
    const EXPM1: &'static [Self];
    /// P of 2·atanh(s) = 2s + s·z·P(z), z = s².
    const LOG: &'static [Self];
    /// P of tanh(x) = x + x·z·P(z), z = x².
    const TANH: &'static [Self];
    /// P of erf(x) = x + x·P(x²).
    const ERF_NEAR: &'static [Self];
    /// From here up erf is 1.
    const ERF_MOST: Self;
    /// About the middle between 9/8 and that.
    const ERF_CENTER: Self;
    /// P of erf(x) = 1 - P(x - center)⁴.
    const ERF_FAR: &'static [Self];
}

macro_rules! of_bits {
    ($fraction_bits:literal, $bias:literal, $tiny:literal, $lift:literal) => {
        const ZERO: Self = 0.0;
        const HALF: Self = 0.5;
        const ONE: Self = 1.0;
        const TWO: Self = 2.0;
        const INFINITY: Self = Self::INFINITY;
        const NAN: Self = Self::NAN;
        const MAX: Self = Self::MAX;
        const SHIFTER: Self = 1.5 * (1_u64 << $fraction_bits) as Self;
        const LIFTED_SHIFTER: Self = Self::SHIFTER + ($lift + $bias) as Self;
        const LOWERED: Self = 1.0 / (1_u128 << ($lift / 2)) as Self / (1_u128 << ($lift - $lift / 2)) as Self;
        const SHIFTER_LESS_BIASES: Bits<Self> = Self::SHIFTER.to_bits() - 2 * $bias;
        const FRACTION_BITS: u32 = $fraction_bits;
        const FRACTION: Bits<Self> = (1 << $fraction_bits) - 1;
        const ONE_TWICE: Bits<Self> = 2 * Self::ONE.to_bits();
        const TWO_BITS: Bits<Self> = Self::TWO.to_bits();
        const ONE_LESS_SQRT_HALF: Bits<Self> = Self::ONE.to_bits() - Self::SQRT_HALF_BITS;
        const WHOLE: Bits<Self> = ((1_u64 << $fraction_bits) as Self).to_bits();
        const BIAS: Self = ((1_u64 << $fraction_bits) + $bias) as Self;
        const TINY_SCALE: Self = (1_u64 << $tiny) as Self;
        const TINY_BIAS: Self = ((1_u64 << $fraction_bits) + $bias + $tiny) as Self;
    };
}

impl Math for f32 {
    of_bits!(23, 127, 24, 65);
    const FAR: Self = 128.0;
    const LOG2_E: Self = std::f32::consts::LOG2_E;
    const LN2_HIGH: Self = 45_426.0 / 65_536.0;
    const LN2_LOW: Self = 1.428_606_8e-6;
    const SQRT_HALF_BITS: u32 = std::f32::consts::FRAC_1_SQRT_2.to_bits();
    const EXP_LEAST: Self = -104.0;
    const EXP_MOST: Self = 89.0;
    const EXPM1_LEAST: Self = -18.0;
    /// |r| ≤ 0.35, degree 5, error 0.014.
    const EXPM1: &'static [Self] =
        &[0.000_198_460_15, 0.001_394_173_4, 0.008_333_465, 0.041_666_407, 0.166_666_66, 0.5];
    /// z ≤ 0.0295, degree 2, error 0.014.
    const LOG: &'static [Self] = &[0.298_717_35, 0.399_775_62, 0.666_667_76];
    /// 0 ≤ x ≤ 0.5625, degree 4, error 0.024.
    const TANH: &'static [Self] = &[-0.006_170_458, 0.021_000_598, -0.053_835_757, 0.133_324_37, -0.333_333_13];
    /// 0 ≤ x ≤ 1.125, degree 6, error 0.11.
    const ERF_NEAR: &'static [Self] =
        &[7.063_582_6e-5, -0.000_776_581_4, 0.005_160_26, -0.026_839_223, 0.112_832_56, -0.376_126_02, 0.128_379_17];
    const ERF_MOST: Self = 3.95;
    const ERF_CENTER: Self = 2.5;
    /// 1.125 ≤ x ≤ 3.95, degree 7, error 0.15.
    const ERF_FAR: &'static [Self] = &[
        -0.000_179_495_85,
        9.300_879e-5,
        0.002_740_636,
        -0.006_501_807,
        -0.012_316_988,
        0.093_634_225,
        -0.190_061_3,
        0.142_032_62,
    ];
}

impl Math for f64 {
    of_bits!(52, 1023, 54, 129);
    const FAR: Self = 1024.0;
    const LOG2_E: Self = std::f64::consts::LOG2_E;
    const LN2_HIGH: Self = 0.693_147_180_559_890_3;
    const LN2_LOW: Self = 5.497_923_018_708_371e-14;
    const SQRT_HALF_BITS: u64 = std::f64::consts::FRAC_1_SQRT_2.to_bits();
    const EXP_LEAST: Self = -746.0;
    const EXP_MOST: Self = 710.0;
    const EXPM1_LEAST: Self = -38.0;
    /// |r| ≤ 0.35, degree 10, error 0.012.
    const EXPM1: &'static [Self] = &[
        2.087_516_587_025_832e-9,
        2.511_011_185_929_924_5e-8,
        2.755_740_643_512_145e-7,
        2.755_724_136_270_004e-6,
        2.480_158_716_417_077_5e-5,
        0.000_198_412_698_886_906_7,
        0.001_388_888_888_896_865_2,
        0.008_333_333_333_320_736,
        0.041_666_666_666_666_49,
        0.166_666_666_666_666_77,
        0.5,
    ];
    /// z ≤ 0.0295, degree 6, error 0.011.
    const LOG: &'static [Self] = &[
        0.147_982_558_559_164_23,
        0.153_138_327_073_900_68,
        0.181_835_723_226_080_05,
        0.222_221_984_298_400_84,
        0.285_714_287_436_755,
        0.399_999_999_994_094_14,
        0.666_666_666_666_673_5,
    ];
    /// 0 ≤ x ≤ 0.5625, degree 9, error 0.36.
    const TANH: &'static [Self] = &[
        4.960_356_035_477_829e-5,
        -0.000_208_229_459_068_435_98,
        0.000_577_854_157_233_401_3,
        -0.001_452_779_367_501_019_6,
        0.003_591_630_139_728_437,
        -0.008_863_183_249_543_946,
        0.021_869_485_124_211_385,
        -0.053_968_253_839_889_097,
        0.133_333_333_330_936_4,
        -0.333_333_333_333_317_8,
    ];
    /// 0 ≤ x ≤ 1.125, degree 12, error 0.12.
    const ERF_NEAR: &'static [Self] = &[
        5.265_758_014_782_682e-11,
        -1.092_138_631_687_944_6e-9,
        1.453_036_845_506_365e-8,
        -1.632_893_462_763_581_4e-7,
        1.645_875_389_807_392_8e-6,
        -1.492_543_887_697_891_3e-5,
        0.000_120_553_238_298_521_63,
        -0.000_854_832_675_709_976_1,
        0.005_223_977_620_450_722,
        -0.026_866_170_644_572_838,
        0.112_837_916_709_518_69,
        -0.376_126_389_031_836_76,
        0.128_379_167_095_512_56,
    ];
    const ERF_MOST: Self = 6.0;
    const ERF_CENTER: Self = 3.125;
    /// 1.125 ≤ x ≤ 6, degree 20, error 0.06.
    const ERF_FAR: &'static [Self] = &[
        -2.899_897_700_417_489e-14,
        -5.494_808_790_251_909_4e-14,
        1.802_415_692_076_464e-12,
        -1.676_136_200_826_115e-13,
        -6.382_263_486_041_836e-11,
        1.835_146_404_013_947_8e-10,
        1.441_246_526_016_701_2e-9,
        -1.007_318_473_683_638_5e-8,
        -9.109_943_661_103_35e-9,
        2.973_786_896_277_646_4e-7,
        -7.289_692_555_646_683e-7,
        -4.367_486_270_609_221e-6,
        2.900_247_841_741_619_2e-5,
        -1.265_125_111_530_766_2e-5,
        -0.000_435_437_411_098_459_15,
        0.001_568_607_102_068_008_4,
        0.000_511_278_805_758_019_4,
        -0.018_995_415_936_145_944,
        0.061_585_381_940_245_21,
        -0.091_752_746_748_213_83,
        0.056_088_390_952_173_106,
    ];
}
