//! Rows: one tensor of a step each; and how a row's pointers become the slices of a chunk.
#![allow(unsafe_code)]

use super::{
    bits::{Bits, Mask},
    fold::STRIP,
    mapping::Mapping,
    operand::Operand,
    plan::{Chunk, Plan},
    stage::{Buffer, Copies, Piece, STAGE, Staged},
    tensors::{Array, Tensor, is_aligned},
};
use crate::{
    dispatch,
    dtype::{DType, Values, ValuesMut},
    layout::Walk,
    parallel,
    simd::Isa,
};

/// State arrays a rule may have.
pub const MAX_STATE: usize = 4;

/// Places of a row's operands; the state's slots are in between.
const PARAM: usize = 0;
const GRAD: usize = 1;
const STATE: usize = 2;
const EMA: usize = STATE + MAX_STATE;
const SHADOW: usize = EMA + 1;
const OPERANDS: usize = SHADOW + 1;

/// One tensor of a step.
#[derive(Debug)]
pub struct Row {
    /// Index of the tensor in its optimizer.
    pub tensor: usize,
    /// Elements.
    pub len: usize,
    /// Elements of a unit: what belongs to one index of the first axis; all of them below two axes.
    pub unit: usize,
    /// The type in which it is computed.
    pub compute: DType,
    operands: [Operand; OPERANDS],
    factors: Option<Factors>,
    mask: Option<Mask>,
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
        let grad = Operand::at(address, dtype);
        let mut row = Self::of(tensor, arrays);
        for (operand, array) in row.operands.iter_mut().zip(arrays.present(None)) {
            *operand = array.map_or(Operand::ABSENT, |array| Operand::new(array, 0));
        }
        row.operands[GRAD] = grad;
        row.grad_base = grad;
        row
    }

    /// Any layouts: the arrays are visited in C order if elements are counted, else in the order of the parameter's memory;
    /// the gradient's sums in C order.
    #[must_use]
    pub fn walked(tensor: usize, arrays: &Tensor, grad: Option<&Array>, counted: bool) -> Self {
        let present = arrays.present(grad);
        let strides = present.map(|array| &array.unwrap_or(&arrays.param).layout.strides[..]);
        let shape = &arrays.param.layout.shape;
        let walk = if counted { Walk::logical(shape, &strides) } else { Walk::by_memory(shape, &strides) };
        let dense = present.iter().enumerate().all(|(k, array)| array.is_none_or(|array| is_in_place(&walk, k, array)));
        let mut row = Self::of(tensor, arrays);
        for (k, array) in present.into_iter().enumerate() {
            let start = if dense { walk.start(k) } else { 0 };
            row.operands[k] = array.map_or(Operand::ABSENT, |array| Operand::new(array, start));
        }
        row.walk = (!dense).then(|| Box::new(walk));
        if let Some(reading) = grad.map(|grad| Self::reading(tensor, grad)) {
            (row.grad_base, row.grad_walk) = (reading.grad_base, reading.grad_walk);
        }
        row
    }

    /// A row without operands.
    fn of(tensor: usize, arrays: &Tensor) -> Self {
        let (shape, len) = (&arrays.param.layout.shape, arrays.param.layout.len());
        Self {
            tensor,
            len,
            unit: if shape.len() > 1 { len / shape[0].max(1) } else { len },
            compute: arrays.param.dtype.compute(),
            operands: [Operand::ABSENT; OPERANDS],
            factors: arrays.factors.as_ref().map(|factors| Factors::new(shape, factors)),
            mask: arrays.mask.clone(),
            grad_base: Operand::ABSENT,
            walk: None,
            grad_walk: None,
        }
    }

    /// A gradient alone, computed in its own type.
    #[must_use]
    pub fn reading(tensor: usize, grad: &Array) -> Self {
        let walk = Walk::logical(&grad.layout.shape, &[&grad.layout.strides]);
        Self {
            tensor,
            len: grad.layout.len(),
            unit: grad.layout.len(),
            compute: grad.dtype.compute(),
            operands: [Operand::ABSENT; OPERANDS],
            factors: None,
            mask: None,
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

    /// Elements of the parameter in C order, in place; `None` if they must be staged. The row's elements are counted.
    #[inline(always)]
    fn param_values(&self, start: usize, len: usize) -> Option<Values<'_>> {
        assert!(start + len <= self.len, "a piece ends inside its row");
        // SAFETY: dense and aligned in C order, inside the array, and nobody writes it while gradients are read.
        self.walk.is_none().then(|| unsafe { self.operands[PARAM].values(start, len) })
    }

    /// Gathers elements of the parameter in C order, zeros behind them. The row's elements are counted.
    fn gather_param(&self, start: usize, len: usize, stage: &mut Buffer) {
        assert!(start + len <= self.len && len <= STAGE, "a staged piece ends inside its row");
        stage.clear();
        // SAFETY: the elements are inside the array, and nobody writes it while gradients are read.
        unsafe { self.operands[PARAM].read(self.walk.as_deref().map(|walk| (walk, PARAM)), start, len, stage) };
    }

    /// Gathers elements of the gradient in C order, zeros behind them.
    fn gather_grad(&self, start: usize, len: usize, stage: &mut Buffer) {
        assert!(start + len <= self.len && len <= STAGE, "a staged piece ends inside its row");
        stage.clear();
        // SAFETY: the elements are inside the array, and a step writes no gradient.
        unsafe { self.grad_base.read(self.grad_walk.as_deref().map(|walk| (walk, 0)), start, len, stage) };
    }
}

