//! Sums over rows in the fixed shape of [`crate::reduce`]: several rows at once, so that short rows share the fold.
//!
//! Element i of a block belongs to lane i mod 128, lanes fold by halves; a row longer than a block folds its blocks' results in
//! the same way. A vector's last halves fold for as many rows at a time as it has elements.

use fearless_simd::prelude::*;

use crate::{
    dtype::Compute,
    reduce::{BLOCK, LANES, fold_partials},
    simd::{TILE_VECTORS, Tile},
};

/// Elements of the longest row that is summed at once: what stays in a core's cache.
pub(crate) const SEGMENT: usize = 16 * BLOCK;

/// Rows that are summed at once, at most: the elements of the widest vector of float64.
pub(crate) const ROWS: usize = 8;

/// Numbers that belong to the rows which are summed at once.
pub(crate) type OfRows = [f64; ROWS];

/// What is added up: `M` terms of `K` inputs.
pub(crate) trait Terms<const K: usize, const M: usize>: Copy {
    fn of<S: Simd>(self, simd: S, inputs: [Tile<S, f64>; K]) -> [Tile<S, f64>; M];
}

/// x
#[derive(Clone, Copy)]
pub(crate) struct Value;

impl Terms<1, 1> for Value {
    #[inline(always)]
    fn of<S: Simd>(self, _simd: S, inputs: [Tile<S, f64>; 1]) -> [Tile<S, f64>; 1] {
        inputs
    }
}

/// Rows side by side: row i of an input begins at i times its stride, which is 0 where all rows share it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a, T, const K: usize> {
    pub(crate) inputs: [&'a [T]; K],
    pub(crate) strides: [usize; K],
    pub(crate) len: usize,
    /// At most [`ROWS`], and one if they are longer than a block.
    pub(crate) count: usize,
}

impl<'a, T, const K: usize> Rows<'a, T, K> {
    /// Elements `at..at + len` of row `i`.
    #[inline(always)]
    fn part(&self, i: usize, at: usize, len: usize) -> [&'a [T]; K] {
        let mut part = self.inputs;
        for k in 0..K {
            let start = i * self.strides[k] + at;
            part[k] = &self.inputs[k][start..start + len];
        }
        part
    }
}

/// How many rows of that length are summed at once.
#[inline(always)]
pub(crate) const fn at_once<S: Simd>(len: usize) -> usize {
    if len <= BLOCK / ROWS { S::f64s::LEN } else { 1 }
}

/// The sums of each row; `terms` are those of each row.
#[inline(always)]
pub(crate) fn sum_rows<S: Simd, T: Compute, F: Terms<K, M>, const K: usize, const M: usize>(
    simd: S,
    rows: &Rows<'_, T, K>,
    terms: &[F; ROWS],
) -> [OfRows; M] {
    if rows.len <= BLOCK { sum_short_rows(simd, rows, terms) } else { sum_long_rows(simd, rows, terms) }
}

/// The same for rows of at most a block. A function of its own, since it takes a compiler long.
#[inline(never)]
pub(crate) fn sum_short_rows<S: Simd, T: Compute, F: Terms<K, M>, const K: usize, const M: usize>(
    simd: S,
    rows: &Rows<'_, T, K>,
    terms: &[F; ROWS],
) -> [OfRows; M] {
    simd.vectorize(
        #[inline(always)]
        || {
            let mut vectors = [[S::f64s::splat(simd, 0.0); ROWS]; M];
            for i in 0..rows.count {
                let of_row = add_up(simd, rows.part(i, 0, rows.len), terms[i]);
                for m in 0..M {
                    vectors[m][i] = of_row[m];
                }
            }
            if rows.count == 1 { fold_row::<S, M>(vectors) } else { fold_rows(simd, vectors) }
        },
    )
}

/// The same for rows of several blocks: the blocks of a row are rows themselves, whose sums fold again.
#[inline(never)]
fn sum_long_rows<S: Simd, T: Compute, F: Terms<K, M>, const K: usize, const M: usize>(
    simd: S,
    rows: &Rows<'_, T, K>,
    terms: &[F; ROWS],
) -> [OfRows; M] {
    let mut sums = [[0.0; ROWS]; M];
    for i in 0..rows.count {
        let mut partials = sum_blocks(simd, rows.part(i, 0, rows.len), terms[i]);
        for m in 0..M {
            let blocks = &mut partials[m][..rows.len.div_ceil(BLOCK)];
            sums[m][i] = simd.vectorize(
                #[inline(always)]
                || fold_partials(simd, blocks),
            );
        }
    }
    sums
}

