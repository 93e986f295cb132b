//! LARS: momentum whose steps are as long as the parameter demands (You et al. 2017).

use fearless_simd::prelude::*;

use super::rule::{Norms, Rule, scalars};
use crate::dtype::Compute;

scalars! {
    /// u = g + λp; d = lr·trust_coefficient·(‖p‖ / ‖u‖)·u, or lr·u if a norm is 0; b = μ·b + d; p -= d + μ·b (Nesterov) or b.
    pub struct Lars {
        numbers: weight_decay, momentum;
        flags: nesterov;
        exact: lr, trust_coefficient;
        derived: step_size;
    }
}

impl<T: Compute> Rule<T, 1> for Lars<T> {
    const STATE: [&'static str; 1] = ["momentum"];
    const MEASURES: bool = true;

    #[inline(always)]
    fn measure<S: Simd, V: SimdFloat<S, Element = T>>(&self, param: V, grad: V, _state: [V; 1]) -> V {
        grad + param * self.weight_decay
    }

    fn measured(self, norms: Norms) -> Self {
        let both = norms.param > 0.0 && norms.measured > 0.0;
        let ratio = if both { self.trust_coefficient * norms.param / norms.measured } else { 1.0 };
        Self { step_size: T::from_f64(self.lr * ratio), ..self }
    }

    #[inline(always)]
    fn step<S: Simd, V: SimdFloat<S, Element = T>>(&self, param: V, grad: V, [buffer]: [V; 1]) -> (V, [V; 1]) {
        let direction = (grad + param * self.weight_decay) * self.step_size;
        let buffer = buffer * self.momentum + direction;
        let direction = if self.nesterov { direction + buffer * self.momentum } else { buffer };
        (param - direction, [buffer])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::rule::by_hand;

    /// p = 4, g = 2, λ 1/2, μ 1/2: u = 4; lr 1, trust 1/4, ‖p‖ = ‖u‖: d = 1, b = 1, p = 3. Then g = 1/2, u = 2, ‖p‖ = 0:
    /// d = 2, b = 5/2, and Nesterov's step is 2 + 5/4.
    #[test]
    fn two_steps_by_hand() {
        let first = Lars::<f64>::new(&[0.5, 0.5, 0.0, 1.0, 0.25]);
        let first = first.measured(Norms { len: 1, param: 4.0, measured: 4.0 });
        let (param, state) = by_hand(&first, 4.0, 2.0, [0.0]);
        assert_eq!((param, state), (3.0, [1.0]));
        let second = Lars::<f64>::new(&[0.5, 0.5, 1.0, 1.0, 0.25]);
        let second = second.measured(Norms { len: 1, param: 0.0, measured: 2.0 });
        assert_eq!(by_hand(&second, param, 0.5, state), (-0.25, [2.5]));
    }
}
