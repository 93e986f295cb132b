//! Muon, as `torch.optim.Muon`: momentum whose matrices are made orthogonal. The matrix part is the caller's: a rehearsal says
//! what is to be made orthogonal, the step takes what came of it.

use fearless_simd::prelude::*;

use super::rule::{Rule, scalars};
use crate::dtype::Compute;

scalars! {
    /// b += (1 - μ)(g - b); in the rehearsal update = g + μ(b - g) (Nesterov) or b, and nothing else changes; in the step
    /// p = p·decay - `step_size`·update, `update` being what the rehearsal's became.
    pub struct Muon {
        numbers: decay, momentum, one_minus_momentum, step_size;
        flags: nesterov, rehearsal;
    }
}

impl<T: Compute> Rule<T, 2> for Muon<T> {
    const STATE: [&'static str; 2] = ["momentum", "update"];

    #[inline(always)]
    fn step<S: Simd, V: SimdFloat<S, Element = T>>(&self, param: V, grad: V, [before, update]: [V; 2]) -> (V, [V; 2]) {
        let buffer = before + (grad - before) * self.one_minus_momentum;
        if self.rehearsal {
            let update = if self.nesterov { grad + (buffer - grad) * self.momentum } else { buffer };
            return (param, [before, update]);
        }
        (param * self.decay - update * self.step_size, [buffer, update])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::rule::by_hand;

    /// g = 2, b = 4, μ 3/4: the new b is 7/2, the update 2 + 3/4·3/2; then p = 1·1/2 - 1/4·8.
    #[test]
    fn a_rehearsal_and_a_step_by_hand() {
        let rehearsal = Muon::<f64>::new(&[0.5, 0.75, 0.25, 0.25, 1.0, 1.0]);
        assert_eq!(by_hand(&rehearsal, 1.0, 2.0, [4.0, 0.0]), (1.0, [4.0, 3.125]));
        let plain = Muon::<f64>::new(&[0.5, 0.75, 0.25, 0.25, 0.0, 1.0]);
        assert_eq!(by_hand(&plain, 1.0, 2.0, [4.0, 0.0]), (1.0, [4.0, 3.5]));
        let step = Muon::<f64>::new(&[0.5, 0.75, 0.25, 0.25, 1.0, 0.0]);
        assert_eq!(by_hand(&step, 1.0, 2.0, [4.0, 8.0]), (-1.5, [3.5, 8.0]));
    }
}
