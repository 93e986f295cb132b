//! The arrays of a chunk: how a row's pointers become slices, in place or gathered.
#![allow(unsafe_code)]

use super::{
    bits::Bits,
    coded::StateCodec,
    fold::STRIP,
    mapping::Mapping,
    plan::Chunk,
    row::{EMA, GRAD, MAX_STATE, OPERANDS, PARAM, Row, SHADOW, STATE},
    stage::{Copies, Piece, Staged},
};
use crate::{
    array::buffer::{Buffer, STAGE},
    dtype::{DType, ValuesMut},
};

/// The arrays of a chunk, for the one who holds this.
#[derive(Debug)]
pub struct ChunkArrays<'a> {
    pub(super) row: &'a Row,
    pub(super) chunk: Chunk,
    pub(super) zeroes_grads: bool,
    pub(super) mapping: Option<&'a Mapping>,
}

impl Drop for ChunkArrays<'_> {
    /// Lets go of the chunk's pages of arrays in a file that are one range here.
    fn drop(&mut self) {
        let Some(mapping) = self.mapping else { return };
        for (k, operand) in self.row.operands.iter().enumerate() {
            let Some(dtype) = operand.dtype() else { continue };
            let start = match self.row.walk.as_deref() {
                None => 0,
                Some(walk) if walk.is_dense(k, dtype.size()) => walk.start(k),
                Some(_) => continue,
            };
            mapping.release(operand.addresses(start, self.chunk.start, self.chunk.len));
        }
        for coded in self.row.coded.iter().flatten() {
            for part in coded.addresses(self.chunk.start, self.chunk.len) {
                mapping.release(part);
            }
        }
    }
}

/// A part of a chunk that is worked on at once.
#[derive(Clone, Copy, Debug)]
pub struct Strip {
    /// First element in the chunk.
    pub at: usize,
    /// Elements.
    pub len: usize,
    /// Must it be staged?
    pub is_staged: bool,
}

impl<'a> ChunkArrays<'a> {
    /// Which part of which row it is.
    #[must_use]
    pub const fn chunk(&self) -> Chunk {
        self.chunk
    }

    /// Index of the tensor in its optimizer.
    #[must_use]
    pub const fn tensor(&self) -> usize {
        self.row.tensor
    }

