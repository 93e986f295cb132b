//! Adam, AdamW and AMSGrad, as `torch.optim.Adam` and `torch.optim.AdamW`.

use fearless_simd::prelude::*;

use super::rule::{Rule, scalars};
use crate::dtype::Compute;

scalars! {
    /// m += (1 - β1)(g - m); v = β2·v + (1 - β2)·g²; p = p·decay - step_size·m / (√v·inv_sqrt_bias_correction2 + ε).
    ///
    /// `weight_decay` is the L2 form, `decay` = 1 - lr·λ the decoupled one; `step_size` = lr / bias_correction1.
    pub struct Adam {
        numbers: weight_decay, decay, one_minus_beta1, beta2, one_minus_beta2, step_size, inv_sqrt_bias_correction2, eps;
        flags: amsgrad;
    }
}

impl<T: Compute> Rule<T, 3> for Adam<T> {
    const STATE: [&'static str; 3] = ["m", "v", "v_max"];

    #[inline(always)]
    fn step<S: Simd, V: SimdFloat<S, Element = T>>(&self, param: V, grad: V, [m, v, v_max]: [V; 3]) -> (V, [V; 3]) {
        let mut grad = grad;
        if self.weight_decay != T::default() {
            grad += param * self.weight_decay;
        }
        let m = m + (grad - m) * self.one_minus_beta1;
        let v = v * self.beta2 + grad * grad * self.one_minus_beta2;
        let v_max = if self.amsgrad { v_max.simd_gt(v).select(v_max, v) } else { v };
        let denom = v_max.sqrt() * self.inv_sqrt_bias_correction2 + self.eps;
        (param * self.decay - m * self.step_size / denom, [m, v, v_max])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::rule::by_hand;

    /// p = 1, g = 2, β 1/2 and 3/4, no ε, lr 1/4. Step 1: m = 1, v = 1, both corrected 2 and 4, p = 1 - 1/4·2/2 = 3/4.
    /// Step 2, g = 0: m = 1/2, v = 3/4; step_size = 1/4 / (3/4), and √(3/4)·√(16/7) = √(12/7).
    #[test]
    fn two_steps_by_hand() {
        let first = Adam::<f64>::new(&[0.0, 1.0, 0.5, 0.75, 0.25, 0.5, 2.0, 0.0, 0.0]);
        let (param, state) = by_hand(&first, 1.0, 2.0, [0.0; 3]);
        assert_eq!((param, state), (0.75, [1.0, 1.0, 1.0]));
        let second = Adam::<f64>::new(&[0.0, 1.0, 0.5, 0.75, 0.25, 1.0 / 3.0, (16.0_f64 / 7.0).sqrt(), 0.0, 0.0]);
        let (param, state) = by_hand(&second, param, 0.0, state);
        assert_eq!(state, [0.5, 0.75, 0.75]);
        assert!((param - (0.75 - 0.5 / 3.0 / (12.0_f64 / 7.0).sqrt())).abs() < 1e-15);
    }

    /// v falls from 1 to 3/4, v_max stays, and the step is divided by √1.
    #[test]
    fn amsgrad_keeps_the_largest_v() {
        let rule = Adam::<f64>::new(&[0.0, 1.0, 0.5, 0.75, 0.25, 1.0, 1.0, 0.0, 1.0]);
        let (param, state) = by_hand(&rule, 1.0, 0.0, [1.0, 1.0, 1.0]);
        assert_eq!((param, state), (0.5, [0.5, 0.75, 1.0]));
    }
}
