//! Rows: one tensor of a step each; and how a row's pointers become the slices of a chunk.
#![allow(unsafe_code)]

use super::{
    operand::Operand,
    plan::{Chunk, Plan},
    stage::{Buffer, Piece, STAGE, Staged},
    tensors::{Array, Tensor, is_aligned},
};
use crate::{
    dtype::{DType, Values, ValuesMut},
    layout::Walk,
    parallel,
};

/// State arrays a rule may have.
pub const MAX_STATE: usize = 4;

/// One tensor of a step.
#[derive(Debug)]
pub struct Row {
    /// Index of the tensor in its optimizer.
    pub tensor: usize,
    /// Elements.
    pub len: usize,
    /// The type in which it is computed.
    pub compute: DType,
    param: Operand,
    grad: Operand,
    state: [Operand; MAX_STATE],
    /// The gradient from its first element on, whatever the common order starts with.
    grad_base: Operand,
    /// The common order of all arrays; `None` if they all are dense and aligned in it.
    walk: Option<Box<Walk>>,
    /// C order of the gradient; `None` if it is dense and aligned in it.
    grad_walk: Option<Box<Walk>>,
}

// SAFETY: a row's pointers are followed only through `Rows`, whose maker promises that the arrays are the rows' alone.
unsafe impl Send for Row {}
// SAFETY: as above; `Rows` hands out each chunk once, and chunks do not meet.
unsafe impl Sync for Row {}

impl Row {
    /// Every array in C order without gaps, each element on its boundary.
    #[must_use]
    pub fn plain(tensor: usize, arrays: &Tensor, address: usize, dtype: DType) -> Self {
        let mut state = [Operand::ABSENT; MAX_STATE];
        for (operand, array) in state.iter_mut().zip(&arrays.state) {
            *operand = array.as_ref().map_or(Operand::ABSENT, |array| Operand::new(array, 0));
        }
        let grad = Operand::at(address, dtype);
        Self {
            tensor,
            len: arrays.param.layout.len(),
            compute: arrays.param.dtype.compute(),
            param: Operand::new(&arrays.param, 0),
            grad,
            state,
            grad_base: grad,
            walk: None,
            grad_walk: None,
        }
    }

    /// Any layouts: the arrays are visited in the order of the parameter's memory, the gradient's sums in C order.
    #[must_use]
    pub fn walked(tensor: usize, arrays: &Tensor, grad: Option<&Array>) -> Self {
        let present: Vec<Option<&Array>> =
            [Some(&arrays.param), grad].into_iter().chain(arrays.state.iter().map(Option::as_ref)).collect();
        let strides: Vec<&[isize]> =
            present.iter().map(|array| &array.unwrap_or(&arrays.param).layout.strides[..]).collect();
        let walk = Walk::by_memory(&arrays.param.layout.shape, &strides);
        let dense = present.iter().enumerate().all(|(k, array)| array.is_none_or(|array| is_in_place(&walk, k, array)));
        let operand = |k: usize| {
            let array = present.get(k).copied().flatten();
            array.map_or(Operand::ABSENT, |array| Operand::new(array, if dense { walk.start(k) } else { 0 }))
        };
        let reading = grad.map(|grad| Self::reading(tensor, grad));
        Self {
            tensor,
            len: arrays.param.layout.len(),
            compute: arrays.param.dtype.compute(),
            param: operand(0),
            grad: operand(1),
            state: std::array::from_fn(|k| operand(2 + k)),
            walk: (!dense).then(|| Box::new(walk)),
            grad_base: reading.as_ref().map_or(Operand::ABSENT, |row| row.grad_base),
            grad_walk: reading.and_then(|row| row.grad_walk),
        }
    }

    /// A gradient alone, computed in its own type.
    #[must_use]
    pub fn reading(tensor: usize, grad: &Array) -> Self {
        let walk = Walk::logical(&grad.layout.shape, &grad.layout.strides);
        Self {
            tensor,
            len: grad.layout.len(),
            compute: grad.dtype.compute(),
            param: Operand::ABSENT,
            grad: Operand::ABSENT,
            state: [Operand::ABSENT; MAX_STATE],
            walk: None,
            grad_base: Operand::new(grad, 0),
            grad_walk: (!is_in_place(&walk, 0, grad)).then(|| Box::new(walk)),
        }
    }

    /// Elements of the gradient in C order, in place; `None` if they must be staged.
    #[inline(always)]
    fn grad_values(&self, start: usize, len: usize) -> Option<Values<'_>> {
        assert!(start + len <= self.len, "a piece ends inside its row");
        // SAFETY: dense and aligned in C order, inside the array, and a step writes no gradient.
        self.grad_walk.is_none().then(|| unsafe { self.grad_base.values(start, len) })
    }

    /// Gathers elements of the gradient in C order, zeros behind them.
    fn gather_grad(&self, start: usize, len: usize, stage: &mut Buffer) {
        assert!(start + len <= self.len && len <= STAGE, "a staged piece ends inside its row");
        stage.clear();
        // SAFETY: the elements are inside the array, and a step writes no gradient.
        unsafe { self.grad_base.read(self.grad_walk.as_deref().map(|walk| (walk, 0)), start, len, stage) };
    }
}

fn is_in_place(walk: &Walk, k: usize, array: &Array) -> bool {
    walk.is_dense(k, array.dtype.size()) && is_aligned(array.layout.address, array.dtype)
}

/// The tensors of a step that have a gradient, and how they are cut.
#[derive(Debug, Default)]
pub struct Rows {
    rows: Vec<Row>,
    plan: Plan,
}

