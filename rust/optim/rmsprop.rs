//! RMSprop, plain or centered, with or without momentum, as `torch.optim.RMSprop`.

use fearless_simd::prelude::*;

use super::rule::{Rule, larger, scalars};
use crate::dtype::Compute;

scalars! {
    /// v = α·v + (1 - α)·g²; centered: a += (1 - α)(g - a), v - a² instead of v below; d = √v + ε, or √(v + ε);
    /// b = μ·b + g / d, p -= lr·b; without momentum p -= lr·g / d.
    ///
    /// v - a² can round below 0: then it counts as 0.
    pub struct RmsProp {
        numbers: weight_decay, lr, alpha, one_minus_alpha, eps, momentum;
        flags: centered, eps_inside_sqrt;
    }
}

impl<T: Compute> Rule<T, 3> for RmsProp<T> {
    const STATE: [&'static str; 3] = ["square_avg", "grad_avg", "momentum"];

    #[inline(always)]
    fn step<S: Simd, V: SimdFloat<S, Element = T>>(
        &self,
        param: V,
        grad: V,
        [square_avg, grad_avg, buffer]: [V; 3],
    ) -> (V, [V; 3]) {
        let mut grad = grad;
        if self.weight_decay != T::default() {
            grad += param * self.weight_decay;
        }
        let square_avg = square_avg * self.alpha + grad * grad * self.one_minus_alpha;
        let mut grad_avg = grad_avg;
        let mut variance = square_avg;
        if self.centered {
            grad_avg = grad_avg + (grad - grad_avg) * self.one_minus_alpha;
            variance = larger(V::splat(param.token(), T::default()), square_avg - grad_avg * grad_avg);
        }
        let denom = if self.eps_inside_sqrt { (variance + self.eps).sqrt() } else { variance.sqrt() + self.eps };
        if self.momentum == T::default() {
            return (param - grad * self.lr / denom, [square_avg, grad_avg, buffer]);
        }
        let buffer = buffer * self.momentum + grad / denom;
        (param - buffer * self.lr, [square_avg, grad_avg, buffer])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::rule::by_hand;

    /// p = 1, α 3/4, lr 1/4, no ε. g = 4: v = 4, p = 1 - 4/4/2; then g = 2: v = 3 + 1, p = 1/2 - 2/4/2.
    #[test]
    fn two_steps_by_hand() {
        let rule = RmsProp::<f64>::new(&[0.0, 0.25, 0.75, 0.25, 0.0, 0.0, 0.0, 0.0]);
        let (param, state) = by_hand(&rule, 1.0, 4.0, [0.0; 3]);
        assert_eq!((param, state), (0.5, [4.0, 0.0, 0.0]));
        assert_eq!(by_hand(&rule, param, 2.0, state), (0.25, [4.0, 0.0, 0.0]));
    }

    /// μ 1/2. g = 4: v = 4, a = 1, √(4 - 1 + ε) = 2 for ε = 1 inside the root, b = 2. Then g = 1 and ε = 1/2 outside it:
    /// v = 13/4, a = 1, √(9/4) + 1/2 = 2, b = 1 + 1/2.
    #[test]
    fn centered_with_momentum_by_hand() {
        let inside = RmsProp::<f64>::new(&[0.0, 0.25, 0.75, 0.25, 1.0, 0.5, 1.0, 1.0]);
        let (param, state) = by_hand(&inside, 1.0, 4.0, [0.0; 3]);
        assert_eq!((param, state), (0.5, [4.0, 1.0, 2.0]));
        let outside = RmsProp::<f64>::new(&[0.0, 0.25, 0.75, 0.25, 0.5, 0.5, 1.0, 0.0]);
        assert_eq!(by_hand(&outside, param, 1.0, state), (0.125, [3.25, 1.0, 1.5]));
    }

    /// v - a² = -1 counts as 0, and the step is divided by ε alone.
    #[test]
    fn a_negative_variance_counts_as_zero() {
        let rule = RmsProp::<f64>::new(&[0.0, 0.25, 1.0, 0.0, 2.0, 0.0, 1.0, 0.0]);
        assert_eq!(by_hand(&rule, 1.0, 4.0, [0.0, 1.0, 0.0]), (0.5, [0.0, 1.0, 0.0]));
    }
}
