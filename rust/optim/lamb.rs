//! LAMB: Adam's direction, its length set by the parameter's (You et al. 2020).

use fearless_simd::prelude::*;

use super::rule::{Norms, Rule, scalars};
use crate::dtype::Compute;

scalars! {
    /// m += (1 - β1)(g - m); v = β2·v + (1 - β2)·g²; u = m·inv_bias_correction1 / (√v·inv_sqrt_bias_correction2 + ε) + λp;
    /// p -= lr·(‖p‖ / ‖u‖)·u, the ratio being 1 if either is 0.
    pub struct Lamb {
        numbers: weight_decay, one_minus_beta1, beta2, one_minus_beta2, inv_bias_correction1, inv_sqrt_bias_correction2, eps;
        flags: ;
        exact: lr;
        derived: step_size;
    }
}

impl<T: Compute> Lamb<T> {
    /// u and the new moments.
    #[inline(always)]
    fn update<S: Simd, V: SimdFloat<S, Element = T>>(&self, param: V, grad: V, [m, v]: [V; 2]) -> (V, [V; 2]) {
        let m = m + (grad - m) * self.one_minus_beta1;
        let v = v * self.beta2 + grad * grad * self.one_minus_beta2;
        let denom = v.sqrt() * self.inv_sqrt_bias_correction2 + self.eps;
        (m * self.inv_bias_correction1 / denom + param * self.weight_decay, [m, v])
    }
}

impl<T: Compute> Rule<T, 2> for Lamb<T> {
    const STATE: [&'static str; 2] = ["m", "v"];
    const MEASURES: bool = true;

    #[inline(always)]
    fn measure<S: Simd, V: SimdFloat<S, Element = T>>(&self, param: V, grad: V, state: [V; 2]) -> V {
        self.update(param, grad, state).0
    }

    fn measured(self, norms: Norms) -> Self {
        let ratio = if norms.param > 0.0 && norms.measured > 0.0 { norms.param / norms.measured } else { 1.0 };
        Self { step_size: T::from_f64(self.lr * ratio), ..self }
    }

    #[inline(always)]
    fn step<S: Simd, V: SimdFloat<S, Element = T>>(&self, param: V, grad: V, state: [V; 2]) -> (V, [V; 2]) {
        let (update, state) = self.update(param, grad, state);
        (param - update * self.step_size, state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::rule::by_hand;

    /// p = 4, g = 2, β 1/2 and 3/4, no ε, no decay: m = 1, v = 1, u = 2·1 / (1·2) = 1; ‖p‖ = 4, ‖u‖ = 1, so p -= 1/8·4·1.
    /// Then g = 0 and λ 1/2: m = 1/2, v = 3/4, u = 1/2 / √(3/4) + 7/4 without corrections, and a norm that is 0.
    #[test]
    fn two_steps_by_hand() {
        let first = Lamb::<f64>::new(&[0.0, 0.5, 0.75, 0.25, 2.0, 2.0, 0.0, 0.125]);
        let first = first.measured(Norms { len: 1, param: 4.0, measured: 1.0 });
        let (param, state) = by_hand(&first, 4.0, 2.0, [0.0; 2]);
        assert_eq!((param, state), (3.5, [1.0, 1.0]));
        let second = Lamb::<f64>::new(&[0.5, 0.5, 0.75, 0.25, 1.0, 1.0, 0.0, 0.125]);
        let second = second.measured(Norms { len: 1, param: 0.0, measured: 1.0 });
        let (param, state) = by_hand(&second, param, 0.0, state);
        assert_eq!((param, state), (3.5 - (0.5 / 0.75_f64.sqrt() + 1.75) * 0.125, [0.5, 0.75]));
    }
}
