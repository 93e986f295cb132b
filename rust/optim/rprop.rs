//! Rprop, resilient backpropagation without back-stepping, as `torch.optim.Rprop`.

use fearless_simd::prelude::*;

use super::rule::{Rule, larger, scalars, sign};
use crate::dtype::Compute;

scalars! {
    /// s = g·prev; Δ *= η+ where s > 0, η- where s < 0, clamped; g = 0 where s < 0; p -= sign(g)·Δ; prev = g.
    pub struct Rprop {
        numbers: eta_minus, eta_plus, step_size_min, step_size_max;
        flags: ;
    }
}

impl<T: Compute> Rule<T, 2> for Rprop<T> {
    const STATE: [&'static str; 2] = ["prev", "step_size"];

    #[inline(always)]
    fn step<S: Simd, V: SimdFloat<S, Element = T>>(&self, param: V, grad: V, [prev, step_size]: [V; 2]) -> (V, [V; 2]) {
        let simd = param.token();
        let (zero, one) = (V::splat(simd, T::default()), V::splat(simd, T::from_f64(1.0)));
        let (eta_minus, eta_plus) = (V::splat(simd, self.eta_minus), V::splat(simd, self.eta_plus));
        let (low, high) = (V::splat(simd, self.step_size_min), V::splat(simd, self.step_size_max));
        let agreement = grad * prev;
        let eta = agreement.simd_gt(zero).select(eta_plus, agreement.simd_lt(zero).select(eta_minus, one));
        let step_size = larger(low, step_size * eta);
        let step_size = step_size.simd_gt(high).select(high, step_size);
        let grad = agreement.simd_lt(zero).select(zero, grad);
        (param - sign(grad) * step_size, [grad, step_size])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::rule::by_hand;

    /// p = 1, Δ = 1/2, η 1/2 and 3/2, Δ up to 5/16. g = 2: Δ stays but for the clamp. Then g = -1: Δ halves, and g counts as 0.
    #[test]
    fn two_steps_by_hand() {
        let rule = Rprop::<f64>::new(&[0.5, 1.5, 0.125, 0.3125]);
        let (param, state) = by_hand(&rule, 1.0, 2.0, [0.0, 0.5]);
        assert_eq!((param, state), (0.6875, [2.0, 0.3125]));
        let (param, state) = by_hand(&rule, param, -1.0, state);
        assert_eq!((param, state), (0.6875, [0.0, 0.15625]));
    }

    /// Twice the same sign: Δ grows by 3/2; the other sign: down to the least.
    #[test]
    fn the_step_size_grows_and_is_clamped() {
        let rule = Rprop::<f64>::new(&[0.5, 1.5, 0.125, 50.0]);
        assert_eq!(by_hand(&rule, 1.0, -2.0, [-3.0, 0.25]), (1.375, [-2.0, 0.375]));
        assert_eq!(by_hand(&rule, 1.0, -2.0, [3.0, 0.125]), (1.0, [0.0, 0.125]));
    }
}