/// The sums of each block of a row.
fn sum_blocks<S: Simd, T: Compute, F: Terms<K, M>, const K: usize, const M: usize>(
    simd: S,
    row: [&[T]; K],
    terms: F,
) -> [[f64; SEGMENT / BLOCK]; M] {
    let (len, mut partials, mut at) = (row[0].len(), [[0.0; SEGMENT / BLOCK]; M], 0);
    while at < len {
        let count = (len - at).div_ceil(BLOCK).min(S::f64s::LEN);
        // The last block of a row may be shorter: then it comes alone.
        let count = if at + count * BLOCK <= len { count } else { (count - 1).max(1) };
        let (mut inputs, block) = (row, BLOCK.min(len - at));
        for k in 0..K {
            inputs[k] = &row[k][at..];
        }
        let sums = sum_short_rows(simd, &Rows { inputs, strides: [BLOCK; K], len: block, count }, &[terms; ROWS]);
        for m in 0..M {
            partials[m][at / BLOCK..][..count].copy_from_slice(&sums[m][..count]);
        }
        at += count * block;
    }
    partials
}

/// The lanes of at most a block, folded to a vector.
#[inline(always)]
fn add_up<S: Simd, T: Compute, F: Terms<K, M>, const K: usize, const M: usize>(
    simd: S,
    block: [&[T]; K],
    terms: F,
) -> [S::f64s; M] {
    let (tile, len) = (TILE_VECTORS * S::f64s::LEN, block[0].len());
    // The lanes behind the last tile stay +0.0, and to add them changes nothing.
    if M == 1 && len <= tile {
        columns::<S, T, F, K, M, 1, 1>(simd, block, terms)
    } else if M == 1 && len <= 2 * tile {
        columns::<S, T, F, K, M, 2, 2>(simd, block, terms)
    } else if S::f64s::LEN == 8 {
        if M == 1 {
            columns::<S, T, F, K, M, 4, 4>(simd, block, terms)
        } else {
            columns::<S, T, F, K, M, 4, 2>(simd, block, terms)
        }
    } else if S::f64s::LEN == 4 {
        if M == 1 {
            columns::<S, T, F, K, M, 8, 2>(simd, block, terms)
        } else {
            columns::<S, T, F, K, M, 8, 1>(simd, block, terms)
        }
    } else {
        columns::<S, T, F, K, M, 16, 1>(simd, block, terms)
    }
}

/// `TILES` tiles are all lanes that the block has elements for; `WIDE` of them stay in registers over the block.
#[inline(always)]
fn columns<
    S: Simd,
    T: Compute,
    F: Terms<K, M>,
    const K: usize,
    const M: usize,
    const TILES: usize,
    const WIDE: usize,
>(
    simd: S,
    block: [&[T]; K],
    terms: F,
) -> [S::f64s; M] {
    let (tile, len) = (TILE_VECTORS * S::f64s::LEN, block[0].len());
    let rows = len / LANES * LANES;
    let mut lanes = [[[S::f64s::splat(simd, 0.0); TILE_VECTORS]; TILES]; M];
    for first in (0..TILES).step_by(WIDE) {
        let mut sums = [[[S::f64s::splat(simd, 0.0); TILE_VECTORS]; WIDE]; M];
        for row in (0..rows).step_by(LANES) {
            for k in 0..WIDE {
                let wide = widened(simd, block, row + (first + k) * tile);
                add(&mut sums, k, terms.of(simd, wide));
            }
        }
        for k in 0..WIDE {
            let at = rows + (first + k) * tile;
            if at + tile <= len {
                add(&mut sums, k, terms.of(simd, widened(simd, block, at)));
            } else if at < len {
                add(&mut sums, k, last_tile(simd, block, at, terms));
            }
        }
        for m in 0..M {
            for k in 0..WIDE {
                lanes[m][first + k] = sums[m][k];
            }
        }
    }
    fold_tiles(simd, lanes)
}

#[inline(always)]
fn widened<S: Simd, T: Compute, const K: usize>(simd: S, block: [&[T]; K], at: usize) -> [Tile<S, f64>; K] {
    let mut wide = [[S::f64s::splat(simd, 0.0); TILE_VECTORS]; K];
    for k in 0..K {
        wide[k] = T::widen_slice(simd, block[k], at);
    }
    wide
}