impl Rows {
    /// # Safety
    /// Whenever a method runs, the rows' arrays must be valid, and used by nobody else (gradients: written by nobody). No
    /// array that is written may share an element with another array of the rows.
    #[must_use]
    pub unsafe fn new(rows: Vec<Row>) -> Self {
        let plan = Plan::new(rows.iter().map(|row| row.len));
        Self { rows, plan }
    }

    /// How the rows are cut.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The gradients, in order.
    pub fn grads(&self) -> impl Iterator<Item = Grad<'_>> {
        self.rows.iter().map(|row| Grad { row })
    }

    /// Runs `work` once for every piece of the plan with its gradients, on several threads if that pays.
    pub fn for_each_grad_piece(&self, work: impl Fn(&mut dyn Iterator<Item = (&Chunk, Grad<'_>)>) + Sync) {
        parallel::for_each(self.plan.pieces(), self.plan.is_large(), &|piece| {
            work(&mut self.plan.chunks(piece).iter().map(|chunk| (chunk, Grad { row: &self.rows[chunk.row] })));
        });
    }

    /// Runs `work` once for every piece of the plan, on several threads if that pays.
    pub fn for_each_piece(&mut self, work: impl Fn(Pieces<'_>) + Sync) {
        let rows = &self.rows;
        parallel::for_each(self.plan.pieces(), self.plan.is_large(), &|piece| {
            work(Pieces { rows, chunks: self.plan.chunks(piece) });
        });
    }
}

/// A gradient of a step, to read.
#[derive(Clone, Copy, Debug)]
pub struct Grad<'a> {
    row: &'a Row,
}

impl<'a> Grad<'a> {
    /// Index of the tensor in its optimizer.
    #[must_use]
    pub const fn tensor(self) -> usize {
        self.row.tensor
    }

    /// Elements.
    #[must_use]
    pub const fn len(self) -> usize {
        self.row.len
    }

    /// The type in which it is computed.
    #[must_use]
    pub const fn compute(self) -> DType {
        self.row.compute
    }

    /// Elements in C order, in place; `None` if they must be staged.
    #[inline(always)]
    #[must_use]
    pub fn values(self, start: usize, len: usize) -> Option<Values<'a>> {
        self.row.grad_values(start, len)
    }

    /// Gathers elements in C order, zeros behind them.
    pub fn gather(self, start: usize, len: usize, stage: &mut Buffer) {
        self.row.gather_grad(start, len, stage);
    }
}

/// Chunks that belong to one turn of one thread.
#[derive(Debug)]
pub struct Pieces<'a> {
    rows: &'a [Row],
    chunks: &'a [Chunk],
}

impl<'a> Pieces<'a> {
    /// The next chunk, handed out once.
    #[inline(always)]
    pub fn next_chunk(&mut self) -> Option<ChunkArrays<'a>> {
        let (chunk, rest) = self.chunks.split_first()?;
        self.chunks = rest;
        Some(ChunkArrays { row: &self.rows[chunk.row], start: chunk.start, len: chunk.len })
    }
}

/// The arrays of a chunk, for the one who holds this.
#[derive(Debug)]
pub struct ChunkArrays<'a> {
    row: &'a Row,
    start: usize,
    len: usize,
}

impl ChunkArrays<'_> {
    /// Index of the tensor in its optimizer.
    #[must_use]
    pub const fn tensor(&self) -> usize {
        self.row.tensor
    }

    /// Elements.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// The type in which it is computed.
    #[must_use]
    pub const fn compute(&self) -> DType {
        self.row.compute
    }

    /// The first `len` elements of every array, in place; `None` if they must be staged.
    #[inline(always)]
    #[must_use]
    pub fn in_place<const N: usize>(&mut self, len: usize) -> Option<Piece<'_, N>> {
        assert!(len <= self.len && self.start + len <= self.row.len, "a piece ends inside its row");
        if self.row.walk.is_some() {
            return None;
        }
        let mut state = [const { ValuesMut::Absent }; N];
        // SAFETY: without a walk the arrays are dense and aligned; the chunk is inside them and was handed out once.
        unsafe {
            for k in 0..N {
                state[k] = self.row.state[k].values_mut(self.start, len);
            }
            let (param, grad) = (self.row.param.values_mut(self.start, len), self.row.grad.values(self.start, len));
            Some(Piece { param, grad, state })
        }
    }

    /// Gathers elements `at..at + len` of the chunk in every array.
    pub fn gather<const N: usize>(&mut self, at: usize, len: usize, stage: &mut Staged<N>) {
        assert!(at + len <= self.len && len <= STAGE, "a staged piece ends inside its chunk");
        let (row, start) = (self.row, self.start + at);
        let walk = |array| row.walk.as_deref().map(|walk| (walk, array));
        // SAFETY: the elements are inside the arrays, and the chunk was handed out once.
        unsafe {
            row.param.read(walk(0), start, len, &mut stage.param);
            row.grad.read(walk(1), start, len, &mut stage.grad);
            for k in 0..N {
                row.state[k].read(walk(2 + k), start, len, &mut stage.state[k]);
            }
        }
    }

    /// Writes parameter and state back to where [`Self::gather`] found them.
    pub fn scatter<const N: usize>(&mut self, at: usize, len: usize, stage: &Staged<N>) {
        assert!(at + len <= self.len && len <= STAGE, "a staged piece ends inside its chunk");
        let (row, start) = (self.row, self.start + at);
        let walk = |array| row.walk.as_deref().map(|walk| (walk, array));
        // SAFETY: the elements are inside the arrays, and the chunk was handed out once.
        unsafe {
            row.param.write(walk(0), start, len, &stage.param);
            for k in 0..N {
                row.state[k].write(walk(2 + k), start, len, &stage.state[k]);
            }
        }
    }
}
