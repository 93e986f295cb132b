//! What a row ought to be: a label or probabilities, with smoothing, weights and rows that do not count.

use fearless_simd::prelude::*;

use super::{Block, Shape, sum_of};
use crate::{array::Input, dispatch, error::Error, map::WIDEST, math::Math, simd::Isa};

/// A class for each row.
#[derive(Clone, Copy, Debug)]
pub struct Labels<'a> {
    /// The classes; those of an unsigned type beyond int64 as negative numbers.
    pub values: &'a [i64],
    /// Was their type unsigned?
    pub is_unsigned: bool,
    /// The label of rows that do not count.
    pub ignored: Option<i64>,
}

impl Labels<'_> {
    /// Fails at the first label that is neither a class nor ignored.
    pub fn check(&self, classes: usize) -> Result<(), Error> {
        let is_wrong = |&(_, &label): &(usize, &i64)| label as u64 >= classes as u64 && Some(label) != self.ignored;
        let Some((index, &label)) = self.values.iter().enumerate().find(is_wrong) else { return Ok(()) };
        let value = if self.is_unsigned { i128::from(label as u64) } else { i128::from(label) };
        Err(Error::Label { value, index, classes })
    }

    #[inline(always)]
    fn class(&self, row: usize) -> Option<usize> {
        let label = self.values[row];
        if Some(label) == self.ignored { None } else { Some(label as usize) }
    }
}

/// What rows ought to be.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// A class for each row; they were checked.
    Labels(Labels<'a>),
    /// A probability for each element, in the compute type.
    Probabilities(&'a Input),
}

/// A cross entropy.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// The rows.
    pub shape: Shape,
    /// What they ought to be.
    pub target: Target<'a>,
    /// A factor for each class, in the compute type.
    pub weight: Option<&'a Input>,
    /// Which part of a target all classes share.
    pub smoothing: f64,
    /// Is the mean wanted, or the sum?
    pub is_mean: bool,
}

impl Settings<'_> {
    /// What the sum is divided by: 1, the number of rows or the sum of the labels' weights; `room` has a number for each row.
    pub(super) fn divisor(&self, isa: Isa, room: &mut [f64]) -> f64 {
        match self.target {
            _ if !self.is_mean => 1.0,
            Target::Probabilities(_) => self.shape.rows as f64,
            Target::Labels(labels) => {
                let weights = wide(isa, self.weight);
                for row in 0..room.len() {
                    let of_class = |class: usize| weights.as_ref().map_or(1.0, |weights| weights[class]);
                    room[row] = labels.class(row).map_or(0.0, of_class);
                }
                sum_of(isa, room)
            }
        }
    }
}

/// The numbers as float64.
fn wide(isa: Isa, input: Option<&Input>) -> Option<Vec<f64>> {
    let input = input?;
    let mut all = vec![];
    dispatch!(isa, simd => input.copy(simd, 0, input.len(), &mut all));
    all.truncate(input.len());
    Some(all)
}

/// The targets of a pass.
pub(super) struct Targets<'a, T> {
    target: Target<'a>,
    /// Weights of the classes, and room for a vector; empty if labels have none.
    weight: Vec<T>,
    /// What smoothing takes off each class's gradient, and room for a vector; empty if there is none.
    table: Vec<T>,
    /// 1 - smoothing
    pub(super) keep: f64,
    /// smoothing / classes
    pub(super) base: f64,
    pub(super) scale: f64,
    /// Of all classes.
    pub(super) weight_sum: f64,
}

impl<'a, T: Math> Targets<'a, T> {
    pub(super) fn new(isa: Isa, settings: &Settings<'a>, scale: f64) -> Self {
        let classes = settings.shape.len;
        let (keep, base) = (1.0 - settings.smoothing, settings.smoothing / classes as f64);
        let (mut weight, mut table, mut weight_sum) = (vec![], vec![], classes as f64);
        let wide = wide(isa, settings.weight);
        if wide.is_some() || matches!(settings.target, Target::Probabilities(_)) {
            weight.resize(classes + WIDEST, T::ONE);
        }
        if let Some(wide) = &wide {
            for i in 0..classes {
                weight[i] = T::from_f64(wide[i]);
            }
            weight_sum = sum_of(isa, wide);
        }
        if base > 0.0 {
            table.resize(classes + WIDEST, T::ZERO);
            for i in 0..classes {
                table[i] = T::from_f64(scale * (base * wide.as_ref().map_or(1.0, |wide| wide[i])));
            }
        }
        Self { target: settings.target, weight, table, keep, base, scale, weight_sum }
    }

    #[inline(always)]
    pub(super) const fn has_labels(&self) -> bool {
        matches!(self.target, Target::Labels(_))
    }

    /// Probabilities `start..start + len`, or nothing.
    #[inline(always)]
    pub(super) fn block<'b, S: Simd>(&'b self, simd: S, start: usize, len: usize, room: &'b mut Vec<T>) -> &'b [T] {
        match self.target {
            Target::Labels(_) => &[],
            Target::Probabilities(q) => q.block(simd, start, len, room),
        }
    }

    /// Weights of the block's elements, and what follows them.
    #[inline(always)]
    pub(super) fn weight(&self, block: Block) -> Option<&[T]> {
        self.weight.get(block.at..).filter(|weight| !weight.is_empty())
    }

    /// What smoothing takes off the elements of row `i` of the block, and what follows that.
    #[inline(always)]
    pub(super) fn table(&self, block: Block, i: usize) -> Option<&[T]> {
        if self.table.is_empty() || self.is_ignored(block.row + i) { None } else { Some(&self.table[block.at..]) }
    }

    #[inline(always)]
    pub(super) fn is_ignored(&self, row: usize) -> bool {
        match self.target {
            Target::Labels(labels) => labels.class(row).is_none(),
            Target::Probabilities(_) => false,
        }
    }

    /// Where the label of row `i` stands in the block, if it does, and its share of the target times its weight.
    #[inline(always)]
    pub(super) fn label_in(&self, block: Block, i: usize) -> Option<(usize, f64)> {
        let Target::Labels(labels) = self.target else { return None };
        let class = labels.class(block.row + i)?;
        let weight = if self.weight.is_empty() { 1.0 } else { self.weight[class].to_f64() };
        if class < block.at || class - block.at >= block.len {
            return None;
        }
        Some((class - block.at, self.keep * weight))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_label_that_is_no_class_is_named() {
        let labels = |values, ignored, is_unsigned| Labels { values, is_unsigned, ignored };
        assert_eq!(labels(&[0, 2, -100], Some(-100), false).check(3), Ok(()));
        let error = labels(&[0, 3, 4], None, false).check(3).unwrap_err().to_string();
        assert_eq!(error, "labels must be in [0, 3), got 3 at index 1");
        let error = labels(&[0, -1], Some(-100), false).check(3).unwrap_err().to_string();
        assert_eq!(error, "labels must be in [0, 3), got -1 at index 1");
        let error = labels(&[-1], None, true).check(3).unwrap_err().to_string();
        assert_eq!(error, "labels must be in [0, 3), got 18446744073709551615 at index 0");
    }
}
