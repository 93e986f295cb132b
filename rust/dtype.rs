//! Storage types and how they become the compute type.
//!
//! Arithmetic happens in float32 (for float32, bfloat16 and float16 storage) or in float64 (for float64 storage). A tile is
//! decoded from any storage type as it is loaded and encoded as it is stored, each element rounded once, half to even;
//! float64 becomes bfloat16 and float16 by way of float32, as ml_dtypes does.

use fearless_simd::prelude::*;

use crate::{
    half::{bf16_randomly, f16_randomly, from_bf16, from_f16, to_bf16, to_f16},
    prefetch::prefetch,
    simd::{TILE_VECTORS, Tile},
};

/// How an element is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE binary32.
    F32,
    /// IEEE binary64.
    F64,
    /// The upper half of a binary32.
    Bf16,
    /// IEEE binary16.
    F16,
}

impl DType {
    /// Bytes an element.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F64 => 8,
            Self::Bf16 | Self::F16 => 2,
        }
    }

    /// The type in which elements of this storage type are computed.
    #[must_use]
    pub const fn compute(self) -> Self {
        match self {
            Self::F64 => Self::F64,
            Self::F32 | Self::Bf16 | Self::F16 => Self::F32,
        }
    }
}

/// Stored elements to read; 16-bit floats as their bits.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// No array: reads as zeros.
    Absent,
    /// float32.
    F32(&'a [f32]),
    /// float64.
    F64(&'a [f64]),
    /// bfloat16.
    Bf16(&'a [u16]),
    /// float16.
    F16(&'a [u16]),
}

/// Stored elements to read and write.
#[derive(Debug)]
pub enum ValuesMut<'a> {
    /// No array: reads as zeros, writes go nowhere.
    Absent,
    /// float32.
    F32(&'a mut [f32]),
    /// float64.
    F64(&'a mut [f64]),
    /// bfloat16.
    Bf16(&'a mut [u16]),
    /// float16.
    F16(&'a mut [u16]),
}

impl Values<'_> {
    /// Asks for the memory that will be read some tiles after elements `at..at + len`.
    #[inline(always)]
    pub fn prefetch(self, at: usize, len: usize) {
        match self {
            Self::Absent => {}
            Self::F32(x) => prefetch(x, at, len),
            Self::F64(x) => prefetch(x, at, len),
            Self::Bf16(x) | Self::F16(x) => prefetch(x, at, len),
        }
    }
}

impl ValuesMut<'_> {
    /// The same elements, to read.
    #[inline(always)]
    #[must_use]
    pub fn as_values(&self) -> Values<'_> {
        match self {
            Self::Absent => Values::Absent,
            Self::F32(x) => Values::F32(x),
            Self::F64(x) => Values::F64(x),
            Self::Bf16(x) => Values::Bf16(x),
            Self::F16(x) => Values::F16(x),
        }
    }

    /// The same elements for a shorter time.
    #[inline(always)]
    #[must_use]
    pub fn reborrow(&mut self) -> ValuesMut<'_> {
        match self {
            Self::Absent => ValuesMut::Absent,
            Self::F32(x) => ValuesMut::F32(x),
            Self::F64(x) => ValuesMut::F64(x),
            Self::Bf16(x) => ValuesMut::Bf16(x),
            Self::F16(x) => ValuesMut::F16(x),
        }
    }

    /// Is there no array?
    #[inline(always)]
    #[must_use]
    pub const fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// +0.0 everywhere.
    pub fn fill_zero(&mut self) {
        match self {
            Self::Absent => {}
            Self::F32(x) => x.fill(0.0),
            Self::F64(x) => x.fill(0.0),
            Self::Bf16(x) | Self::F16(x) => x.fill(0),
        }
    }
}

/// A type that arithmetic happens in: `f32` or `f64`.
pub trait Compute: SimdFloatElement + Send + Sync + 'static {
    /// The distance from 1 to the next number.
    const EPSILON: Self;

    /// The least normal number above 0.
    const LEAST: Self;

    /// `x` rounded once.
    fn from_f64(x: f64) -> Self;

    /// Exact.
    fn to_f64(self) -> f64;

    /// The tile of `values` that starts at element `at`.
    fn load<S: Simd>(simd: S, values: Values<'_>, at: usize) -> Tile<S, Self>;

    /// Writes `tile` to `values` from element `at` on.
    fn store<S: Simd>(simd: S, tile: Tile<S, Self>, values: &mut ValuesMut<'_>, at: usize);

    /// The elements themselves, if they are stored as `Self`.
    fn slice(values: Values<'_>) -> Option<&[Self]>;

    /// The same to write.
    fn slice_mut<'a>(values: &'a mut ValuesMut<'_>) -> Option<&'a mut [Self]>;

    /// The same, given away.
    fn into_slice_mut(values: ValuesMut<'_>) -> Option<&mut [Self]>;

    /// Elements of this type as stored elements.
    fn values(x: &[Self]) -> Values<'_>;

    /// The same to write.
    fn values_mut(x: &mut [Self]) -> ValuesMut<'_>;

    /// A tile rounded to one of the two neighbours that `values` can store, at random and without bias, by one word an
    /// element. Anything but 16-bit floats stores every value as it is.
    fn round_randomly<S: Simd>(simd: S, tile: Tile<S, Self>, values: &ValuesMut<'_>, words: &[u32]) -> Tile<S, Self>;

    /// A tile of float64 with the values that the elements have as `Self`.
    fn load_wide<S: Simd>(simd: S, values: Values<'_>, at: usize) -> Tile<S, f64>;

    /// The same for elements that are stored as `Self`.
    fn widen_slice<S: Simd>(simd: S, values: &[Self], at: usize) -> Tile<S, f64>;
}

impl Compute for f32 {
    const EPSILON: Self = Self::EPSILON;
    const LEAST: Self = Self::MIN_POSITIVE;

    #[inline(always)]
    fn from_f64(x: f64) -> Self {
        x as Self
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn load<S: Simd>(simd: S, values: Values<'_>, at: usize) -> Tile<S, Self> {
        let half = S::u16s::LEN;
        match values {
            Values::Absent => [S::f32s::splat(simd, 0.0); TILE_VECTORS],
            Values::F32(x) => load_native::<S, Self>(simd, x, at),
            Values::F64(x) => {
                let low = narrow::<S>(load_native(simd, x, at));
                let high = narrow::<S>(load_native(simd, x, at + 2 * S::f32s::LEN));
                [low[0], low[1], high[0], high[1]]
            }
            Values::Bf16(x) => {
                let low = from_bf16::<S>(load_half(simd, x, at));
                let high = from_bf16::<S>(load_half(simd, x, at + half));
                [low[0], low[1], high[0], high[1]]
            }
            Values::F16(x) => {
                let low = from_f16::<S>(load_half(simd, x, at));
                let high = from_f16::<S>(load_half(simd, x, at + half));
                [low[0], low[1], high[0], high[1]]
            }
        }
    }

    #[inline(always)]
    fn store<S: Simd>(simd: S, [a, b, c, d]: Tile<S, Self>, values: &mut ValuesMut<'_>, at: usize) {
        let half = S::u16s::LEN;
        match values {
            ValuesMut::Absent => {}
            ValuesMut::F32(x) => store_native::<S, Self>([a, b, c, d], x, at),
            ValuesMut::F64(x) => {
                store_native::<S, f64>(widen::<S>([a, b]), x, at);
                store_native::<S, f64>(widen::<S>([c, d]), x, at + 2 * S::f32s::LEN);
            }
            ValuesMut::Bf16(x) => {
                to_bf16(simd, [a, b]).store_slice(&mut x[at..at + half]);
                to_bf16(simd, [c, d]).store_slice(&mut x[at + half..at + 2 * half]);
            }
            ValuesMut::F16(x) => {
                to_f16(simd, [a, b]).store_slice(&mut x[at..at + half]);
                to_f16(simd, [c, d]).store_slice(&mut x[at + half..at + 2 * half]);
            }
        }
    }

    #[inline(always)]
    fn slice(values: Values<'_>) -> Option<&[Self]> {
        if let Values::F32(x) = values { Some(x) } else { None }
    }

    #[inline(always)]
    fn slice_mut<'a>(values: &'a mut ValuesMut<'_>) -> Option<&'a mut [Self]> {
        if let ValuesMut::F32(x) = values { Some(x) } else { None }
    }

    #[inline(always)]
    fn into_slice_mut(values: ValuesMut<'_>) -> Option<&mut [Self]> {
        if let ValuesMut::F32(x) = values { Some(x) } else { None }
    }

    #[inline(always)]
    fn values(x: &[Self]) -> Values<'_> {
        Values::F32(x)
    }

    #[inline(always)]
    fn values_mut(x: &mut [Self]) -> ValuesMut<'_> {
        ValuesMut::F32(x)
    }

    #[inline(always)]
    fn round_randomly<S: Simd>(
        simd: S,
        mut tile: Tile<S, Self>,
        values: &ValuesMut<'_>,
        words: &[u32],
    ) -> Tile<S, Self> {
        let n = S::f32s::LEN;
        for k in 0..TILE_VECTORS {
            let words = S::u32s::from_slice(simd, &words[k * n..(k + 1) * n]);
            match values {
                ValuesMut::Bf16(_) => tile[k] = bf16_randomly::<S>(tile[k], words),
                ValuesMut::F16(_) => tile[k] = f16_randomly::<S>(tile[k], words),
                _ => {}
            }
        }
        tile
    }

    #[inline(always)]
    fn load_wide<S: Simd>(simd: S, values: Values<'_>, at: usize) -> Tile<S, f64> {
        let tile = f64::load(simd, values, at);
        if matches!(values, Values::F64(_)) { widen::<S>(narrow::<S>(tile)) } else { tile }
    }

    #[inline(always)]
    fn widen_slice<S: Simd>(simd: S, values: &[Self], at: usize) -> Tile<S, f64> {
        let n = S::f32s::LEN;
        let x = &values[at..at + 2 * n];
        widen::<S>([S::f32s::from_slice(simd, &x[..n]), S::f32s::from_slice(simd, &x[n..])])
    }
}

impl Compute for f64 {
    const EPSILON: Self = Self::EPSILON;
    const LEAST: Self = Self::MIN_POSITIVE;

    #[inline(always)]
    fn from_f64(x: f64) -> Self {
        x
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }

    #[inline(always)]
    fn load<S: Simd>(simd: S, values: Values<'_>, at: usize) -> Tile<S, Self> {
        match values {
            Values::Absent => [S::f64s::splat(simd, 0.0); TILE_VECTORS],
            Values::F32(x) => {
                let n = S::f32s::LEN;
                widen::<S>([
                    S::f32s::from_slice(simd, &x[at..at + n]),
                    S::f32s::from_slice(simd, &x[at + n..at + 2 * n]),
                ])
            }
            Values::F64(x) => load_native(simd, x, at),
            Values::Bf16(x) => widen::<S>(from_bf16::<S>(load_half(simd, x, at))),
            Values::F16(x) => widen::<S>(from_f16::<S>(load_half(simd, x, at))),
        }
    }

    #[inline(always)]
    fn store<S: Simd>(simd: S, tile: Tile<S, Self>, values: &mut ValuesMut<'_>, at: usize) {
        let half = S::u16s::LEN;
        match values {
            ValuesMut::Absent => {}
            ValuesMut::F32(x) => {
                let [low, high] = narrow::<S>(tile);
                let n = S::f32s::LEN;
                low.store_slice(&mut x[at..at + n]);
                high.store_slice(&mut x[at + n..at + 2 * n]);
            }
            ValuesMut::F64(x) => store_native::<S, Self>(tile, x, at),
            ValuesMut::Bf16(x) => to_bf16(simd, narrow::<S>(tile)).store_slice(&mut x[at..at + half]),
            ValuesMut::F16(x) => to_f16(simd, narrow::<S>(tile)).store_slice(&mut x[at..at + half]),
        }
    }

    #[inline(always)]
    fn slice(values: Values<'_>) -> Option<&[Self]> {
        if let Values::F64(x) = values { Some(x) } else { None }
    }

    #[inline(always)]
    fn slice_mut<'a>(values: &'a mut ValuesMut<'_>) -> Option<&'a mut [Self]> {
        if let ValuesMut::F64(x) = values { Some(x) } else { None }
    }

    #[inline(always)]
    fn into_slice_mut(values: ValuesMut<'_>) -> Option<&mut [Self]> {
        if let ValuesMut::F64(x) = values { Some(x) } else { None }
    }

    #[inline(always)]
    fn values(x: &[Self]) -> Values<'_> {
        Values::F64(x)
    }

    #[inline(always)]
    fn values_mut(x: &mut [Self]) -> ValuesMut<'_> {
        ValuesMut::F64(x)
    }

    #[inline(always)]
    fn round_randomly<S: Simd>(
        _simd: S,
        tile: Tile<S, Self>,
        _values: &ValuesMut<'_>,
        _words: &[u32],
    ) -> Tile<S, Self> {
        tile
    }

    #[inline(always)]
    fn load_wide<S: Simd>(simd: S, values: Values<'_>, at: usize) -> Tile<S, f64> {
        Self::load(simd, values, at)
    }

    #[inline(always)]
    fn widen_slice<S: Simd>(simd: S, values: &[Self], at: usize) -> Tile<S, f64> {
        load_native(simd, values, at)
    }
}

/// Four vectors of elements that are stored as they are computed.
#[inline(always)]
pub fn load_native<S: Simd, T: SimdFloatElement>(simd: S, x: &[T], at: usize) -> Tile<S, T> {
    let n = <T::Native<S> as SimdBase<S>>::LEN;
    let x = &x[at..at + TILE_VECTORS * n];
    let mut tile = [T::Native::<S>::splat(simd, T::default()); TILE_VECTORS];
    for k in 0..TILE_VECTORS {
        tile[k] = T::Native::<S>::from_slice(simd, &x[k * n..(k + 1) * n]);
    }
    tile
}

/// The reverse of [`load_native`].
#[inline(always)]
pub fn store_native<S: Simd, T: SimdFloatElement>(tile: Tile<S, T>, x: &mut [T], at: usize) {
    let n = <T::Native<S> as SimdBase<S>>::LEN;
    let x = &mut x[at..at + TILE_VECTORS * n];
    for k in 0..TILE_VECTORS {
        tile[k].store_slice(&mut x[k * n..(k + 1) * n]);
    }
}

#[inline(always)]
fn load_half<S: Simd>(simd: S, x: &[u16], at: usize) -> S::u16s {
    S::u16s::from_slice(simd, &x[at..at + S::u16s::LEN])
}

#[inline(always)]
fn narrow<S: Simd>([a, b, c, d]: [S::f64s; 4]) -> [S::f32s; 2] {
    [a.narrow(b), c.narrow(d)]
}

#[inline(always)]
fn widen<S: Simd>([low, high]: [S::f32s; 2]) -> [S::f64s; 4] {
    let (a, b) = low.widen();
    let (c, d) = high.widen();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{dispatch, simd::Isa};

    #[test]
    fn float64_passes_through_float32_where_the_compute_type_is_narrower() {
        for isa in Isa::available() {
            let x: [f64; 64] = std::array::from_fn(|i| (i as f64 - 20.0) * 1.000_000_03_f64.powi(i as i32) * 1e-7);
            let mut wide = [0.0; 64];
            dispatch!(isa, simd => wide_tiles(simd, &x, &mut wide));
            for i in 0..64 {
                assert_eq!(wide[i].to_bits(), f64::from(x[i] as f32).to_bits());
            }
        }
    }

    #[inline(always)]
    fn wide_tiles<S: Simd>(simd: S, x: &[f64; 64], out: &mut [f64; 64]) {
        for at in (0..64).step_by(TILE_VECTORS * S::f64s::LEN) {
            let tile = f32::load_wide(simd, Values::F64(x), at);
            f64::store(simd, tile, &mut ValuesMut::F64(out), at);
        }
    }
}
