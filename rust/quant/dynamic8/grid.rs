//! Where the numbers that become one value end, and the lines that these ends lie on.

/// Decades of values.
pub(super) const DECADES: usize = 7;

/// Magnitudes in rising order: zero, decades of values in equal steps, one.
pub(super) struct Grid<const N: usize> {
    /// The largest number that is nearer to a value than to the next one, for each value but the last.
    pub(super) last: [f32; N],
    /// Values of the first decade; each other one has twice as many as that before it.
    first: usize,
}

/// The largest float32 that is no larger.
const fn round_down(x: f64) -> f32 {
    let near = x as f32;
    if near as f64 > x { f32::from_bits(near.to_bits() - 1) } else { near }
}

impl<const N: usize> Grid<N> {
    /// From the values' bits.
    pub(super) const fn new(values: [u32; N], first: usize) -> Self {
        let mut last = [f32::MAX; N];
        let mut i = 0;
        while i + 1 < N {
            let (low, high) = (f32::from_bits(values[i]) as f64, f32::from_bits(values[i + 1]) as f64);
            last[i] = round_down(f64::midpoint(low, high));
            i += 1;
        }
        Self { last, first }
    }

    /// The index of the value nearest to `x`.
    pub(super) const fn search(&self, x: f32) -> usize {
        let mut index = 0;
        while index + 1 < N && x > self.last[index] {
            index += 1;
        }
        index
    }

    /// The same from an index that is near.
    pub(super) fn nearest(&self, x: f32, near: usize) -> usize {
        let mut index = near.min(N - 1);
        while index > 0 && x <= self.last[index - 1] {
            index -= 1;
        }
        while index + 1 < N && x > self.last[index] {
            index += 1;
        }
        index
    }

    /// The values of a decade.
    pub(super) const fn steps(&self, decade: usize) -> usize {
        self.first << decade
    }

    /// The index of its first value.
    pub(super) const fn index(&self, decade: usize) -> usize {
        self.steps(decade) + 1 - self.first
    }

    /// The largest number that becomes one of its values.
    pub(super) const fn decade_last(&self, decade: usize) -> f32 {
        self.last[self.index(decade) + self.steps(decade) - 1]
    }

    /// The decade of a number, the one above it if there is none.
    pub(super) const fn decade(&self, x: f64) -> usize {
        let mut decade = 0;
        while decade < DECADES - 1 && x > self.decade_last(decade) as f64 {
            decade += 1;
        }
        decade
    }

    /// The ranks that a decade's line rises by from 0 to 1.
    pub(super) const fn slope(&self, decade: usize) -> f64 {
        let (mut unit, mut i) = (1.0, decade + 1);
        while i < DECADES {
            unit *= 10.0;
            i += 1;
        }
        unit * self.steps(decade) as f64 / 0.9
    }

    /// The rank at 0: what is nearest to value i of the decade has a rank from i to i + 1, the last one's ends later.
    pub(super) const fn offset(&self, decade: usize) -> f64 {
        self.index(decade) as f64 - self.steps(decade) as f64 / 9.0
    }
}
