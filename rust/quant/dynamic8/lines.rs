//! Ranks by comparisons: the line of a number is that of the first stretch that is not over before it.

use fearless_simd::prelude::*;

use super::{
    grid::{DECADES, Grid},
    map::magic,
};

/// Stretches of numbers: those that become zero, the decades, those that become one.
const STRETCHES: usize = DECADES + 2;

/// rank = value · slope + offset, no more than end.
#[derive(Clone, Copy)]
struct Line {
    slope: f32,
    offset: f32,
    end: f32,
    /// The largest number of the stretch.
    last: f32,
}

pub(super) struct Lines([Line; STRETCHES]);

impl Line {
    const fn level<const N: usize>(index: usize, last: f32) -> Self {
        Self { slope: 0.0, offset: index as f32 + 0.5 + magic::<N>(), end: f32::MAX, last }
    }

    #[inline(always)]
    fn rank<S: Simd>(&self, x: S::f32s) -> S::f32s {
        (x * self.slope + self.offset).min(self.end)
    }
}

impl Lines {
    pub(super) const fn new<const N: usize>(grid: &Grid<N>) -> Self {
        let mut lines = [Line::level::<N>(0, grid.last[0]); STRETCHES];
        lines[STRETCHES - 1] = Line::level::<N>(N - 1, f32::MAX);
        let mut decade = 0;
        while decade < DECADES {
            lines[1 + decade] = Line {
                slope: grid.slope(decade) as f32,
                offset: (grid.offset(decade) + magic::<N>() as f64) as f32,
                end: (grid.index(decade) + grid.steps(decade)) as f32 - 0.5 + magic::<N>(),
                last: grid.decade_last(decade),
            };
            decade += 1;
        }
        Self(lines)
    }

    /// The ranks of magnitudes, plus [`magic`], as bits.
    #[inline(always)]
    pub(super) fn rank<S: Simd>(&self, x: S::f32s) -> S::u32s {
        let mut rank = self.0[STRETCHES - 1].rank::<S>(x);
        for k in 0..STRETCHES - 1 {
            let line = &self.0[STRETCHES - 2 - k];
            rank = x.simd_gt(line.last).select(rank, line.rank::<S>(x));
        }
        rank.bitcast()
    }
}