    /// Elements.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.chunk.len
    }

    /// The type in which it is computed.
    #[must_use]
    pub const fn compute(&self) -> DType {
        self.row.compute
    }

    /// Are there copies of the parameter to write?
    #[must_use]
    pub const fn has_copies(&self) -> bool {
        !self.row.operands[EMA].is_absent() || !self.row.operands[SHADOW].is_absent()
    }

    /// Is the parameter stored in 16 bits?
    #[must_use]
    pub const fn is_half(&self) -> bool {
        matches!(self.row.operands[PARAM].dtype(), Some(DType::Bf16 | DType::F16))
    }

    /// Which elements are kept, from element `at` of the chunk on; `None` if all are.
    #[inline(always)]
    #[must_use]
    pub fn kept(&self, at: usize) -> Option<Bits<'a>> {
        self.row.mask.as_ref().map(|mask| mask.from(self.chunk.start + at))
    }

    /// Elements of a unit.
    #[must_use]
    pub const fn unit(&self) -> usize {
        self.row.unit
    }

    /// Are all arrays slices?
    #[inline(always)]
    #[must_use]
    pub const fn is_in_place(&self) -> bool {
        self.row.walk.is_none()
    }

    /// The strip that starts at element `at` of the chunk, none at its end.
    #[inline(always)]
    #[must_use]
    pub fn strip(&self, at: usize) -> Option<Strip> {
        let rest = self.chunk.len - at;
        let whole = rest.min(STRIP) / STAGE * STAGE;
        let is_staged = !self.is_in_place() || whole == 0;
        (rest > 0).then_some(Strip { at, len: if is_staged { rest.min(STAGE) } else { whole }, is_staged })
    }

    /// Elements `at..at + len` of every array, which must be slices.
    #[inline(always)]
    #[must_use]
    pub fn in_place<const N: usize>(&mut self, at: usize, len: usize) -> (Piece<'_, N>, Copies<'_>) {
        let start = self.chunk.start + at;
        assert!(at + len <= self.chunk.len && start + len <= self.row.len, "a piece ends inside its chunk");
        assert!(self.is_in_place(), "arrays that are no slices are staged");
        let operands = &self.row.operands;
        let mut state = [const { ValuesMut::Absent }; N];
        // SAFETY: without a walk the arrays are dense and aligned; the chunk is inside them and was handed out once.
        unsafe {
            for k in 0..N {
                state[k] = operands[STATE + k].values_mut(start, len);
            }
            let (param, grad) = (operands[PARAM].values_mut(start, len), operands[GRAD].values(start, len));
            let copies =
                Copies { ema: operands[EMA].values_mut(start, len), shadow: operands[SHADOW].values_mut(start, len) };
            (Piece { param, grad, state }, copies)
        }
    }

    /// Which state arrays are kept as codes?
    #[inline(always)]
    #[must_use]
    pub const fn is_coded(&self) -> [bool; MAX_STATE] {
        let [a, b, c, d] = &self.row.coded;
        [a.is_some(), b.is_some(), c.is_some(), d.is_some()]
    }

    /// Codes and scales of elements `at..at + len` of the chunk in state array `k`, if it has codes; `at` begins a block.
    #[inline(always)]
    #[must_use]
    pub fn coded(&mut self, k: usize, at: usize, len: usize) -> Option<(StateCodec, &mut [u8], &mut [f32])> {
        let (coded, start) = (self.row.coded[k]?, self.chunk.start + at);
        assert!(at + len <= self.chunk.len && start + len <= self.row.len, "a strip ends inside its chunk");
        // SAFETY: codes are in C order, chunks begin with a block, and the chunk was handed out once.
        let (codes, scales) = unsafe { coded.slices(start, len) };
        Some((coded.codec, codes, scales))
    }

    /// Gathers elements `at..at + len` of the chunk in every array.
    pub fn gather<const N: usize>(&mut self, at: usize, len: usize, stage: &mut Staged<N>) {
        assert!(at + len <= self.chunk.len && len <= STAGE, "a staged piece ends inside its chunk");
        let (row, start) = (self.row, self.chunk.start + at);
        let walk = |array| row.walk.as_deref().map(|walk| (walk, array));
        // SAFETY: the elements are inside the arrays, and the chunk was handed out once.
        unsafe {
            row.operands[PARAM].read(walk(PARAM), start, len, &mut stage.param);
            row.operands[GRAD].read(walk(GRAD), start, len, &mut stage.grad);
            for k in 0..N {
                row.operands[STATE + k].read(walk(STATE + k), start, len, &mut stage.state[k]);
            }
            for k in EMA..OPERANDS {
                row.operands[k].read(walk(k), start, len, &mut stage.copies[k - EMA]);
            }
        }
    }

    /// Writes everything but the gradient back to where [`Self::gather`] found it.
    pub fn scatter<const N: usize>(&mut self, at: usize, len: usize, stage: &Staged<N>) {
        assert!(at + len <= self.chunk.len && len <= STAGE, "a staged piece ends inside its chunk");
        let (row, start) = (self.row, self.chunk.start + at);
        let walk = |array| row.walk.as_deref().map(|walk| (walk, array));
        // SAFETY: the elements are inside the arrays, and the chunk was handed out once.
        unsafe {
            row.operands[PARAM].write(walk(PARAM), start, len, &stage.param);
            for k in 0..N {
                row.operands[STATE + k].write(walk(STATE + k), start, len, &stage.state[k]);
            }
            for k in EMA..OPERANDS {
                row.operands[k].write(walk(k), start, len, &stage.copies[k - EMA]);
            }
        }
    }

    /// Are gradients to be zeroed?
    #[must_use]
    pub const fn zeroes_grads(&self) -> bool {
        self.zeroes_grads
    }

    /// Zeros the gradient's elements `at..at + len` of the chunk, at most as many as are staged if they are not in place.
    pub fn zero_grad(&mut self, at: usize, len: usize) {
        assert!(self.zeroes_grads && at + len <= self.chunk.len, "a piece ends inside its chunk");
        let (grad, start) = (self.row.operands[GRAD], self.chunk.start + at);
        if let Some(walk) = self.row.walk.as_deref() {
            // SAFETY: the maker of the rows allowed it, the elements are inside the array, the chunk was handed out once.
            unsafe { grad.write(Some((walk, GRAD)), start, len, &Buffer::default()) };
        } else {
            // SAFETY: as above, and without a walk the array is dense and aligned.
            unsafe { grad.values_mut(start, len) }.fill_zero();
        }
    }
}
