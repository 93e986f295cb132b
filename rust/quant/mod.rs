//! Quantization: arrays as codes of a few bits and scales that blocks of them share.
//!
//! | module | what it knows |
//! |---|---|
//! | [`geometry`] | rows, and blocks that share a scale |
//! | [`codec`] | what a codec is, and the sweeps over an array |
//! | [`tile`] | tiles of numbers and vectors of codes |
//! | [`scaled`] | codes of levels, scaled by the largest magnitude of a block |
//! | [`dynamic8`] | dynamic 8-bit codes |
//! | [`affine`] | integers times a scale |
//! | [`fourbit`] | NF4 and FP4 |
//! | [`minifloat`] | conversions of floats of at most eight bits |
//! | [`float8`] | 8-bit floats |
//! | [`micro`] | short blocks under a scale of a byte: MX and NVFP4 |
//! | [`cast`] | casts between stored types |
//! | [`ggml`] | blocks as GGML lays them out |
//! | [`matmul`] | products with codes |
//! | [`scheme`] | the list of codecs |

pub mod affine;
pub mod cast;
pub mod codec;
pub mod dynamic8;
pub mod float8;
pub mod fourbit;
pub mod geometry;
pub mod ggml;
pub mod matmul;
pub mod micro;
pub mod minifloat;
pub mod scaled;
pub mod scheme;
pub mod tile;
