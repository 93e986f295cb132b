//! Arrays that somebody else owns: where their elements lie, and how they are read and written in C order.

pub mod buffer;
pub mod bytes;
pub mod input;
pub(crate) mod operand;
pub mod output;
pub mod reading;
pub(crate) mod spread;

pub use bytes::{Bytes, BytesMut, BytesPart};
pub use input::Input;
pub use output::{Output, Part};

use crate::{
    dtype::DType,
    layout::{Layout, Walk},
};

/// An array of the caller.
#[derive(Clone, Debug)]
pub struct Array {
    /// Where its elements are.
    pub layout: Layout,
    /// How they are stored.
    pub dtype: DType,
}

/// Is the address a multiple of the element's size?
#[must_use]
pub const fn is_aligned(address: usize, dtype: DType) -> bool {
    address.is_multiple_of(dtype.size())
}

/// Are the array's elements a slice in the order of the walk, of which it is array `k`?
#[must_use]
pub fn is_in_place(walk: &Walk, k: usize, array: &Array) -> bool {
    walk.is_dense(k, array.dtype.size()) && is_aligned(array.layout.address, array.dtype)
}
