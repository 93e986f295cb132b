//! Affine codes: integers q that stand for (q - zero point) · scale, for a tensor, an axis or groups of a row.
//!
//! | module | what it knows |
//! |---|---|
//! | `nan` | what becomes of NaN |
//! | [`Place`] | which scale belongs to an element |
//! | `given` | codes of strips whose scales are known |
//! | `kernel` | numbers to codes and back |
//! | `pack` | codes of 2 and 4 bits in bytes |
//! | `ranges` | smallest and largest numbers that share a scale |
//! | `sweep` | the sweeps over an array |
//! | [`fake`] | there and back at once, and its gradients |

pub mod fake;
mod fake_formula;
mod given;
mod kernel;
mod nan;
mod pack;
mod place;
mod ranges;
mod sweep;

pub use place::Place;
pub use sweep::{CodesMut, Steps, dequantize, is_one_sweep, quantize, quantize_given};

/// The codes of a scheme.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    /// Bits of a code, 2 to 8; 2 and 4 are packed.
    pub bits: usize,
    /// The least code.
    pub qmin: i32,
    /// The largest.
    pub qmax: i32,
    /// What the largest magnitude is divided by where the zero point is 0; else the whole range has a code for both ends.
    pub divisor: Option<f32>,
    /// x · (1 / scale) instead of x / scale.
    pub is_reciprocal: bool,
}

/// The largest magnitudes below and above 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Range {
    /// -min, or 0.
    pub below: f32,
    /// max, or 0.
    pub above: f32,
}

/// What the codes of a range are multiplied by, and the code of 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The distance of neighbours.
    pub scale: f32,
    /// The code of 0.
    pub zero_point: i32,
}

impl Grid {
    /// Codes that share a byte.
    const fn of_byte(self) -> usize {
        match self.bits {
            2 => 4,
            4 => 2,
            _ => 1,
        }
    }

    /// Bytes of so many codes.
    const fn code_bytes(self, len: usize) -> usize {
        len.div_ceil(self.of_byte())
    }

    /// The bits of a stored code that, turned over, make its place above the least one that could be stored.
    const fn sign(self) -> u8 {
        match (self.qmin < 0, self.of_byte()) {
            (false, _) => 0,
            (true, 1) => 0x80,
            (true, _) => 1 << (self.bits - 1),
        }
    }

    /// Symmetric: scale = max(below, above) / divisor, zero point 0. Else scale = (above + below) / (qmax - qmin) and
    /// zero point = qmin + round(below / scale), half to even. A scale below the normal numbers becomes 1 with zero point 0,
    /// and one that would make a code infinite the largest that does not.
    #[must_use]
    pub fn step(self, Range { below, above }: Range) -> Step {
        let [below, above] = [below.min(f32::MAX), above.min(f32::MAX)];
        let steps = (self.qmax - self.qmin) as f32;
        let scale = match self.divisor {
            Some(divisor) => below.max(above) / divisor,
            None if (above + below).is_finite() => (above + below) / steps,
            None => above / steps + below / steps,
        };
        if scale < f32::MIN_POSITIVE {
            return Step { scale: 1.0, zero_point: 0 };
        }
        let zero_point = match self.divisor {
            Some(_) => 0,
            None => (self.qmin + (below / scale).round_ties_even() as i32).clamp(self.qmin, self.qmax),
        };
        let farthest = (zero_point - self.qmin).max(self.qmax - zero_point) as f32;
        Step { scale: scale.min(largest_scale(farthest)), zero_point }
    }

    /// The same for many, largest magnitudes below and above 0.
    pub fn steps(self, [below, above]: [&[f32]; 2], scales: &mut [f32], zero_points: &mut [i32]) {
        for (k, (&below, &above)) in below.iter().zip(above).enumerate() {
            let step = self.step(Range { below, above });
            (scales[k], zero_points[k]) = (step.scale, step.zero_point);
        }
    }
}

/// The largest scale whose product with `steps` is finite.
fn largest_scale(steps: f32) -> f32 {
    let scale = f32::MAX / steps;
    if (scale * steps).is_finite() { scale } else { f32::from_bits(scale.to_bits() - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [-1, 2] in 255 steps: 3 / 255, and 0 is 85 steps above the least code. Symmetric: 2 / 127.
    #[test]
    fn steps_by_hand() {
        let range = Range { below: 1.0, above: 2.0 };
        let grid = Grid { bits: 8, qmin: 0, qmax: 255, divisor: None, is_reciprocal: false };
        assert_eq!(grid.step(range), Step { scale: 3.0 / 255.0, zero_point: 85 });
        assert_eq!(grid.step(Range::default()), Step { scale: 1.0, zero_point: 0 });
        let huge = Range { below: f32::INFINITY, above: f32::MAX };
        assert!(grid.step(huge).scale.is_finite() && grid.step(huge).zero_point == 128);
        let grid = Grid { bits: 8, qmin: -127, qmax: 127, divisor: Some(127.0), is_reciprocal: false };
        assert_eq!(grid.step(range), Step { scale: 2.0 / 127.0, zero_point: 0 });
        let tiny = Range { below: 0.0, above: 1e-37 };
        assert_eq!(grid.step(tiny), Step { scale: 1.0, zero_point: 0 });
    }
}
