//! Factored second moments (Adafactor): averages of the means of squared gradients over the rows and the columns of matrices.

use super::{
    grid::{Grid, Sums, grids, measure, number},
    pipeline::{Pass, Rules},
    row::Factors,
    rule::{Factoring, Rule},
    table::Rows,
};
use crate::{
    array::{buffer::STAGE, spread::Spread},
    dispatch,
    dtype::{Compute, DType},
    reduce::{BLOCK, Lanes, Term, fold_partials},
    simd::Isa,
};

/// For each row of the step the means that stand for its second moment, if it has them.
#[derive(Debug)]
pub(super) struct Means(Vec<Option<RowMeans>>);

#[derive(Debug)]
struct RowMeans {
    /// A number for each row of each matrix: its mean by the mean of all of them.
    ratios: Vec<f64>,
    /// A number for each column of each matrix.
    columns: Vec<f64>,
    width: usize,
    matrix: usize,
}

impl Means {
    /// Ratios and columns of a row of the step.
    pub(super) fn of_row(&self, row: usize) -> Option<[Spread<'_>; 2]> {
        let RowMeans { ratios, columns, width, matrix } = self.0[row].as_ref()?;
        Some([
            Spread::Repeat { table: ratios, run: *width },
            Spread::Cycle { table: columns, columns: *width, matrix: *matrix },
        ])
    }
}

/// Updates the stored means of rows and columns; `None` if the rule has none.
pub(super) fn update<R32, R64, const N: usize>(
    pass: &Pass<'_>,
    rows: &mut Rows,
    rules: &Rules<R32, R64>,
) -> Option<Means>
where
    R32: Rule<f32, N>,
    R64: Rule<f64, N>,
{
    if rows.have_factors().all(|factored| !factored) {
        return None;
    }
    let grids = grids(rows);
    let sums = measure(pass, rows, rules, &grids);
    let mut means: Vec<Option<RowMeans>> = (0..rows.plan().rows()).map(|_| None).collect();
    for grid in grids {
        let row = grid.row;
        let factoring = match rows.compute_of(row) {
            DType::F64 => Averages::new(rules.f64[row].rule.factoring(), pass.isa),
            _ => Averages::new(rules.f32[row].rule.factoring(), pass.isa),
        };
        means[row] = rows.factors_mut(row).map(|factors| factoring.update(factors, grid, &sums));
    }
    Some(Means(means))
}

/// Moving averages of the means; each operation rounded once to the compute type, of which these are exact.
#[derive(Clone, Copy, Debug)]
struct Averages {
    isa: Isa,
    weight: f64,
    eps: f64,
    round: fn(f64) -> f64,
}

impl Averages {
    fn new<T: Compute>(factoring: Factoring<T>, isa: Isa) -> Self {
        Self {
            isa,
            weight: factoring.one_minus_beta2.to_f64(),
            eps: factoring.eps.to_f64(),
            round: |x| T::from_f64(x).to_f64(),
        }
    }

    fn update(self, factors: &mut Factors, grid: Grid, sums: &Sums) -> RowMeans {
        let Grid { height, width, count, .. } = grid;
        let rows = &sums.rows[grid.rows..][..count * height];
        let rows: Vec<f64> = rows.iter().map(|bits| number(bits) / width as f64).collect();
        let columns = &sums.columns[grid.columns..][..count * width];
        let columns: Vec<f64> = columns.iter().map(|sum| sum / height as f64).collect();
        let rows = factors.average(self.isa, 0, &rows, |mean, old| self.average(mean, old));
        let columns = factors.average(self.isa, 1, &columns, |mean, old| self.average(mean, old));
        let ratios = rows.chunks(height).flat_map(|rows| self.ratios(rows)).collect();
        RowMeans { ratios, columns, width, matrix: height * width }
    }

    /// old + (mean - old)·(1 - β2)
    fn average(self, mean: f64, old: f64) -> f64 {
        let difference = (self.round)((self.round)(mean) - old);
        (self.round)(old + (self.round)(difference * self.weight))
    }

    /// Each row's mean by the mean of all, which is at least ε.
    fn ratios(self, rows: &[f64]) -> Vec<f64> {
        let mut partials: Vec<f64> = rows.chunks(BLOCK).map(|rows| self.sum(rows)).collect();
        let total = dispatch!(self.isa, simd => fold_partials(simd, &mut partials));
        let mean = (self.round)(total / rows.len() as f64);
        let mean = if mean > self.eps { mean } else { self.eps };
        rows.iter().map(|row| (self.round)(row / mean)).collect()
    }

    fn sum(self, rows: &[f64]) -> f64 {
        let mut lanes = Lanes::default();
        for rows in rows.chunks(STAGE) {
            let mut padded = [0.0; STAGE];
            padded[..rows.len()].copy_from_slice(rows);
            dispatch!(self.isa, simd => lanes.add::<_, f64>(simd, Term::Value, f64::values(&padded), 0, 1));
        }
        lanes.fold()
    }
}
