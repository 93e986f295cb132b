//! NAdam, as `torch.optim.NAdam`.

use fearless_simd::prelude::*;

use super::rule::{Rule, scalars};
use crate::dtype::Compute;

scalars! {
    /// m += (1 - β1)(g - m); v = β2·v + (1 - β2)·g²;
    /// p = p·decay - (grad_step·g + m_step·m) / (√(v·inv_bias_correction2) + ε).
    ///
    /// μ_t = β1(1 - ½·0.96^(tψ)), Π = ∏μ: `grad_step` = lr(1 - μ_t) / (1 - Π_t), `m_step` = lr·μ_(t+1) / (1 - Π_(t+1)).
    pub struct NAdam {
        numbers: weight_decay, decay, one_minus_beta1, beta2, one_minus_beta2, grad_step, m_step, inv_bias_correction2, eps;
        flags: ;
    }
}

impl<T: Compute> Rule<T, 2> for NAdam<T> {
    const STATE: [&'static str; 2] = ["m", "v"];

    #[inline(always)]
    fn step<S: Simd, V: SimdFloat<S, Element = T>>(&self, param: V, grad: V, [m, v]: [V; 2]) -> (V, [V; 2]) {
        let mut grad = grad;
        if self.weight_decay != T::default() {
            grad += param * self.weight_decay;
        }
        let m = m + (grad - m) * self.one_minus_beta1;
        let v = v * self.beta2 + grad * grad * self.one_minus_beta2;
        let denom = (v * self.inv_bias_correction2).sqrt() + self.eps;
        (param * self.decay - (grad * self.grad_step + m * self.m_step) / denom, [m, v])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::rule::by_hand;

    /// p = 1, β 1/2 and 3/4, no ε. g = 2: m = 1, v = 1, √(4v) = 2, p = 1 - (2/4 + 1/2)/2. Then g = 0, decay 1/2: m = 1/2,
    /// v = 3/4, √(3v) = 3/2, p = 1/4 - 3/4·1/2·2/3.
    #[test]
    fn two_steps_by_hand() {
        let first = NAdam::<f64>::new(&[0.0, 1.0, 0.5, 0.75, 0.25, 0.25, 0.5, 4.0, 0.0]);
        let (param, state) = by_hand(&first, 1.0, 2.0, [0.0; 2]);
        assert_eq!((param, state), (0.5, [1.0, 1.0]));
        let second = NAdam::<f64>::new(&[0.0, 0.5, 0.5, 0.75, 0.25, 0.25, 0.75, 3.0, 0.0]);
        assert_eq!(by_hand(&second, param, 0.0, state), (0.0, [0.5, 0.75]));
    }
}
