//! Normalization, forward and backward: statistics by fixed-shape sums, then one formula an element.

pub mod affine;
mod formula;
mod lanes;
mod map;
mod moments;
pub mod rows;
pub mod rows_backward;
