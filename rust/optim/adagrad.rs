//! Adagrad, as `torch.optim.Adagrad`.

use fearless_simd::prelude::*;

use super::rule::{Rule, scalars};
use crate::dtype::Compute;

scalars! {
    /// sum += g²; p -= step_size·g / (√sum + ε).
    ///
    /// `step_size` = lr / (1 + (t - 1)·lr_decay).
    pub struct Adagrad {
        numbers: weight_decay, step_size, eps;
        flags: ;
    }
}

impl<T: Compute> Rule<T, 1> for Adagrad<T> {
    const STATE: [&'static str; 1] = ["sum"];

    #[inline(always)]
    fn step<S: Simd, V: SimdFloat<S, Element = T>>(&self, param: V, grad: V, [sum]: [V; 1]) -> (V, [V; 1]) {
        let mut grad = grad;
        if self.weight_decay != T::default() {
            grad += param * self.weight_decay;
        }
        let sum = sum + grad * grad;
        let denom = sum.sqrt() + self.eps;
        (param - grad * self.step_size / denom, [sum])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::rule::by_hand;

    /// p = 1, lr 1, no ε. g = 3: sum 9, p = 1 - 3/3; then g = 4: sum 25, p = -4/5.
    #[test]
    fn two_steps_by_hand() {
        let rule = Adagrad::<f64>::new(&[0.0, 1.0, 0.0]);
        let (param, state) = by_hand(&rule, 1.0, 3.0, [0.0]);
        assert_eq!((param, state), (0.0, [9.0]));
        assert_eq!(by_hand(&rule, param, 4.0, state), (-0.8, [25.0]));
    }

    /// λ = 1/2: the gradient 2 becomes 2 + 4/2.
    #[test]
    fn weight_decay_adds_to_the_gradient() {
        let rule = Adagrad::<f64>::new(&[0.5, 0.5, 0.0]);
        assert_eq!(by_hand(&rule, 4.0, 2.0, [0.0]), (3.5, [16.0]));
    }
}
