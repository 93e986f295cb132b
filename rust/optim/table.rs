//! The rows of a step, and the pieces of work that they are cut into.
#![allow(unsafe_code)]

use super::{
    chunk::ChunkArrays,
    grad::Grad,
    mapping::Mapping,
    plan::{Chunk, Plan},
    row::{Factors, Row},
};
use crate::{dtype::DType, parallel};

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
