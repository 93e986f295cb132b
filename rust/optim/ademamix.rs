//! AdEMAMix, after Pagliardini, Ablin and Grangier, 2024.

use fearless_simd::prelude::*;

use super::rule::{Rule, scalars};
use crate::dtype::Compute;

scalars! {
    /// m += (1 - β1)(g - m); v = β2·v + (1 - β2)·g²; m_slow += (1 - β3)(g - m_slow);
    /// p = p·decay - (step_size·m + slow_step_size·m_slow) / (√v·inv_sqrt_bias_correction2 + ε).
    ///
    /// `step_size` = lr / bias_correction1, `slow_step_size` = lr·α, `decay` = 1 - lr·λ.
    pub struct AdEmaMix {
        numbers: decay, one_minus_beta1, beta2, one_minus_beta2, one_minus_beta3, step_size, slow_step_size, inv_sqrt_bias_correction2, eps;
        flags: ;
    }
}

impl<T: Compute> Rule<T, 3> for AdEmaMix<T> {
    const STATE: [&'static str; 3] = ["m", "v", "m_slow"];

    #[inline(always)]
    fn step<S: Simd, V: SimdFloat<S, Element = T>>(&self, param: V, grad: V, [m, v, m_slow]: [V; 3]) -> (V, [V; 3]) {
        let m = m + (grad - m) * self.one_minus_beta1;
        let v = v * self.beta2 + grad * grad * self.one_minus_beta2;
        let m_slow = m_slow + (grad - m_slow) * self.one_minus_beta3;
        let denom = v.sqrt() * self.inv_sqrt_bias_correction2 + self.eps;
        (param * self.decay - (m * self.step_size + m_slow * self.slow_step_size) / denom, [m, v, m_slow])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::rule::by_hand;

    /// p = 1, β 1/2, 3/4, 7/8, no ε. g = 2: m = 1, v = 1, √v·2 = 2, slow 1/4, p = 1 - (1/4 + 2·1/4)/2. Then g = 1, decay 4/5:
    /// m = 1, v = 1, slow 1/4 + 3/32, p = 1/2 - (1/4 + 2·11/32).
    #[test]
    fn two_steps_by_hand() {
        let first = AdEmaMix::<f64>::new(&[1.0, 0.5, 0.75, 0.25, 0.125, 0.25, 2.0, 2.0, 0.0]);
        let (param, state) = by_hand(&first, 1.0, 2.0, [0.0; 3]);
        assert_eq!((param, state), (0.625, [1.0, 1.0, 0.25]));
        let second = AdEmaMix::<f64>::new(&[0.8, 0.5, 0.75, 0.25, 0.125, 0.25, 2.0, 1.0, 0.0]);
        assert_eq!(by_hand(&second, param, 1.0, state), (-0.4375, [1.0, 1.0, 0.34375]));
    }
}
