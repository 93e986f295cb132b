//! Averaged stochastic gradient descent, as `torch.optim.ASGD`.

use fearless_simd::prelude::*;

use super::rule::{Rule, scalars};
use crate::dtype::Compute;

scalars! {
    /// p = p·decay - η·g; ax += μ(p - ax), or p itself while μ is 1.
    ///
    /// `decay` = 1 - λd·η; η = lr / (1 + λd·lr·(t - 1))^α, μ = 1 / max(1, t - 1 - t0).
    pub struct Asgd {
        numbers: weight_decay, decay, eta, mu;
        flags: averaging;
    }
}

impl<T: Compute> Rule<T, 1> for Asgd<T> {
    const STATE: [&'static str; 1] = ["ax"];

    #[inline(always)]
    fn step<S: Simd, V: SimdFloat<S, Element = T>>(&self, param: V, grad: V, [ax]: [V; 1]) -> (V, [V; 1]) {
        let mut grad = grad;
        if self.weight_decay != T::default() {
            grad += param * self.weight_decay;
        }
        let param = param * self.decay - grad * self.eta;
        let ax = if self.averaging { ax + (param - ax) * self.mu } else { param };
        (param, [ax])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::rule::by_hand;

    /// p = 1, decay 1/2, η 1/4. g = 2: p = 1/2 - 1/2, ax = p; then g = -4, μ 1/2: p = 1, ax = 0 + 1/2.
    #[test]
    fn two_steps_by_hand() {
        let first = Asgd::<f64>::new(&[0.0, 0.5, 0.25, 1.0, 0.0]);
        let (param, state) = by_hand(&first, 1.0, 2.0, [7.0]);
        assert_eq!((param, state), (0.0, [0.0]));
        let second = Asgd::<f64>::new(&[0.0, 0.5, 0.25, 0.5, 1.0]);
        assert_eq!(by_hand(&second, param, -4.0, state), (1.0, [0.5]));
    }
}
