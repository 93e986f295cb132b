//! The core of stepsmith: optimizer steps over arrays that somebody else owns.
//!
//! | module | what it knows |
//! |---|---|
//! | [`array`] | arrays that somebody else owns, read and written in C order |
//! | [`dtype`] | storage types and how they become the compute type |
//! | [`half`] | bfloat16 and float16 as bits |
//! | [`simd`] | the CPU level, chosen once |
//! | [`parallel`] | threads |
//! | [`float_environment`] | how numbers are rounded, whatever the caller has set |
//! | [`prefetch`] | memory that is asked for before it is needed |
//! | [`layout`] | shapes and strides: walks over elements, overlap |
//! | [`reduce`] | sums whose tree depends on the length alone |
//! | [`random`] | Philox4x32-10 |
//! | `map` | one output element of the elements at its place |
//! | `row_sums` | sums of short and long rows in the shape of `reduce` |
//! | [`math`] | exp, log, tanh, erf and their like, of plain operations |
//! | [`activation`] | activations, their derivatives, and the list of them |
//! | [`norm`] | normalization, forward and backward |
//! | [`softmax`] | softmax, its logarithm and the cross entropy, forward and backward |
//! | [`quant`] | codes of a few bits with scales that blocks share |
//! | [`window`] | windows that slide over planes, and pools |
//! | [`conv`] | convolutions, forward and backward |
//! | [`optim`] | rules, rows of arrays, the tile pipeline |
//! | [`error`] | everything that can be wrong with a request |

pub mod activation;
pub mod array;
pub mod conv;
pub mod dtype;
pub mod error;
pub mod float_environment;
pub mod half;
pub mod layout;
mod map;
pub mod math;
pub mod norm;
pub mod optim;
pub mod parallel;
pub mod prefetch;
#[cfg(feature = "python")]
mod python;
pub mod quant;
pub mod random;
pub mod reduce;
mod row_sums;
pub mod simd;
pub mod softmax;
#[cfg(test)]
mod tests;
pub mod window;