/// Means of squared gradients over the rows and the columns of a tensor's last two axes.
#[derive(Clone, Debug)]
pub struct Factors {
    /// Rows of a matrix.
    pub height: usize,
    /// Columns of a matrix.
    pub width: usize,
    /// Matrices.
    pub count: usize,
    means: [(Operand, Walk); 2],
}

impl Factors {
    /// The means of a tensor of two or more axes.
    fn new(shape: &[usize], [rows, columns]: &[Array; 2]) -> Self {
        let (outer, matrix) = shape.split_at(shape.len().saturating_sub(2));
        let axis = |k: usize| matrix.get(k).copied().unwrap_or(1);
        let of = |array: &Array| {
            let walk = Walk::logical(&array.layout.shape, &[&array.layout.strides]);
            (Operand::new(array, 0), walk)
        };
        Self { height: axis(0), width: axis(1), count: outer.iter().product(), means: [of(rows), of(columns)] }
    }

    /// Replaces each stored mean (0: of rows, 1: of columns) by `new(number, old)`; returns these before they are stored.
    pub fn average(&mut self, isa: Isa, which: usize, numbers: &[f64], new: impl Fn(f64, f64) -> f64) -> Vec<f64> {
        let mut results = Vec::with_capacity(numbers.len());
        let ((operand, walk), mut stage) = (&self.means[which], Buffer::default());
        for (k, numbers) in numbers.chunks(STAGE).enumerate() {
            // SAFETY: the array has these elements, and the rows that lent `self` own it.
            unsafe { operand.read(Some((walk, 0)), k * STAGE, numbers.len(), &mut stage) };
            let mut stored = dispatch!(isa, simd => stage.numbers(simd));
            for (old, &number) in stored.iter_mut().zip(numbers) {
                *old = new(number, *old);
                results.push(*old);
            }
            dispatch!(isa, simd => stage.set_numbers(simd, &stored));
            // SAFETY: as above.
            unsafe { operand.write(Some((walk, 0)), k * STAGE, numbers.len(), &stage) };
        }
        results
    }
}

fn is_in_place(walk: &Walk, k: usize, array: &Array) -> bool {
    walk.is_dense(k, array.dtype.size()) && is_aligned(array.layout.address, array.dtype)
}

/// The tensors of a step that have a gradient, and how they are cut.
#[derive(Debug, Default)]
pub struct Rows {
    all: Vec<Row>,
    plan: Plan,
    zeroes_grads: bool,
    mapping: Option<Mapping>,
}

impl Rows {
    /// # Safety
    /// Whenever a method runs, the rows' arrays must be valid, and used by nobody else (gradients: written by nobody). No
    /// array that is written may share an element with another array of the rows.
    #[must_use]
    pub unsafe fn new(rows: Vec<Row>) -> Self {
        let plan = Plan::new(rows.iter().map(|row| row.len));
        Self { all: rows, plan, zeroes_grads: false, mapping: None }
    }

    /// The same rows; their gradients become zero when they have been used.
    ///
    /// # Safety
    /// As [`Self::new`], and gradients are among the arrays that are written.
    #[must_use]
    pub unsafe fn zeroing_grads(self) -> Self {
        Self { zeroes_grads: true, ..self }
    }

    /// The same rows; pages of that mapping are let go of behind each sweep.
    #[must_use]
    pub fn in_mapping(self, mapping: Mapping) -> Self {
        Self { mapping: Some(mapping), ..self }
    }

    /// How the rows are cut.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Elements of a row.
    #[must_use]
    pub fn len_of(&self, row: usize) -> usize {
        self.all[row].len
    }

    /// The type in which a row is computed.
    #[must_use]
    pub fn compute_of(&self, row: usize) -> DType {
        self.all[row].compute
    }

