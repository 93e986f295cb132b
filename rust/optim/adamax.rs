//! Adamax, as `torch.optim.Adamax`.

use fearless_simd::prelude::*;

use super::rule::{Rule, larger, scalars};
use crate::dtype::Compute;

scalars! {
    /// m += (1 - β1)(g - m); u = max(β2·u, |g| + ε); p -= step_size·m / u.
    ///
    /// `step_size` = lr / bias_correction1.
    pub struct Adamax {
        numbers: weight_decay, one_minus_beta1, beta2, step_size, eps;
        flags: ;
    }
}

impl<T: Compute> Rule<T, 2> for Adamax<T> {
    const STATE: [&'static str; 2] = ["m", "u"];

    #[inline(always)]
    fn step<S: Simd, V: SimdFloat<S, Element = T>>(&self, param: V, grad: V, [m, u]: [V; 2]) -> (V, [V; 2]) {
        let mut grad = grad;
        if self.weight_decay != T::default() {
            grad += param * self.weight_decay;
        }
        let m = m + (grad - m) * self.one_minus_beta1;
        let u = larger(u * self.beta2, grad.abs() + self.eps);
        (param - m * self.step_size / u, [m, u])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::rule::by_hand;

    /// p = 1, β 1/2 and 3/4, no ε. g = -2: m = -1, u = 2, p = 1 + 1/2·1/2; then g = 1: m = 0, u = 3/2, p stays.
    #[test]
    fn two_steps_by_hand() {
        let rule = Adamax::<f64>::new(&[0.0, 0.5, 0.75, 0.5, 0.0]);
        let (param, state) = by_hand(&rule, 1.0, -2.0, [0.0; 2]);
        assert_eq!((param, state), (1.25, [-1.0, 2.0]));
        assert_eq!(by_hand(&rule, param, 1.0, state), (1.25, [0.0, 1.5]));
    }
}
