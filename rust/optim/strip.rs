//! The pipeline with everything that is folded around a rule, strip by strip.

use fearless_simd::prelude::*;

use super::{
    bits::Bits,
    chunk::{ChunkArrays, Strip},
    coded::Decoded,
    factor::Means,
    fold::{Finish, Preparation, STRIP, Scratch, prepare},
    grad::Grad,
    measure::{Sums, Wanted},
    pipeline::{Looped, Pass, Scaled},
    row::MAX_STATE,
    stage::{Copies, Piece, Staged},
};
use crate::{
    array::{
        buffer::Buffer,
        reading::{decode, read},
        spread::Spread,
    },
    dtype::{Compute, Values, ValuesMut},
    random::Philox,
    reduce::LANES,
    simd::tile_len,
};

impl Pass<'_> {
    /// Is there anything around the rule but a factor?
    pub(super) fn is_folded(&self, chunk: &ChunkArrays<'_>, means: Option<&Means>) -> bool {
        let after = chunk.has_copies() || chunk.zeroes_grads() || self.rounding(chunk).is_some();
        let is_coded = chunk.is_coded() != [false; MAX_STATE];
        self.prepares(chunk) || (after && !self.folds.only_rule) || means.is_some() || is_coded
    }

    fn prepares(&self, chunk: &ChunkArrays<'_>) -> bool {
        self.folds.limit.is_some() || self.folds.unit_factors.is_some() || chunk.kept(0).is_some()
    }

    /// The random stream of a 16-bit parameter that is rounded at random.
    fn rounding(&self, chunk: &ChunkArrays<'_>) -> Option<Philox> {
        let philox = self.folds.rounding.filter(|_| chunk.is_half() && !self.folds.only_rule)?;
        Some(Philox { stream: philox.stream + chunk.tensor() as u32, ..philox })
    }

    /// The random stream of state that is rounded at random.
    fn state_rounding(&self, chunk: &ChunkArrays<'_>) -> Option<Philox> {
        let philox = self.folds.state_rounding?;
        Some(Philox { stream: philox.stream + chunk.tensor() as u32, ..philox })
    }

    /// A chunk strip by strip, in place as far as that goes, the rest by way of the stage.
    #[inline(never)]
    pub(super) fn work_on_strips<S: Simd, T: Compute, const N: usize>(
        &self,
        simd: S,
        rule: Looped<'_, S, T, N>,
        chunk: &mut ChunkArrays<'_>,
        stage: &mut Staged<N>,
        means: Option<&Means>,
        wanted: Option<&Wanted>,
    ) {
        let mut scratch = Scratch::default();
        let mut sums = Sums::default();
        let (is_coded, mut decoded) = (chunk.is_coded(), Decoded::default());
        let mut at = 0;
        while let Some(strip) = chunk.strip(at) {
            decoded.fill(simd, chunk, at);
            if strip.is_staged {
                chunk.gather(at, strip.len, stage);
            }
            let work = self.folding(chunk, strip, means);
            let (mut piece, mut copies) = if strip.is_staged { stage.piece() } else { chunk.in_place(at, strip.len) };
            decoded.stand_in(is_coded, at, &mut piece.state);
            match wanted {
                Some(_) => work.measure(simd, rule, &mut piece, &mut scratch, &mut sums),
                None => work.step(simd, rule, &mut piece, &mut copies, &mut scratch),
            }
            at += strip.len;
            match wanted {
                Some(wanted) => wanted.take(&mut sums, chunk.chunk(), at),
                None => {
                    self.leave(chunk, strip, stage);
                    if !self.folds.only_rule {
                        decoded.leave(simd, chunk, at, self.state_rounding(chunk));
                    }
                }
            }
        }
    }

    fn folding<'a>(&'a self, chunk: &ChunkArrays<'a>, strip: Strip, means: Option<&'a Means>) -> Folding<'a> {
        let row = chunk.chunk().row;
        let factors = |all: &'a [Vec<f64>]| Spread::Repeat { table: &all[row], run: chunk.unit() };
        Folding {
            kept: chunk.kept(strip.at),
            prepares: self.prepares(chunk),
            unit_factors: self.folds.unit_factors.map(factors),
            means: means.and_then(|means| means.of_row(row)),
            rounding: self.rounding(chunk),
            ema_weight: self.folds.ema_weight,
            only_rule: self.folds.only_rule,
            first: chunk.chunk().start + strip.at,
            len: strip.len,
        }
    }

    /// Brings a stepped strip back to where it came from.
    fn leave<const N: usize>(&self, chunk: &mut ChunkArrays<'_>, strip: Strip, stage: &Staged<N>) {
        if strip.is_staged {
            chunk.scatter(strip.at, strip.len, stage);
        }
        if chunk.zeroes_grads() && !self.folds.only_rule {
            chunk.zero_grad(strip.at, strip.len);
        }
    }
}

/// What is folded around the rule on one strip.
#[derive(Debug)]
struct Folding<'a> {
    kept: Option<Bits<'a>>,
    prepares: bool,
    unit_factors: Option<Spread<'a>>,
    means: Option<[Spread<'a>; 2]>,
    rounding: Option<Philox>,
    ema_weight: f64,
    only_rule: bool,
    /// The strip's first element in C order.
    first: usize,
    len: usize,
}

