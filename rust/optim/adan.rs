//! Adan, after Xie et al., 2022.

use fearless_simd::prelude::*;

use super::rule::{Rule, scalars};
use crate::dtype::Compute;

scalars! {
    /// d = g - g_prev (0 at the first step); m += (1 - β1)(g - m); m_diff += (1 - β2)(d - m_diff);
    /// n = β3·n + (1 - β3)(g + β2·d)²;
    /// p = (p·decay - (step_size·m + diff_step_size·m_diff) / (√n·inv_sqrt_bias_correction3 + ε))·shrink; g_prev = g.
    ///
    /// `step_size` = lr / bias_correction1, `diff_step_size` = lr·β2 / bias_correction2; `decay` = 1 - lr·λ where the decay is
    /// decoupled, else `shrink` = 1 / (1 + lr·λ).
    pub struct Adan {
        numbers: decay, shrink, one_minus_beta1, beta2, one_minus_beta2, beta3, one_minus_beta3, step_size, diff_step_size, inv_sqrt_bias_correction3, eps;
        flags: first_step;
    }
}

impl<T: Compute> Rule<T, 4> for Adan<T> {
    const STATE: [&'static str; 4] = ["m", "m_diff", "n", "prev_grad"];

    #[inline(always)]
    fn step<S: Simd, V: SimdFloat<S, Element = T>>(
        &self,
        param: V,
        grad: V,
        [m, m_diff, n, prev_grad]: [V; 4],
    ) -> (V, [V; 4]) {
        let diff = if self.first_step { V::splat(param.token(), T::default()) } else { grad - prev_grad };
        let m = m + (grad - m) * self.one_minus_beta1;
        let m_diff = m_diff + (diff - m_diff) * self.one_minus_beta2;
        let ahead = grad + diff * self.beta2;
        let n = n * self.beta3 + ahead * ahead * self.one_minus_beta3;
        let denom = n.sqrt() * self.inv_sqrt_bias_correction3 + self.eps;
        let update = (m * self.step_size + m_diff * self.diff_step_size) / denom;
        ((param * self.decay - update) * self.shrink, [m, m_diff, n, grad])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::rule::by_hand;

    /// p = 1, every β 1/2, no ε. g = 2: d = 0, m = 1, n = 2, √n·√2 = 2, p = 1 - 1/4·1/2. Then g = 4: d = 2, m = 5/2, m_diff = 1,
    /// n = 1 + 25/2, √n·√(2/3) = 3, p = 7/8 - (5/2 + 1/2)/3, halved.
    #[test]
    fn two_steps_by_hand() {
        let first = Adan::<f64>::new(&[1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25, 0.5, 2.0_f64.sqrt(), 0.0, 1.0]);
        let (param, state) = by_hand(&first, 1.0, 2.0, [0.0, 0.0, 0.0, 9.0]);
        assert_eq!(state, [1.0, 0.0, 2.0, 2.0]);
        assert!((param - 0.875).abs() < 1e-15);
        let inv_sqrt = (2.0_f64 / 3.0).sqrt();
        let second = Adan::<f64>::new(&[1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 1.0, 0.5, inv_sqrt, 0.0, 0.0]);
        let (param, state) = by_hand(&second, param, 4.0, state);
        assert_eq!(state, [2.5, 1.0, 13.5, 4.0]);
        assert!((param - -0.0625).abs() < 1e-15);
    }
}
