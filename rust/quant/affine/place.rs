//! Which scale belongs to an element.

use crate::quant::geometry::Geometry;

/// Elements of a strip: what is staged of it stays in the first-level cache.
pub(super) const STRIP: usize = 4096;

/// Elements in C order, and runs of them that share a scale.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// A scale for each index of an axis; one index for a whole tensor.
    Axis {
        /// Indices.
        channels: usize,
        /// Elements of an index, one after another.
        inner: usize,
        /// All elements.
        len: usize,
    },
    /// A scale for each group of a row; the last group of a row may be shorter.
    Groups {
        /// Rows, whose codes begin with a byte.
        rows: usize,
        /// Elements of a row.
        len: usize,
        /// Elements of a group.
        group: usize,
    },
}

impl Place {
    /// Elements.
    #[must_use]
    pub const fn len(self) -> usize {
        match self {
            Self::Axis { len, .. } => len,
            Self::Groups { rows, len, .. } => rows * len,
        }
    }

    /// Scales.
    pub(super) const fn steps(self) -> usize {
        match self {
            Self::Axis { channels, .. } => channels,
            Self::Groups { rows, len, group } => rows * len.div_ceil(group),
        }
    }

    /// The array in strips; codes of a row of groups begin with a byte.
    pub(super) const fn strips(self) -> Geometry {
        match self {
            Self::Axis { len, .. } => Geometry { rows: 1, len, block: STRIP },
            Self::Groups { rows, len, .. } => Geometry { rows, len, block: STRIP },
        }
    }

    /// Blocks that have a scale of their own, where each is one run of at most `longest` elements whose codes fill bytes.
    pub(super) fn blocks(self, longest: usize, of_byte: usize) -> Option<Geometry> {
        match self {
            Self::Axis { channels, inner, len } => {
                let fits =
                    len > 0 && len == channels * inner && inner <= longest && (channels == 1 || inner % of_byte == 0);
                fits.then_some(Geometry { rows: channels, len: inner, block: inner.max(1) })
            }
            Self::Groups { rows, len, group } => {
                (group.min(len) <= longest).then_some(Geometry { rows, len, block: group })
            }
        }
    }

    /// The scale of an element, and elements from it on that share it.
    #[inline(always)]
    pub(super) fn run(self, element: usize) -> (usize, usize) {
        match self {
            Self::Axis { channels: 1, .. } => (0, usize::MAX),
            Self::Axis { channels, inner, .. } => (element / inner % channels, inner - element % inner),
            Self::Groups { len, group, .. } => {
                let (row, at) = (element / len, element % len);
                (row * len.div_ceil(group) + at / group, (group - at % group).min(len - at))
            }
        }
    }

    /// The scale after `step`, and elements of the run that begins with an element, as [`Self::run`] says.
    #[inline(always)]
    pub(super) const fn next(self, step: usize, element: usize) -> (usize, usize) {
        match self {
            Self::Axis { channels, inner, .. } => (if step + 1 == channels { 0 } else { step + 1 }, inner),
            Self::Groups { len, group, .. } if len.is_multiple_of(group) => (step + 1, group),
            Self::Groups { len, group, .. } => {
                let left = len - element % len;
                (step + 1, if left < group { left } else { group })
            }
        }
    }

    /// Elements of a run that is not the last one of a row.
    pub(super) const fn run_len(self) -> usize {
        match self {
            Self::Axis { channels: 1, .. } => usize::MAX,
            Self::Axis { inner, .. } => inner,
            Self::Groups { group, .. } => group,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_an_axis_and_of_groups() {
        let axis = Place::Axis { channels: 3, inner: 4, len: 24 };
        assert_eq!([0, 5, 11, 13].map(|at| axis.run(at)), [(0, 4), (1, 3), (2, 1), (0, 3)]);
        let groups = Place::Groups { rows: 2, len: 10, group: 4 };
        assert_eq!([0, 3, 9, 10, 18].map(|at| groups.run(at)), [(0, 4), (0, 1), (2, 1), (3, 4), (5, 2)]);
        assert_eq!((groups.steps(), groups.len()), (6, 20));
        assert!(axis.blocks(64, 1).is_none());
        assert!(Place::Axis { channels: 3, inner: 5, len: 15 }.blocks(64, 2).is_none());
    }
}
