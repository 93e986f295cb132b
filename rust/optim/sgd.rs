//! Stochastic gradient descent with momentum, as `torch.optim.SGD`.

use fearless_simd::prelude::*;

use super::rule::{Rule, scalars};
use crate::dtype::Compute;

scalars! {
    /// b = g at the first step, else μ·b + (1 - dampening)·g; d = g + μ·b (Nesterov) or b; p -= lr·d.
    pub struct Sgd {
        numbers: lr, weight_decay, momentum, one_minus_dampening;
        flags: nesterov, first_step;
    }
}

impl<T: Compute> Rule<T, 1> for Sgd<T> {
    const STATE: [&'static str; 1] = ["momentum"];

    #[inline(always)]
    fn step<S: Simd, V: SimdFloat<S, Element = T>>(&self, param: V, grad: V, [buffer]: [V; 1]) -> (V, [V; 1]) {
        let mut grad = grad;
        if self.weight_decay != T::default() {
            grad += param * self.weight_decay;
        }
        if self.momentum == T::default() {
            return (param - grad * self.lr, [buffer]);
        }
        let buffer = if self.first_step { grad } else { buffer * self.momentum + grad * self.one_minus_dampening };
        let direction = if self.nesterov { grad + buffer * self.momentum } else { buffer };
        (param - direction * self.lr, [buffer])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::rule::by_hand;

    /// p = 1, g = 2, lr 1/4, μ 1/2: b = 2, p = 0.5; then b = 1/2·2 + 2 = 3, p = 0.5 - 0.75.
    #[test]
    fn two_steps_by_hand() {
        let first = Sgd::<f64>::new(&[0.25, 0.0, 0.5, 1.0, 0.0, 1.0]);
        let later = Sgd::<f64>::new(&[0.25, 0.0, 0.5, 1.0, 0.0, 0.0]);
        let (param, state) = by_hand(&first, 1.0, 2.0, [0.0]);
        assert_eq!((param, state), (0.5, [2.0]));
        assert_eq!(by_hand(&later, param, 2.0, state), (-0.25, [3.0]));
    }
}