#[inline(always)]
fn add<V: Copy + std::ops::AddAssign, const M: usize, const WIDE: usize>(
    sums: &mut [[[V; TILE_VECTORS]; WIDE]; M],
    k: usize,
    terms: [[V; TILE_VECTORS]; M],
) {
    for m in 0..M {
        for i in 0..TILE_VECTORS {
            sums[m][k][i] += terms[m][i];
        }
    }
}

/// The terms of fewer elements than a tile, +0.0 behind them. Apart, so that the sums of whole tiles keep their registers.
#[cold]
#[inline(never)]
fn last_tile<S: Simd, T: Compute, F: Terms<K, M>, const K: usize, const M: usize>(
    simd: S,
    block: [&[T]; K],
    at: usize,
    terms: F,
) -> [Tile<S, f64>; M] {
    simd.vectorize(
        #[inline(always)]
        || padded_tile(simd, block, at, terms),
    )
}

#[inline(always)]
fn padded_tile<S: Simd, T: Compute, F: Terms<K, M>, const K: usize, const M: usize>(
    simd: S,
    block: [&[T]; K],
    at: usize,
    terms: F,
) -> [Tile<S, f64>; M] {
    let count = block[0].len() - at;
    let mut padded = [[T::default(); TILE_VECTORS * ROWS]; K];
    let mut wide = [[S::f64s::splat(simd, 0.0); TILE_VECTORS]; K];
    for k in 0..K {
        padded[k][..count].copy_from_slice(&block[k][at..]);
        wide[k] = T::widen_slice(simd, &padded[k], 0);
    }
    let (mut last, end) = (terms.of(simd, wide), S::f64s::splat(simd, count as f64));
    for i in 0..TILE_VECTORS {
        let places = S::f64s::from_slice(simd, &PLACES[i * S::f64s::LEN..(i + 1) * S::f64s::LEN]);
        for m in 0..M {
            last[m][i] = places.simd_lt(end).select(last[m][i], S::f64s::splat(simd, 0.0));
        }
    }
    last
}

/// 0, 1, 2, ...: an element's place in a tile.
static PLACES: [f64; TILE_VECTORS * ROWS] = {
    let mut places = [0.0; TILE_VECTORS * ROWS];
    let mut i = 0;
    while i < places.len() {
        places[i] = i as f64;
        i += 1;
    }
    places
};

/// Lane j += lane j + 64, then 32, as long as there are whole vectors.
#[inline(always)]
fn fold_tiles<S: Simd, const M: usize, const TILES: usize>(
    simd: S,
    mut lanes: [[Tile<S, f64>; TILES]; M],
) -> [S::f64s; M] {
    let mut folded = [S::f64s::splat(simd, 0.0); M];
    for m in 0..M {
        let mut half = TILES / 2;
        while half > 0 {
            for k in 0..half {
                for i in 0..TILE_VECTORS {
                    lanes[m][k][i] += lanes[m][k + half][i];
                }
            }
            half /= 2;
        }
        let [a, b, c, d] = lanes[m][0];
        folded[m] = (a + c) + (b + d);
    }
    folded
}

/// The last halves of each row's vector: two rows share a vector after the first, four after the second.
#[inline(always)]
fn fold_rows<S: Simd, const M: usize>(simd: S, vectors: [[S::f64s; ROWS]; M]) -> [OfRows; M] {
    let _ = simd;
    let mut sums = [[0.0; ROWS]; M];
    for m in 0..M {
        let (mut rows, mut half) = (vectors[m], S::f64s::LEN / 2);
        while half > 0 {
            for k in 0..half {
                let (a, b) = (rows[k], rows[k + half]);
                rows[k] = a.zip_low(b) + a.zip_high(b);
            }
            half /= 2;
        }
        rows[0].store_slice(&mut sums[m][..S::f64s::LEN]);
    }
    sums
}

/// The same for one row.
#[inline(always)]
fn fold_row<S: Simd, const M: usize>(vectors: [[S::f64s; ROWS]; M]) -> [OfRows; M] {
    let mut sums = [[0.0; ROWS]; M];
    for m in 0..M {
        vectors[m][0].store_slice(&mut sums[m][..S::f64s::LEN]);
        let mut half = S::f64s::LEN / 2;
        while half > 0 {
            for k in 0..half {
                sums[m][k] += sums[m][k + half];
            }
            half /= 2;
        }
    }
    sums
}
