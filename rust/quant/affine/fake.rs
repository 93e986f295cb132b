//! There and back at once, and its gradients: numbers stay numbers, as if they had been codes.
//!
//! r = round(x / scale), y = clamp(r, qmin - zero, qmax - zero) · scale. The gradient goes straight through where r is between
//! the bounds and is 0 elsewhere. That of the scale is dy times r - x / scale between the bounds, and the bound elsewhere
//! (learned step size, Esser et al. 2020): products rounded to the compute type, added up in float64 over each channel.

use fearless_simd::prelude::*;

use super::fake_formula::{Forward, Learned, Same, Straight};
use crate::{
    activation::{
        BLOCK,
        bias::{Line, Piece, add_sums, pieces},
    },
    array::{Input, Output},
    dispatch,
    dtype::DType,
    map::{Map, Next, map, map_before},
    math::Math,
    norm::channels::Channels,
    parallel,
    simd::Isa,
};

/// From this many elements on a call is worth more than one thread.
const PARALLEL: usize = 64 * 1024;

/// Scales, zero points and bounds.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// One a channel.
    pub scales: &'a [f64],
    /// The codes of 0, likewise.
    pub zero_points: &'a [f64],
    /// The least and the largest code.
    pub bounds: [f64; 2],
    /// x · (1 / scale) instead of x / scale.
    pub is_reciprocal: bool,
    /// Where the channels are.
    pub shape: Channels,
}

/// What is written: y, or dx and sums over channels.
#[derive(Debug)]
pub struct Outputs<'a> {
    /// y or dx.
    pub out: &'a mut Output,
    /// Gradients of the scales; empty to go forward.
    pub dscales: &'a mut [f64],
}

/// A scale and a zero point for each element of a line.
struct Table<T> {
    scale: Vec<T>,
    zero: Vec<T>,
}

/// Room for what is read and staged of a block.
#[derive(Default)]
struct Room<T> {
    x: Vec<T>,
    dy: Vec<T>,
    staged: Vec<T>,
    terms: Vec<T>,
}

/// One call.
struct Pass<'a, T> {
    settings: Settings<'a>,
    line: Line,
    table: Option<Table<T>>,
    x: &'a Input,
    dy: Option<&'a Input>,
}

/// y of `x`, or with `dy` its gradient and that of the scales.
pub fn run(isa: Isa, settings: Settings<'_>, x: &Input, dy: Option<&Input>, outputs: &mut Outputs<'_>) {
    match x.dtype().compute() {
        DType::F64 => run_as::<f64>(isa, settings, x, dy, outputs),
        _ => run_as::<f32>(isa, settings, x, dy, outputs),
    }
}

fn run_as<T: Math>(isa: Isa, settings: Settings<'_>, x: &Input, dy: Option<&Input>, outputs: &mut Outputs<'_>) {
    let line = Line::new(settings.shape);
    let has_table = line.has_table && settings.shape.channels > 1;
    let table = has_table.then(|| {
        let spread = |numbers: &[f64]| (0..line.len).map(|k| T::from_f64(numbers[line.channel(k)])).collect();
        Table { scale: spread(settings.scales), zero: spread(settings.zero_points) }
    });
    let mut pieces = pieces(line, x.len(), outputs.out, dy.is_some());
    let pass = Pass { settings, line, table, x, dy };
    parallel::for_each_mut(&mut pieces, x.len() >= PARALLEL, &|_, piece| {
        dispatch!(isa, simd => pass.work_on(simd, piece));
    });
    add_sums(&pieces, outputs.dscales);
}

impl<T: Math> Pass<'_, T> {
    #[inline(always)]
    fn work_on<S: Simd>(&self, simd: S, piece: &mut Piece<'_>) {
        let mut room = Room::default();
        for (start, len) in piece.blocks(self.line) {
            self.block(simd, start, len, piece, &mut room);
        }
    }

    #[inline(always)]
    fn block<S: Simd>(&self, simd: S, start: usize, len: usize, piece: &mut Piece<'_>, room: &mut Room<T>) {
        let (Room { x, dy, staged, terms }, at) = (room, start % self.line.len);
        let x = self.x.block(simd, start, len, x);
        let dy = self.dy.map(|input| input.block(simd, start, len, dy));
        if let (Some(dy), Some(sums)) = (dy, &mut piece.sums) {
            terms.resize(terms.len().max(len), T::default());
            self.gradient(simd, at, [x, dy], &mut terms[..len], Learned);
            sums.add(simd, at, &terms[..len]);
        }
        piece.out.fill(
            simd,
            start,
            len,
            staged,
            #[inline(always)]
            |out| match dy {
                None => self.forward(simd, at, x, out),
                Some(dy) => self.gradient(simd, at, [x, dy], out, Straight),
            },
        );
    }

    /// The numbers of a run of elements from `at` of a line on, and how many of `len` elements it has.
    #[inline(always)]
    fn run(&self, at: usize, len: usize) -> (Same<T>, usize) {
        let (scales, zeros) = (self.settings.scales, self.settings.zero_points);
        if scales.len() == 1 {
            return (Same::new(self.settings.bounds, self.settings.is_reciprocal, scales[0], zeros[0]), len);
        }
        let (channel, inner) = (at / self.settings.shape.inner, self.settings.shape.inner);
        (
            Same::new(self.settings.bounds, self.settings.is_reciprocal, scales[channel], zeros[channel]),
            len.min(inner - at % inner),
        )
    }

    #[inline(always)]
    fn forward<S: Simd>(&self, simd: S, at: usize, x: &[T], out: &mut [T]) {
        let next = Next { inputs: 1, after: BLOCK };
        if let Some(Table { scale, zero }) = &self.table {
            let (f, len) = (Forward(Same::new(self.settings.bounds, self.settings.is_reciprocal, 1.0, 0.0)), x.len());
            return map_before(simd, [x, &scale[at..at + len], &zero[at..at + len]], out, f, next);
        }
        let mut done = 0;
        while done < x.len() {
            let (same, len) = self.run(at + done, x.len() - done);
            map_before(simd, [&x[done..done + len]], &mut out[done..done + len], Forward(same), next);
            done += len;
        }
    }

    #[inline(always)]
    fn gradient<S: Simd, G: Map<T, 2> + Map<T, 4>>(
        &self,
        simd: S,
        at: usize,
        [x, dy]: [&[T]; 2],
        out: &mut [T],
        gradient: fn(Same<T>) -> G,
    ) {
        if let Some(Table { scale, zero }) = &self.table {
            let (f, len) = (gradient(Same::new(self.settings.bounds, self.settings.is_reciprocal, 1.0, 0.0)), x.len());
            return map(simd, [x, dy, &scale[at..at + len], &zero[at..at + len]], out, f);
        }
        let mut done = 0;
        while done < x.len() {
            let (same, len) = self.run(at + done, x.len() - done);
            map(simd, [&x[done..done + len], &dy[done..done + len]], &mut out[done..done + len], gradient(same));
            done += len;
        }
    }
}
