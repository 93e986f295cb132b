//! How a step is cut into pieces: fixed by the tensors' lengths, never by threads or CPU level.

use std::ops::Range;

use crate::reduce::BLOCK;

/// Elements of a chunk in steps of up to [`PIECES`] chunks, a multiple of the sums' block.
pub const CHUNK: usize = 32 * 1024;

/// Pieces that a large step is cut into. Long pieces keep the memory's prefetchers busy: over 64 Mi elements chunks of 32 Ki
/// reach 0.9 of the speed of chunks of 1 Mi.
const PIECES: usize = 64;

/// Elements of the longest chunk: what is let go of behind a sweep, a piece being a run of chunks.
const LONGEST: usize = 1024 * 1024;

/// From this many elements on a step is worth more than one thread.
pub const PARALLEL: usize = 64 * 1024;

const _: () = assert!(CHUNK.is_multiple_of(BLOCK) && LONGEST.is_multiple_of(BLOCK));

/// A part of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Index of the row.
    pub row: usize,
    /// First element.
    pub start: usize,
    /// Elements.
    pub len: usize,
    /// Index of its first block among the blocks of all rows.
    pub block: usize,
}

/// One list of chunks over all rows, and pieces of work: runs of chunks that are worth a turn.
#[derive(Debug, Default)]
pub struct Plan {
    chunks: Vec<Chunk>,
    pieces: Vec<Range<usize>>,
    /// For each row its blocks among the blocks of all rows.
    blocks: Vec<Range<usize>>,
    elements: usize,
}

impl Plan {
    /// The plan for rows of these lengths.
    #[must_use]
    pub fn new(lengths: impl Iterator<Item = usize> + Clone) -> Self {
        let mut plan = Self::default();
        let total: usize = lengths.clone().sum();
        let most = total.div_ceil(PIECES).next_multiple_of(CHUNK).max(CHUNK);
        let longest = most.min(LONGEST);
        let mut block = 0;
        for (row, len) in lengths.enumerate() {
            for start in (0..len).step_by(longest) {
                plan.chunks.push(Chunk { row, start, len: longest.min(len - start), block: block + start / BLOCK });
            }
            plan.blocks.push(block..block + len.div_ceil(BLOCK));
            block += len.div_ceil(BLOCK);
        }
        plan.elements = total;
        plan.cut(most);
        plan
    }

    /// A piece is closed as soon as it holds `most` elements.
    fn cut(&mut self, most: usize) {
        let (mut first, mut elements) = (0, 0);
        for (k, chunk) in self.chunks.iter().enumerate() {
            elements += chunk.len;
            if elements >= most || k + 1 == self.chunks.len() {
                self.pieces.push(first..k + 1);
                (first, elements) = (k + 1, 0);
            }
        }
    }

    /// Number of pieces.
    #[must_use]
    pub const fn pieces(&self) -> usize {
        self.pieces.len()
    }

    /// The chunks of a piece.
    #[must_use]
    pub fn chunks(&self, piece: usize) -> &[Chunk] {
        &self.chunks[self.pieces[piece].clone()]
    }

    /// Blocks of all rows together.
    #[must_use]
    pub fn total_blocks(&self) -> usize {
        self.blocks.last().map_or(0, |blocks| blocks.end)
    }

    /// Number of rows.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.blocks.len()
    }

    /// The blocks of a row among those of all rows.
    #[must_use]
    pub fn blocks(&self, row: usize) -> Range<usize> {
        self.blocks[row].clone()
    }

    /// Is it worth more than one thread?
    #[must_use]
    pub const fn is_large(&self) -> bool {
        self.elements >= PARALLEL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_each_row_once_and_pieces_cover_the_chunks() {
        let lengths = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 0, 3 * CHUNK + 1, 64, 64];
        let plan = Plan::new(lengths.into_iter());
        let mut covered = [0; 9];
        for piece in 0..plan.pieces() {
            for chunk in plan.chunks(piece) {
                assert_eq!((covered[chunk.row], chunk.start % BLOCK), (chunk.start, 0));
                assert_eq!(chunk.block, plan.blocks(chunk.row).start + chunk.start / BLOCK);
                covered[chunk.row] += chunk.len;
            }
        }
        assert_eq!(covered, lengths);
        assert_eq!(plan.total_blocks(), lengths.iter().map(|n| n.div_ceil(BLOCK)).sum::<usize>());
    }
}