impl Folding<'_> {
    /// Whole tiles that cover the strip.
    #[inline(always)]
    const fn padded<S: Simd, T: Compute>(&self) -> usize {
        self.len.next_multiple_of(tile_len::<S, T>())
    }

    /// The gradient as the rule wants it, if more than a factor is asked for.
    #[inline(always)]
    fn prepare<'b, S: Simd, T: Compute, R>(
        &self,
        simd: S,
        rule: &mut Scaled<R, T>,
        grad: Values<'b>,
        room: &'b mut [T],
        factors: &mut [T],
    ) -> Values<'b> {
        if !self.prepares {
            return grad;
        }
        let len = self.padded::<S, T>();
        if let Some(spread) = self.unit_factors {
            spread.fill(simd, self.first, &mut factors[..len]);
        }
        let factors = self.unit_factors.map(|_| &*factors);
        prepare(simd, grad, self.kept, rule.preparation, factors, room, len);
        rule.factor = T::from_f64(1.0);
        T::values(room)
    }

    /// Means of rows and columns stand in for the first two state arrays.
    #[inline(always)]
    fn spread_means<'b, S: Simd, T: Compute, const N: usize>(
        &self,
        simd: S,
        state: &'b mut [ValuesMut<'_>; N],
        room: &'b mut [[T; STRIP]; 2],
        len: usize,
    ) -> [ValuesMut<'b>; N] {
        let mut all = [const { ValuesMut::Absent }; N];
        for (all, values) in all.iter_mut().zip(state) {
            *all = values.reborrow();
        }
        if let Some(spreads) = self.means {
            for ((all, spread), room) in all.iter_mut().zip(spreads).zip(room) {
                spread.fill(simd, self.first, &mut room[..len]);
                *all = T::values_mut(room);
            }
        }
        all
    }

    #[inline(always)]
    fn step<S: Simd, T: Compute, const N: usize>(
        &self,
        simd: S,
        mut rule: Looped<'_, S, T, N>,
        piece: &mut Piece<'_, N>,
        copies: &mut Copies<'_>,
        scratch: &mut Scratch<T>,
    ) {
        let len = self.padded::<S, T>();
        let grad = self.prepare(simd, &mut rule, piece.grad, &mut scratch.grad, &mut scratch.factors);
        let state = self.spread_means(simd, &mut piece.state, &mut scratch.means, len);
        if self.rounding.is_some() {
            decode(simd, piece.param.as_values(), &mut scratch.param, len);
            let param = T::values_mut(&mut scratch.param);
            rule.rule.step(simd, rule.factor, &mut Piece { param, grad, state }, len);
        } else {
            let mut piece = Piece { param: piece.param.reborrow(), grad, state };
            rule.rule.step(simd, rule.factor, &mut piece, len);
        }
        if self.only_rule {
            return;
        }
        let unrounded = self.rounding.map(|philox| {
            let words = &mut scratch.words[..len];
            simd.vectorize(
                #[inline(always)]
                || philox.words(self.first as u64, words),
            );
            (&scratch.param[..], &scratch.words[..])
        });
        let finish = Finish { kept: self.kept, ema_weight: T::from_f64(self.ema_weight), unrounded };
        finish.run(simd, &mut piece.param, &mut piece.state, copies, len);
    }

    /// Adds the squares of the parameter and of what the rule measures.
    #[inline(always)]
    fn measure<S: Simd, T: Compute, const N: usize>(
        &self,
        simd: S,
        mut rule: Looped<'_, S, T, N>,
        piece: &mut Piece<'_, N>,
        scratch: &mut Scratch<T>,
        sums: &mut Sums,
    ) {
        let len = self.padded::<S, T>();
        let grad = self.prepare(simd, &mut rule, piece.grad, &mut scratch.grad, &mut scratch.factors);
        let state = self.spread_means(simd, &mut piece.state, &mut scratch.means, len);
        decode(simd, piece.param.as_values(), &mut scratch.param, len);
        let mut piece = Piece { param: piece.param.reborrow(), grad, state };
        rule.rule.measure(simd, rule.factor, &mut piece, &mut scratch.measured, len);
        sums.add(simd, &mut scratch.param, &mut scratch.measured, self.len);
    }
}

/// A gradient to be read as the rule will see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct PreparedGrad<'a, T> {
    grad: Grad<'a>,
    preparation: Preparation<T>,
    unit_factors: Option<Spread<'a>>,
}

impl<'a, T: Compute> PreparedGrad<'a, T> {
    pub(super) fn new<R>(pass: &'a Pass<'_>, row: usize, grad: Grad<'a>, rule: &Scaled<R, T>) -> Self {
        let spread = |all: &'a [Vec<f64>]| Spread::Repeat { table: &all[row], run: grad.unit() };
        Self { grad, preparation: rule.preparation, unit_factors: pass.folds.unit_factors.map(spread) }
    }

    /// Elements `start..start + len`, and something behind them up to a multiple of the lanes: zeros without factors.
    pub(super) fn read<S: Simd>(self, simd: S, start: usize, len: usize, out: &mut [T], stage: &mut Buffer) {
        let (mut raw, mut factors) = ([T::default(); STRIP], [T::default(); STRIP]);
        for at in (0..len).step_by(STRIP) {
            let (first, count) = (start + at, STRIP.min(len - at));
            read(simd, self.grad, first, count, &mut raw, stage);
            if let Some(spread) = self.unit_factors {
                spread.fill(simd, first, &mut factors);
            }
            let factors = self.unit_factors.map(|_| &factors[..]);
            let (raw, padded) = (T::values(&raw), count.next_multiple_of(LANES));
            prepare(simd, raw, self.grad.kept(first), self.preparation, factors, &mut out[at..], padded);
        }
    }
}
