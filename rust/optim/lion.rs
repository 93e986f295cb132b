//! Lion, after Chen et al., 2023.

use fearless_simd::prelude::*;

use super::rule::{Rule, scalars, sign};
use crate::dtype::Compute;

scalars! {
    /// p = p·decay - lr·sign(m + (1 - β1)(g - m)); m += (1 - β2)(g - m). sign(0) = 0; `decay` = 1 - lr·λ.
    pub struct Lion {
        numbers: decay, one_minus_beta1, one_minus_beta2, lr;
        flags: ;
    }
}

impl<T: Compute> Rule<T, 1> for Lion<T> {
    const STATE: [&'static str; 1] = ["m"];

    #[inline(always)]
    fn step<S: Simd, V: SimdFloat<S, Element = T>>(&self, param: V, grad: V, [m]: [V; 1]) -> (V, [V; 1]) {
        let direction = m + (grad - m) * self.one_minus_beta1;
        let m = m + (grad - m) * self.one_minus_beta2;
        (param * self.decay - sign(direction) * self.lr, [m])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::rule::by_hand;

    /// p = 1, β 1/2 and 3/4, lr 1/4. g = 2: up by 1, p = 1 - 1/4, m = 1/2. Then g = -1, decay 1/2: 1/2 - 3/4 < 0,
    /// p = 3/8 + 1/4, m = 1/2 - 3/8.
    #[test]
    fn two_steps_by_hand() {
        let first = Lion::<f64>::new(&[1.0, 0.5, 0.25, 0.25]);
        let (param, state) = by_hand(&first, 1.0, 2.0, [0.0]);
        assert_eq!((param, state), (0.75, [0.5]));
        let second = Lion::<f64>::new(&[0.5, 0.5, 0.25, 0.25]);
        assert_eq!(by_hand(&second, param, -1.0, state), (0.625, [0.125]));
    }

    #[test]
    fn the_sign_of_zero_is_zero() {
        let rule = Lion::<f64>::new(&[1.0, 0.5, 0.25, 0.25]);
        assert_eq!(by_hand(&rule, 1.0, -2.0, [2.0]), (1.0, [1.0]));
    }
}
