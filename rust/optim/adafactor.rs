//! Adafactor, as `torch.optim.Adafactor`: second moments of matrices as means over their rows and columns.

use fearless_simd::prelude::*;

use super::rule::{Factoring, Norms, Rule, larger, scalars};
use crate::dtype::Compute;

scalars! {
    /// Matrices: V = (R / max(mean R, ε1))·C, R and C being averages of the row and column means of g²; others:
    /// V += (1 - β2)(g² - V). U = g / √max(V, ε1²); p = p·decay - ρ·max(ε2, RMS(p))·U / max(1, RMS(U) / d).
    ///
    /// An ε1 of 0 stands for the compute type's own; an ε1² that would be 0 is the least normal number, lest 0 be divided by 0.
    pub struct Adafactor {
        numbers: decay, one_minus_beta2, eps1;
        flags: ;
        exact: eps2, rho, d;
        derived: step_size, is_factored;
    }
}

impl<T: Compute> Adafactor<T> {
    fn eps(&self) -> T {
        if self.eps1 == T::default() { T::EPSILON } else { self.eps1 }
    }

    /// U and the new state.
    #[inline(always)]
    fn update<S: Simd, V: SimdFloat<S, Element = T>>(
        &self,
        grad: V,
        [row_ratio, col_var, variance]: [V; 3],
    ) -> (V, [V; 3]) {
        let variance = variance + (grad * grad - variance) * self.one_minus_beta2;
        let estimate = if self.is_factored == T::default() { variance } else { row_ratio * col_var };
        let (eps, least) = (V::splat(grad.token(), self.eps()), V::splat(grad.token(), T::LEAST));
        let estimate = larger(estimate, larger(eps * eps, least));
        (grad / estimate.sqrt(), [row_ratio, col_var, variance])
    }
}

impl<T: Compute> Rule<T, 3> for Adafactor<T> {
    const STATE: [&'static str; 3] = ["row_var", "col_var", "variance"];
    const FACTORED: bool = true;
    const MEASURES: bool = true;

    fn of_tensor(self, factored: bool) -> Self {
        Self { is_factored: T::from_f64(f64::from(u8::from(factored))), ..self }
    }

    fn factoring(&self) -> Factoring<T> {
        Factoring { one_minus_beta2: self.one_minus_beta2, eps: self.eps() }
    }

    #[inline(always)]
    fn measure<S: Simd, V: SimdFloat<S, Element = T>>(&self, _param: V, grad: V, state: [V; 3]) -> V {
        self.update(grad, state).0
    }

    fn measured(self, norms: Norms) -> Self {
        let root = (norms.len as f64).sqrt();
        let (param, update) = (norms.param / root, norms.measured / (root * self.d));
        let alpha = if param > self.eps2 { param } else { self.eps2 } * self.rho;
        Self { step_size: T::from_f64(if update > 1.0 { alpha / update } else { alpha }), ..self }
    }

    #[inline(always)]
    fn step<S: Simd, V: SimdFloat<S, Element = T>>(&self, param: V, grad: V, state: [V; 3]) -> (V, [V; 3]) {
        let (update, state) = self.update(grad, state);
        (param * self.decay - update * self.step_size, state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::rule::by_hand;

    /// No matrix: g = 2, 1 - β2 = 1: V = 4, U = 1; ρ 1/2, RMS(p) = 4, RMS(U) = 2 for d = 1: p = 4·1/2 - 1/2·4/2·1. A matrix,
    /// one element of it: R by its mean 1/2, C = 8, V = 4, U = 1/2; RMS(p) below ε2 = 1/4: p -= 1/2·1/4·1/2.
    #[test]
    fn two_steps_by_hand() {
        let rule = Adafactor::<f64>::new(&[0.5, 1.0, 0.0, 0.25, 0.5, 1.0]);
        let first = rule.of_tensor(false).measured(Norms { len: 1, param: 4.0, measured: 2.0 });
        assert_eq!(by_hand(&first, 4.0, 2.0, [0.0; 3]), (1.0, [0.0, 0.0, 4.0]));
        let rule = Adafactor::<f64>::new(&[1.0, 1.0, 0.0, 0.25, 0.5, 1.0]);
        let second = rule.of_tensor(true).measured(Norms { len: 4, param: 0.1, measured: 1.0 });
        assert_eq!(by_hand(&second, 1.0, 1.0, [0.5, 8.0, 0.0]).0, 1.0 - 0.125 * 0.5);
    }
}
