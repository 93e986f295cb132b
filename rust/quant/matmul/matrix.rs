//! A quantized matrix: where codes and scales of a row are.

use crate::error::Error;

/// Which elements share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steps {
    /// All.
    All,
    /// Those of a row.
    Rows,
    /// So many of a row; the last ones of a row may be fewer, and each row's codes begin with a byte.
    Groups(usize),
    /// So many of all rows one after another.
    Blocks(usize),
}

/// Codes and scales of a matrix in C order.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// One code after another, packed.
    pub codes: &'a [u8],
    /// One scale after another.
    pub scales: &'a [f32],
    /// Rows.
    pub rows: usize,
    /// Elements of a row.
    pub len: usize,
    /// What shares a scale.
    pub steps: Steps,
}

impl Matrix<'_> {
    /// Fails unless all lengths fit together.
    pub(super) fn check(&self, bits: usize, x: usize, out: usize) -> Result<(), Error> {
        let check = |what, want, got| if want == got { Ok(()) } else { Err(Error::Length { what, want, got }) };
        let scales = match self.steps {
            Steps::All => 1,
            Steps::Rows => self.rows,
            Steps::Groups(size) => self.rows * self.len.div_ceil(size),
            Steps::Blocks(size) => (self.rows * self.len).div_ceil(size),
        };
        check("codes", (self.row_start(bits, self.rows) * bits).div_ceil(8), self.codes.len())?;
        check("scales", scales, self.scales.len())?;
        if self.len == 0 {
            return Ok(());
        }
        check("x", x / self.len * self.len, x)?;
        check("out", x / self.len * self.rows, out)
    }

    /// The number of a row's first code.
    #[inline(always)]
    pub(super) const fn row_start(&self, bits: usize, row: usize) -> usize {
        match self.steps {
            Steps::Groups(_) => row * self.len.next_multiple_of(8 / bits),
            _ => row * self.len,
        }
    }

    /// Do the same elements of each row share a scale?
    #[inline(always)]
    pub(super) const fn rows_share_steps(&self) -> bool {
        match self.steps {
            Steps::Blocks(size) => self.len.is_multiple_of(size) || size.is_multiple_of(self.len),
            _ => true,
        }
    }

    /// Do so many elements at a time share a scale, with none left over?
    #[inline(always)]
    pub(super) const fn steps_are_multiples_of(&self, count: usize) -> bool {
        let size = match self.steps {
            Steps::All | Steps::Rows => self.len,
            Steps::Groups(size) | Steps::Blocks(size) => size,
        };
        self.len.is_multiple_of(count) && size.is_multiple_of(count)
    }

    /// The first elements of a row that share a scale.
    #[inline(always)]
    pub(super) const fn first_step(&self, row: usize) -> Step {
        let (size, left, scale) = match self.steps {
            Steps::All => (self.len, self.len, 0),
            Steps::Rows => (self.len, self.len, row),
            Steps::Groups(size) => (size, size, row * self.len.div_ceil(size)),
            Steps::Blocks(size) => (size, size - row * self.len % size, row * self.len / size),
        };
        Step { at: 0, end: if left < self.len { left } else { self.len }, scale, size }
    }
}

/// Elements of a row that share a scale.
#[derive(Clone, Copy)]
pub(super) struct Step {
    pub(super) at: usize,
    pub(super) end: usize,
    /// The number of the scale.
    pub(super) scale: usize,
    size: usize,
}

impl Step {
    /// The ones after them in a row of so many elements.
    #[inline(always)]
    pub(super) const fn next(self, len: usize) -> Self {
        let end = self.end + self.size;
        Self { at: self.end, end: if end < len { end } else { len }, scale: self.scale + 1, size: self.size }
    }
}
