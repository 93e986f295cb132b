//! The list of codecs: a row here makes one exist.

use super::{
    codec::{self, Nan},
    dynamic8::Dynamic8,
    float8::{E4m3, E5m2, Float8, Plain, Ue5m3},
    fourbit::{FP4, NF4},
    geometry::Geometry,
    ggml::{Ggml, Q4K, Q6K, Q40, Q41, Q50, Q80},
    micro::{E2m1, Micro, PowerOfTwo, UnderTensor},
    scaled::Scaled,
};
use crate::{
    array::{Input, Output},
    error::Error,
    simd::Isa,
};

/// Codes and scales as bytes, to write.
#[derive(Debug)]
pub struct CodesMut<'a> {
    /// One code after another.
    pub codes: &'a mut [u8],
    /// One scale after another.
    pub scales: &'a mut [u8],
}

/// The same to read.
#[derive(Clone, Copy, Debug)]
pub struct Codes<'a> {
    /// One code after another.
    pub codes: &'a [u8],
    /// One scale after another.
    pub scales: &'a [u8],
}

/// What either way is told.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// CPU level.
    pub isa: Isa,
    /// The codec's parameters.
    pub params: &'a [f64],
    /// How the array is cut.
    pub geometry: Geometry,
}

/// An array to codes.
type Quantize = fn(Job<'_>, Nan, &Input, &mut CodesMut<'_>) -> Result<(), Error>;

/// Codes to an array.
type Dequantize = fn(Job<'_>, Codes<'_>, &mut Output) -> Result<(), Error>;

/// A codec of the list.
#[derive(Debug)]
pub struct Entry {
    /// The name that [`find`] knows.
    pub name: &'static str,
    /// Names of its parameters.
    pub params: &'static [&'static str],
    /// One way.
    pub quantize: Quantize,
    /// The other.
    pub dequantize: Dequantize,
}

macro_rules! codecs {
    ($($name:literal, $params:expr => $codec:expr;)*) => {
        /// The codecs by name; each is made of its parameters.
        pub const CODECS: &[Entry] = &[$(Entry {
            name: $name,
            params: &$params,
            quantize: |Job { isa, params, geometry }, nan, x, to| {
                codec::quantize(isa, $codec(params), geometry, nan, x, to.codes, to.scales)
            },
            dequantize: |Job { isa, params, geometry }, from, out| {
                codec::dequantize(isa, $codec(params), geometry, from.codes, from.scales, out)
            },
        }),*];
    };
}

codecs! {
    "dynamic8_signed", [] => |_: &[f64]| Scaled(Dynamic8::<true, false>);
    "dynamic8_unsigned", [] => |_: &[f64]| Scaled(Dynamic8::<false, false>);
    "nf4", [] => |_: &[f64]| Scaled(NF4);
    "fp4", [] => |_: &[f64]| Scaled(FP4);
    "float8_e4m3fn", [] => |_: &[f64]| Plain(E4m3);
    "float8_e5m2", [] => |_: &[f64]| Plain(E5m2);
    "scaled_e4m3fn", [] => |_: &[f64]| Scaled(Float8(E4m3));
    "scaled_e5m2", [] => |_: &[f64]| Scaled(Float8(E5m2));
    "scaled_ue5m3", [] => |_: &[f64]| Scaled(Ue5m3::<false>);
    "mxfp8_e4m3", [] => |_: &[f64]| Micro { format: E4m3, scale: PowerOfTwo::<8> };
    "mxfp8_e5m2", [] => |_: &[f64]| Micro { format: E5m2, scale: PowerOfTwo::<15> };
    "mxfp4", [] => |_: &[f64]| Micro { format: E2m1, scale: PowerOfTwo::<2> };
    "nvfp4", ["tensor"] => |params: &[f64]| Micro { format: E2m1, scale: UnderTensor { tensor: params[0] as f32 } };
    "q8_0", [] => |_: &[f64]| Ggml(Q80);
    "q4_0", [] => |_: &[f64]| Ggml(Q40);
    "q4_1", [] => |_: &[f64]| Ggml(Q41);
    "q5_0", [] => |_: &[f64]| Ggml(Q50);
    "q4_k", [] => |_: &[f64]| Ggml(Q4K);
    "q6_k", [] => |_: &[f64]| Ggml(Q6K);
}

/// The codec of that name.
pub fn find(name: &str) -> Result<&'static Entry, Error> {
    CODECS.iter().find(|codec| codec.name == name).ok_or_else(|| Error::UnknownCodec(name.to_owned()))
}
