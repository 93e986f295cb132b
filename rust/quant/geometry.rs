//! How an array in C order is cut into rows, and rows into blocks that share a scale.

/// Rows of elements, each cut into blocks; the last block of a row may be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Rows.
    pub rows: usize,
    /// Elements of a row.
    pub len: usize,
    /// Elements of a block.
    pub block: usize,
}

impl Geometry {
    /// Elements.
    #[must_use]
    pub const fn elements(self) -> usize {
        self.rows * self.len
    }

    /// Blocks of a row.
    #[must_use]
    pub const fn blocks_of_row(self) -> usize {
        self.len.div_ceil(self.block)
    }

    /// Blocks of all rows.
    #[must_use]
    pub const fn blocks(self) -> usize {
        self.rows * self.blocks_of_row()
    }

    /// The first element of a block; of one past the last, the number of elements.
    #[must_use]
    pub const fn start(self, block: usize) -> usize {
        match self.blocks_of_row() {
            0 => 0,
            of_row => block / of_row * self.len + block % of_row * self.block,
        }
    }

    /// The block after the last one of the row that `block` belongs to.
    #[must_use]
    pub const fn row_end(self, block: usize) -> usize {
        (block / self.blocks_of_row() + 1) * self.blocks_of_row()
    }

    /// The first byte of a block's codes, if so many elements take so many bytes; of one past the last, all bytes.
    #[must_use]
    pub fn code_start(self, block: usize, code_bytes: impl Fn(usize) -> usize) -> usize {
        let of_row = self.blocks_of_row();
        if of_row == 0 {
            return 0;
        }
        let last = self.len - (of_row - 1) * self.block;
        let row_bytes = (of_row - 1) * code_bytes(self.block) + code_bytes(last);
        block / of_row * row_bytes + block % of_row * code_bytes(self.block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two rows of 70 in blocks of 32: 32, 32, 6 and again, at two elements a byte.
    #[test]
    fn blocks_end_with_their_row() {
        let geometry = Geometry { rows: 2, len: 70, block: 32 };
        assert_eq!((geometry.blocks(), geometry.elements()), (6, 140));
        assert_eq!([0, 2, 3, 5, 6].map(|block| geometry.start(block)), [0, 64, 70, 134, 140]);
        assert_eq!([0, 2, 3, 6].map(|block| geometry.code_start(block, |len| len.div_ceil(2))), [0, 32, 35, 70]);
        assert_eq!([0, 2, 3].map(|block| geometry.row_end(block)), [3, 3, 6]);
        let empty = Geometry { rows: 3, len: 0, block: 32 };
        assert_eq!((empty.blocks(), empty.start(0), empty.code_start(0, |len| len)), (0, 0, 0));
    }
}
