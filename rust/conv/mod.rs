//! Convolutions of planes, forward and backward.
//!
//! What the taps of a window meet in some rows of windows of a sample becomes columns, (taps, windows), while they are in cache; a
//! product of matrices makes sums of them. Nothing is kept between the passes, and no sum depends on threads or CPU level.

mod backward;
mod columns;
mod forward;
mod product;

pub use backward::{dweight, dx};
pub use forward::forward;

use crate::{
    array::Input,
    window::{Tap, Windows},
};

/// Elements of the columns that are made at a time, at least those of a row of windows: part of a core's second cache.
const COLUMNS: usize = 32 * 1024;

/// Products that are worth more than one thread.
const LARGE: usize = 1024 * 1024;

/// A convolution: windows over the input, and how many outputs its groups of channels have.
#[derive(Clone, Copy, Debug)]
pub struct Conv {
    /// Over the input.
    pub windows: Windows,
    /// Output channels.
    pub features: usize,
    /// Of channels, each of which sees only its own input channels.
    pub groups: usize,
}

/// What is read: the input, and the weight, (features, channels of a group, rows, columns).
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The input.
    pub x: &'a Input,
    /// The weight.
    pub weight: &'a Input,
}

impl Conv {
    /// Elements of the weight.
    #[must_use]
    pub const fn weights(&self) -> usize {
        self.features * self.depth()
    }

    /// Elements of the output.
    #[must_use]
    pub const fn outputs(&self) -> usize {
        self.windows.samples * self.features * self.windows.windows()
    }

    /// Input channels of a group.
    const fn channels(&self) -> usize {
        self.windows.channels / self.groups
    }

    /// Output channels of a group.
    const fn rows(&self) -> usize {
        self.features / self.groups
    }

    /// Taps of a group's windows in all its channels.
    const fn depth(&self) -> usize {
        self.channels() * self.windows.taps()
    }

    /// Is it worth more than one thread?
    const fn is_large(&self) -> bool {
        self.outputs() * self.depth() >= LARGE
    }

    /// Some rows of windows at a time.
    fn blocks(&self) -> Vec<Block> {
        let [rows, width] = self.windows.axes.map(|axis| axis.output());
        let height = (COLUMNS / (self.depth() * width).max(1)).clamp(1, rows.max(1));
        let block = |start: usize| {
            let end = rows.min(start + height);
            let taps = self.windows.all_taps().iter().map(|tap| tap.within(&(start..end))).collect();
            Block { taps, start: start * width, len: (end - start) * width }
        };
        (0..rows).step_by(height).map(block).collect()
    }
}

/// Some rows of windows.
struct Block {
    /// As if the first row were row 0.
    taps: Vec<Tap>,
    /// The first window.
    start: usize,
    /// Windows.
    len: usize,
}
