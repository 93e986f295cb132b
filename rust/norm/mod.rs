//! Normalization, forward and backward: statistics by fixed-shape sums, then one formula an element.

pub mod affine;
pub mod batch;
pub mod channels;
mod columns;
mod formula;
mod lanes;
mod map;
mod moments;
mod products;
pub mod rows;
pub mod rows_backward;
