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
//! | [`ggml`] | blocks as GGML lays them out |
//! | [`matmul`] | products with codes |
//! | [`scheme`] | the list of codecs |

pub mod affine;
pub mod codec;
pub mod dynamic8;
mod dynamic_map;
pub mod fourbit;
pub mod geometry;
pub mod ggml;
pub mod matmul;
pub mod scaled;
pub mod scheme;
pub mod tile;
