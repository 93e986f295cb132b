//! Pieces of a row that the pipeline works on: slices in place, or elements gathered on the stack.

use fearless_simd::prelude::*;

use crate::{
    array::buffer::Buffer,
    dtype::{Compute, Values, ValuesMut, load_native, store_native},
    prefetch::prefetch,
    simd::{Tile, tile_len},
};

/// The slices of a piece of a row that a rule works on.
#[derive(Debug)]
pub struct Piece<'a, const N: usize> {
    /// Parameter.
    pub param: ValuesMut<'a>,
    /// Gradient.
    pub grad: Values<'a>,
    /// State.
    pub state: [ValuesMut<'a>; N],
}

/// The slices of a piece of a row that follow the parameter.
#[derive(Debug)]
pub struct Copies<'a> {
    /// Moving average.
    pub ema: ValuesMut<'a>,
    /// The parameter in another storage type.
    pub shadow: ValuesMut<'a>,
}

/// A [`Piece`] whose elements are all stored in the compute type.
#[derive(Debug)]
pub struct Plain<'a, T, const N: usize> {
    param: &'a mut [T],
    grad: &'a [T],
    state: [Option<&'a mut [T]>; N],
}

/// A tile of every array.
#[derive(Clone, Copy, Debug)]
pub struct Tiles<S: Simd, T: SimdFloatElement, const N: usize> {
    /// Parameter.
    pub param: Tile<S, T>,
    /// Gradient.
    pub grad: Tile<S, T>,
    /// State, zeros where there is none.
    pub state: [Tile<S, T>; N],
}

impl<S: Simd, T: SimdFloatElement, const N: usize> Tiles<S, T, N> {
    /// Vector `i` of each state tile.
    #[inline(always)]
    #[must_use]
    pub fn state_of(&self, i: usize) -> [T::Native<S>; N] {
        let mut state = [self.param[i]; N];
        for k in 0..N {
            state[k] = self.state[k][i];
        }
        state
    }
}

/// Arrays that are worked on tile by tile.
pub trait Arrays<T: Compute, const N: usize> {
    /// The tiles that start at element `at`.
    fn load<S: Simd>(&self, simd: S, at: usize) -> Tiles<S, T, N>;

    /// Writes parameter and state.
    fn store<S: Simd>(&mut self, simd: S, tiles: Tiles<S, T, N>, at: usize);
}

impl<const N: usize> Piece<'_, N> {
    /// The same slices, if all are of the compute type.
    #[inline(always)]
    #[must_use]
    pub fn plain<T: Compute>(&mut self) -> Option<Plain<'_, T, N>> {
        let mut state = [const { None }; N];
        for (plain, values) in state.iter_mut().zip(&mut self.state) {
            if !matches!(values, ValuesMut::Absent) {
                *plain = Some(T::slice_mut(values)?);
            }
        }
        Some(Plain { param: T::slice_mut(&mut self.param)?, grad: T::slice(self.grad)?, state })
    }
}

impl<T: Compute, const N: usize> Arrays<T, N> for Piece<'_, N> {
    #[inline(always)]
    fn load<S: Simd>(&self, simd: S, at: usize) -> Tiles<S, T, N> {
        let mut state = [T::load(simd, Values::Absent, 0); N];
        let len = tile_len::<S, T>();
        self.param.as_values().prefetch(at, len);
        self.grad.prefetch(at, len);
        for k in 0..N {
            self.state[k].as_values().prefetch(at, len);
            state[k] = T::load(simd, self.state[k].as_values(), at);
        }
        Tiles { param: T::load(simd, self.param.as_values(), at), grad: T::load(simd, self.grad, at), state }
    }

    #[inline(always)]
    fn store<S: Simd>(&mut self, simd: S, tiles: Tiles<S, T, N>, at: usize) {
        T::store(simd, tiles.param, &mut self.param, at);
        for k in 0..N {
            T::store(simd, tiles.state[k], &mut self.state[k], at);
        }
    }
}

impl<T: Compute, const N: usize> Arrays<T, N> for Plain<'_, T, N> {
    #[inline(always)]
    fn load<S: Simd>(&self, simd: S, at: usize) -> Tiles<S, T, N> {
        let mut state = [T::load(simd, Values::Absent, 0); N];
        let len = tile_len::<S, T>();
        prefetch(self.param, at, len);
        prefetch(self.grad, at, len);
        for k in 0..N {
            if let Some(values) = &self.state[k] {
                prefetch(values, at, len);
                state[k] = load_native(simd, values, at);
            }
        }
        Tiles { param: load_native(simd, self.param, at), grad: load_native(simd, self.grad, at), state }
    }

    #[inline(always)]
    fn store<S: Simd>(&mut self, _simd: S, tiles: Tiles<S, T, N>, at: usize) {
        store_native::<S, T>(tiles.param, self.param, at);
        for k in 0..N {
            if let Some(values) = &mut self.state[k] {
                store_native::<S, T>(tiles.state[k], values, at);
            }
        }
    }
}

/// A [`Buffer`] for every array of a row.
#[derive(Debug)]
pub struct Staged<const N: usize> {
    /// Parameter.
    pub param: Buffer,
    /// Gradient.
    pub grad: Buffer,
    /// State.
    pub state: [Buffer; N],
    /// Moving average and shadow copy.
    pub copies: [Buffer; 2],
}

impl<const N: usize> Default for Staged<N> {
    fn default() -> Self {
        Self {
            param: Buffer::default(),
            grad: Buffer::default(),
            state: std::array::from_fn(|_| Buffer::default()),
            copies: [Buffer::default(), Buffer::default()],
        }
    }
}

impl<const N: usize> Staged<N> {
    /// The staged elements as a piece.
    #[inline(always)]
    pub fn piece(&mut self) -> (Piece<'_, N>, Copies<'_>) {
        let mut state = [const { ValuesMut::Absent }; N];
        for (values, buffer) in state.iter_mut().zip(&mut self.state) {
            *values = buffer.values_mut();
        }
        let [ema, shadow] = &mut self.copies;
        (
            Piece { param: self.param.values_mut(), grad: self.grad.values(), state },
            Copies { ema: ema.values_mut(), shadow: shadow.values_mut() },
        )
    }
}
