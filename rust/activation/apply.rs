//! Activations of arrays, after a bias has been added: y = f(x + bias) and its gradients.
//!
//! A block of elements goes through while it is in cache: x + bias rounded to the compute type, then the activation, then what
//! the gradient of the bias adds up.

use fearless_simd::prelude::*;

use super::{
    PIECE,
    bias::{Bias, Line, Piece, add_sums, pieces},
    kernel::Kernel,
};
use crate::{
    array::{Input, Output},
    dispatch,
    map::{Add, map},
    math::Math,
    norm::channels::Channels,
    parallel,
    simd::Isa,
};

/// What is read.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The elements.
    pub x: &'a Input,
    /// Added to each, one number a channel.
    pub bias: Option<&'a Input>,
    /// Gradient of the output, to go backward.
    pub dy: Option<&'a Input>,
    /// Where the channels are.
    pub shape: Channels,
}

/// What is written: y, or dx and the sums of it over each channel.
#[derive(Debug)]
pub struct Outputs<'a> {
    /// y or dx.
    pub out: &'a mut Output,
    /// Empty, or one sum a channel.
    pub dbias: &'a mut [f64],
}

/// Room for what is read and staged of a block.
#[derive(Default)]
struct Room<T> {
    x: Vec<T>,
    dy: Vec<T>,
    bias: Vec<T>,
    shifted: Vec<T>,
    staged: Vec<T>,
}

/// One call.
struct Pass<'a, T> {
    isa: Isa,
    kernel: &'a dyn Kernel<T>,
    inputs: Inputs<'a>,
    line: Line,
    bias: Option<Bias<T>>,
}

/// y of `x`, or with `dy` the gradients.
pub(super) fn run<T: Math>(isa: Isa, kernel: &dyn Kernel<T>, inputs: Inputs<'_>, outputs: &mut Outputs<'_>) {
    let len = inputs.x.len();
    let flat = Channels { samples: 1, channels: 1, inner: len };
    let line = Line::new(if inputs.bias.is_some() { inputs.shape } else { flat });
    let bias = inputs.bias.map(|bias| dispatch!(isa, simd => Bias::new(simd, line, bias)));
    let mut pieces = pieces(line, len, outputs.out, !outputs.dbias.is_empty());
    let pass = Pass { isa, kernel, inputs, line, bias };
    parallel::for_each_mut(&mut pieces, len >= 2 * PIECE, &|_, piece| {
        dispatch!(isa, simd => pass.work_on(simd, piece));
    });
    add_sums(&pieces, outputs.dbias);
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
        let Room { x, dy: room_dy, bias, shifted, staged } = room;
        let at = start % self.line.len;
        let x = self.inputs.x.block(simd, start, len, x);
        let dy = self.inputs.dy.map(|dy| dy.block(simd, start, len, room_dy));
        let x = match &self.bias {
            None => x,
            Some(numbers) => {
                shifted.resize(shifted.len().max(len), T::default());
                map(simd, [x, numbers.of_block(at, len, bias)], &mut shifted[..len], Add);
                &shifted[..len]
            }
        };
        let Piece { out, sums, .. } = piece;
        out.fill(
            simd,
            start,
            len,
            staged,
            #[inline(always)]
            |out| {
                match dy {
                    None => self.kernel.forward(self.isa, x, out),
                    Some(dy) => self.kernel.backward(self.isa, x, dy, out),
                }
                if let Some(sums) = sums {
                    sums.add(simd, at, out);
                }
            },
        );
    }
}
