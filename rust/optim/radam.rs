//! RAdam, as `torch.optim.RAdam`.

use fearless_simd::prelude::*;

use super::rule::{Rule, scalars};
use crate::dtype::Compute;

scalars! {
    /// m += (1 - β1)(g - m); v = β2·v + (1 - β2)·g²; p = p·decay - step_size·m / (√v + ε), without the division unless
    /// rectified.
    ///
    /// `step_size` = lr / bias_correction1, times rectification·√bias_correction2 if rectified.
    pub struct RAdam {
        numbers: weight_decay, decay, one_minus_beta1, beta2, one_minus_beta2, step_size, eps;
        flags: rectified;
    }
}

impl<T: Compute> Rule<T, 2> for RAdam<T> {
    const STATE: [&'static str; 2] = ["m", "v"];

    #[inline(always)]
    fn step<S: Simd, V: SimdFloat<S, Element = T>>(&self, param: V, grad: V, [m, v]: [V; 2]) -> (V, [V; 2]) {
        let mut grad = grad;
        if self.weight_decay != T::default() {
            grad += param * self.weight_decay;
        }
        let m = m + (grad - m) * self.one_minus_beta1;
        let v = v * self.beta2 + grad * grad * self.one_minus_beta2;
        if !self.rectified {
            return (param * self.decay - m * self.step_size, [m, v]);
        }
        let denom = v.sqrt() + self.eps;
        (param * self.decay - m * self.step_size / denom, [m, v])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::rule::by_hand;

    /// p = 1, β 1/2 and 3/4, ε 1. g = 2, not rectified: m = 1, v = 1, p = 1 - 1/4. Then g = 1, rectified, decay 2: m = 1,
    /// v = 1, p = 3/2 - 1/4·1/2.
    #[test]
    fn two_steps_by_hand() {
        let first = RAdam::<f64>::new(&[0.0, 1.0, 0.5, 0.75, 0.25, 0.25, 1.0, 0.0]);
        let (param, state) = by_hand(&first, 1.0, 2.0, [0.0; 2]);
        assert_eq!((param, state), (0.75, [1.0, 1.0]));
        let second = RAdam::<f64>::new(&[0.0, 2.0, 0.5, 0.75, 0.25, 0.25, 1.0, 1.0]);
        assert_eq!(by_hand(&second, param, 1.0, state), (1.375, [1.0, 1.0]));
    }
}