    /// For each row the index of its tensor.
    pub fn tensors(&self) -> impl Iterator<Item = usize> + '_ {
        self.all.iter().map(|row| row.tensor)
    }

    /// For each row whether its second moment is factored.
    pub fn have_factors(&self) -> impl Iterator<Item = bool> + '_ {
        self.all.iter().map(|row| row.factors.is_some())
    }

    /// Height and width of a row's matrices, if its second moment is factored.
    #[must_use]
    pub fn matrices_of(&self, row: usize) -> Option<(usize, usize)> {
        self.all[row].factors.as_ref().map(|factors| (factors.height, factors.width))
    }

    /// The stored means of a row, if its second moment is factored.
    pub fn factors_mut(&mut self, row: usize) -> Option<&mut Factors> {
        self.all[row].factors.as_mut()
    }

    /// The gradient of a row.
    #[must_use]
    pub fn grad(&self, row: usize) -> Grad<'_> {
        Grad { row: &self.all[row] }
    }

    /// Is some parameter pruned?
    #[must_use]
    pub fn has_masks(&self) -> bool {
        self.all.iter().any(|row| row.mask.is_some())
    }

    /// The gradients, in order.
    pub fn grads(&self) -> impl Iterator<Item = Grad<'_>> {
        self.all.iter().map(|row| Grad { row })
    }

    /// Runs `work` once for every piece of the plan with its gradients, on several threads if that pays.
    pub fn for_each_grad_piece(&self, work: impl Fn(&mut dyn Iterator<Item = (&Chunk, Grad<'_>)>) + Sync) {
        parallel::for_each(self.plan.pieces(), self.plan.is_large(), &|piece| {
            work(&mut self.plan.chunks(piece).iter().map(|chunk| (chunk, Grad { row: &self.all[chunk.row] })));
        });
    }

    /// Runs `work` once for every piece of the plan, on several threads if that pays.
    pub fn for_each_piece(&mut self, work: impl Fn(Pieces<'_>) + Sync) {
        let (rows, zeroes_grads, mapping) = (&self.all, self.zeroes_grads, self.mapping.as_ref());
        parallel::for_each(self.plan.pieces(), self.plan.is_large(), &|piece| {
            work(Pieces { rows, chunks: self.plan.chunks(piece), zeroes_grads, mapping });
        });
        if let Some(mapping) = mapping {
            mapping.release_all();
        }
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

    /// Elements of a unit.
    #[must_use]
    pub const fn unit(self) -> usize {
        self.row.unit
    }

    /// Which elements are kept, from `start` on; `None` if all are.
    #[inline(always)]
    #[must_use]
    pub fn kept(self, start: usize) -> Option<Bits<'a>> {
        self.row.mask.as_ref().map(|mask| mask.from(start))
    }

    /// The gradient's parameter in place of the gradient, for rows whose elements are counted.
    #[must_use]
    pub const fn param(self) -> Param<'a> {
        Param { row: self.row }
    }

    /// Gathers elements in C order, zeros behind them.
    pub fn gather(self, start: usize, len: usize, stage: &mut Buffer) {
        self.row.gather_grad(start, len, stage);
    }
}

/// Elements in C order that can be read.
pub trait Read: Copy {
    /// In place; `None` if they must be staged.
    fn in_place(&self, start: usize, len: usize) -> Option<Values<'_>>;

    /// Gathered, with zeros behind them.
    fn gathered(&self, start: usize, len: usize, stage: &mut Buffer);
}

impl Read for Grad<'_> {
    #[inline(always)]
    fn in_place(&self, start: usize, len: usize) -> Option<Values<'_>> {
        self.values(start, len)
    }

    fn gathered(&self, start: usize, len: usize, stage: &mut Buffer) {
        self.gather(start, len, stage);
    }
}

/// The parameter of a row whose elements are counted, to read.
#[derive(Clone, Copy, Debug)]
pub struct Param<'a> {
    row: &'a Row,
}

impl Read for Param<'_> {
    #[inline(always)]
    fn in_place(&self, start: usize, len: usize) -> Option<Values<'_>> {
        self.row.param_values(start, len)
    }

    fn gathered(&self, start: usize, len: usize, stage: &mut Buffer) {
        self.row.gather_param(start, len, stage);
    }
}

/// Chunks that belong to one turn of one thread.
#[derive(Debug)]
pub struct Pieces<'a> {
    rows: &'a [Row],
    chunks: &'a [Chunk],
    zeroes_grads: bool,
    mapping: Option<&'a Mapping>,
}

impl<'a> Pieces<'a> {
    /// The next chunk, handed out once.
    #[inline(always)]
    pub fn next_chunk(&mut self) -> Option<ChunkArrays<'a>> {
        let (chunk, rest) = self.chunks.split_first()?;
        self.chunks = rest;
        let (row, chunk) = (&self.rows[chunk.row], *chunk);
        Some(ChunkArrays { row, chunk, zeroes_grads: self.zeroes_grads, mapping: self.mapping })
    }
}

/// The arrays of a chunk, for the one who holds this.
#[derive(Debug)]
pub struct ChunkArrays<'a> {
    row: &'a Row,
    chunk: Chunk,
    zeroes_grads: bool,
    mapping: Option<&'a Mapping>,
}

impl Drop for ChunkArrays<'_> {
    /// Lets go of the chunk's pages, if it has any in a file and they are one range.
    fn drop(&mut self) {
        let (Some(mapping), true) = (self.mapping, self.is_in_place()) else { return };
        for operand in &self.row.operands {
            mapping.release(operand.addresses(self.chunk.start, self.chunk.len));
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
