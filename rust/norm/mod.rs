//! Normalization, forward and backward: statistics by fixed-shape sums, then one formula an element.

pub mod affine;
pub mod batch;
mod channel_map;
pub mod channels;
mod columns;
mod formula;
mod moments;
mod products;
pub mod rows;
pub mod rows_backward;

/// Elements of a piece of work, at least.
const PIECE: usize = 8 * 1024;

/// Pieces of a large one.
const PIECES: usize = 64;

/// Elements from which several threads are worth their start.
const LARGE: usize = 32 * 1024;
