//! Schedule-free AdamW, after Defazio et al., 2024. The parameter holds y.

use fearless_simd::prelude::*;

use super::rule::{Rule, scalars};
use crate::dtype::Compute;

scalars! {
    /// v = β2·v + (1 - β2)·g²; n = g / (√(v·inv_bias_correction2) + ε) + λ·y; y += c(z - y) + y_step·n; z -= lr·n.
    ///
    /// `average_weight` c: the share of this step in the average; `y_step` = lr(β1(1 - c) - 1).
    pub struct ScheduleFreeAdamW {
        numbers: weight_decay, beta2, one_minus_beta2, inv_bias_correction2, eps, average_weight, y_step, lr;
        flags: ;
    }
}

impl<T: Compute> Rule<T, 2> for ScheduleFreeAdamW<T> {
    const STATE: [&'static str; 2] = ["z", "v"];

    #[inline(always)]
    fn step<S: Simd, V: SimdFloat<S, Element = T>>(&self, param: V, grad: V, [z, v]: [V; 2]) -> (V, [V; 2]) {
        let v = v * self.beta2 + grad * grad * self.one_minus_beta2;
        let denom = (v * self.inv_bias_correction2).sqrt() + self.eps;
        let mut normalized = grad / denom;
        if self.weight_decay != T::default() {
            normalized += param * self.weight_decay;
        }
        let param = param + (z - param) * self.average_weight + normalized * self.y_step;
        (param, [z - normalized * self.lr, v])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::rule::by_hand;

    /// y = z = 1, β2 3/4, lr 1/4, no ε. g = 2: v = 1, n = 2/√4, c = 1: y = 1 - 1/4 and z = 1 - 1/4. Then g = 1, c 1/2, λ 4/3:
    /// v = 1, n = 1/√1 + 1, y = 3/4 - 2·3/16, z = 3/4 - 2/4.
    #[test]
    fn two_steps_by_hand() {
        let first = ScheduleFreeAdamW::<f64>::new(&[0.0, 0.75, 0.25, 4.0, 0.0, 1.0, -0.25, 0.25]);
        let (param, state) = by_hand(&first, 1.0, 2.0, [1.0, 0.0]);
        assert_eq!((param, state), (0.75, [0.75, 1.0]));
        let second = ScheduleFreeAdamW::<f64>::new(&[4.0 / 3.0, 0.75, 0.25, 1.0, 0.0, 0.5, -0.1875, 0.25]);
        assert_eq!(by_hand(&second, param, 1.0, state), (0.375, [0.25, 1.0]));
    }

    /// c 1/4 takes y a quarter of the way to z.
    #[test]
    fn y_moves_towards_z() {
        let rule = ScheduleFreeAdamW::<f64>::new(&[0.0, 0.75, 0.25, 1.0, 1.0, 0.25, 0.0, 0.0]);
        assert_eq!(by_hand(&rule, 1.0, 0.0, [5.0, 0.0]), (2.0, [5.0, 0.0]));
    }
}
