//! Adadelta, as `torch.optim.Adadelta`.

use fearless_simd::prelude::*;

use super::rule::{Rule, scalars};
use crate::dtype::Compute;

scalars! {
    /// v = ρ·v + (1 - ρ)·g²; δ = √(u + ε) / √(v + ε)·g; u = ρ·u + (1 - ρ)·δ²; p -= lr·δ.
    pub struct Adadelta {
        numbers: weight_decay, lr, rho, one_minus_rho, eps;
        flags: ;
    }
}

impl<T: Compute> Rule<T, 2> for Adadelta<T> {
    const STATE: [&'static str; 2] = ["square_avg", "acc_delta"];

    #[inline(always)]
    fn step<S: Simd, V: SimdFloat<S, Element = T>>(
        &self,
        param: V,
        grad: V,
        [square_avg, acc_delta]: [V; 2],
    ) -> (V, [V; 2]) {
        let mut grad = grad;
        if self.weight_decay != T::default() {
            grad += param * self.weight_decay;
        }
        let square_avg = square_avg * self.rho + grad * grad * self.one_minus_rho;
        let delta = (acc_delta + self.eps).sqrt() / (square_avg + self.eps).sqrt() * grad;
        let acc_delta = acc_delta * self.rho + delta * delta * self.one_minus_rho;
        (param - delta * self.lr, [square_avg, acc_delta])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::rule::by_hand;

    /// p = 1, u = 1, ρ 3/4, lr 1/4. g = 4, no ε: v = 4, δ = 1/2·4, u = 3/4 + 1, p = 1 - 2/4. Then g = 2, ε = 9/4:
    /// v = 3 + 1, δ = √4 / √6.25·2 = 1.6, u = 21/16 + 0.64, p = 1/2 - 0.4.
    #[test]
    fn two_steps_by_hand() {
        let first = Adadelta::<f64>::new(&[0.0, 0.25, 0.75, 0.25, 0.0]);
        let (param, state) = by_hand(&first, 1.0, 4.0, [0.0, 1.0]);
        assert_eq!((param, state), (0.5, [4.0, 1.75]));
        let second = Adadelta::<f64>::new(&[0.0, 0.25, 0.75, 0.25, 2.25]);
        let (param, [square_avg, acc_delta]) = by_hand(&second, param, 2.0, state);
        assert_eq!(square_avg, 4.0);
        assert!((acc_delta - (1.3125 + 0.64)).abs() < 1e-15);
        assert!((param - 0.1).abs() < 1e-15);
    }
}
