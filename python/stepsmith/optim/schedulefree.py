"""Schedule-free AdamW."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Unpack

from stepsmith import _check
from stepsmith.optim._groups import Number, Params, Scalar, Several, decay_rate, flag, lr, nonnegative
from stepsmith.optim.base import Array, Optimizer, StepOptions

__all__ = ["ScheduleFreeAdamW"]


def _steps(owner: str, name: str, value: object) -> int:
    """A number of steps."""
    return _check.integer(owner, name, value, low=0)


def _warmed(group: Mapping[str, Any], lr: float, step: int) -> float:
    """The rate during the warm-up and after it."""
    return lr * float(min(1.0, step / max(group["warmup_steps"], 1)))


def _weight(group: Mapping[str, Any], step: int, lr_max: float) -> float:
    """How much update `step` counts in the average."""
    try:
        return float(step ** group["r"] * lr_max ** group["weight_lr_power"])
    except OverflowError as error:
        raise ValueError(f"ScheduleFreeAdamW: lr must have a finite power weight_lr_power, got {lr_max!r}") from error


class ScheduleFreeAdamW(Optimizer):
    """Schedule-free AdamW: an average of the iterates takes the place of a falling rate.

    v = β2·v + (1 - β2)g²; n = g / (√(v / (1 - β2^t)) + ε) + λy; y += c(z - y) + lr(β1(1 - c) - 1)·n; z -= lr·n;
    c = w_t / (w_1 + ... + w_t), w_t = t^r·lr_max^weight_lr_power, lr_max the largest rate so far.

    Training needs gradients at y, which the parameters hold. `eval` puts the average x = y + (1 - 1/β1)(z - y) in its
    place, `train` brings y back: x + (1 - β1)(z - x). Either rounds: to go on bit for bit, restore a copy of the
    parameters after `train`; leave betas alone in between. `z` is at first a copy of the parameter.
    Each tensor carries ``weight_sum`` and ``lr_max``, which `state_dict` has among its state, as it has the mode.

    Args:
        params: mapping name → array, sequence of arrays, or sequence of groups; changed in place.
        lr: learning rate, at least 0, or a schedule.
        betas: β1 of the average in (0, 1) and the decay rate β2 in [0, 1).
        eps: ε, at least 0; with an ε that is 0 in the compute type a gradient that was always 0 gives NaN.
        weight_decay: λ, at least 0.
        warmup_steps: the rate grows in proportion to the steps until then, at least 0.
        r: power of the step in the weights, at least 0.
        weight_lr_power: power of the largest rate in the weights, at least 0.
        maximize: ascend instead of descend.
        options: what is folded into the step and how state is kept; see `StepOptions`.

    Raises:
        TypeError, ValueError: for arguments that do not fit, by name, rule and value.

    Follows: Defazio et al., 2024.

    Example:
        >>> w = np.array([1.0, 2.0])
        >>> opt = ScheduleFreeAdamW({"w": w}, lr=0.5, eps=0.0)
        >>> info = opt.step({"w": np.array([4.0, -4.0])})
        >>> opt.eval()
        >>> w.round(6).tolist()
        [0.5, 2.5]
        >>> opt.train()
    """

    name = "schedulefree_adamw"
    slots = ("z", "v")
    carried = {"weight_sum": 0.0, "lr_max": 0.0}  # noqa: RUF012
    modes = ("train", "eval")
    checks = {  # noqa: RUF012
        "lr": lr,
        "betas": Several(Number(0.0, 1.0, open_low=True, open_high=True), decay_rate),
        "eps": nonnegative,
        "weight_decay": nonnegative,
        "warmup_steps": _steps,
        "r": nonnegative,
        "weight_lr_power": nonnegative,
        "maximize": flag,
    }

    def __init__(
        self,
        params: Params,
        lr: Scalar = 2.5e-3,
        betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-8,
        weight_decay: Scalar = 0.0,
        warmup_steps: int = 0,
        r: Scalar = 0.0,
        weight_lr_power: Scalar = 2.0,
        *,
        maximize: bool = False,
        **options: Unpack[StepOptions],
    ) -> None:
        hyperparameters = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "warmup_steps": warmup_steps,
            "r": r,
            "weight_lr_power": weight_lr_power,
            "maximize": maximize,
        }
        super().__init__(params, hyperparameters, **options)

    @property
    def training(self) -> bool:
        """The parameters hold y, so that `step` is possible."""
        return self._stepper.mode == 0

    def eval(self) -> None:
        """Parameters become x, the average, for evaluation; nothing if they are. `step` is a RuntimeError then."""
        self._switch("eval", lambda beta1: 1.0 - 1.0 / beta1)

    def train(self) -> None:
        """Parameters become y, where gradients are taken; nothing if they are."""
        self._switch("train", lambda beta1: 1.0 - beta1)

    def averaged(self) -> dict[str, Array]:
        """The averages x by name, as `eval` would make them, in arrays of their own; the parameters stay as they are.

        Those of parameters with a master copy are averages of that, in float32.
        """
        if not self.training:
            return {name: param.copy(order="K") for name, param in self.params.items()}
        arrays = [self._arrays.worked_on(name)[0].copy(order="K") for name in self.params]
        self._lerp(arrays, [None] * len(arrays), lambda beta1: 1.0 - 1.0 / beta1)()
        return dict(zip(self.params, arrays))

    def _switch(self, mode: str, weight_of: Callable[[float], float]) -> None:
        arrays, shadows = zip(*(self._arrays.worked_on(name) for name in self.params))
        self._stepper.switch(self.modes.index(mode), self._lerp(arrays, shadows, weight_of))

    def _lerp(
        self, arrays: Sequence[Array], shadows: Sequence[Array | None], weight_of: Callable[[float], float]
    ) -> Callable[[], None]:
        """Moves arrays towards z, and writes their low-precision copies, when it is called."""
        last = max(self._stepper.updates - 1, 0)
        betas = [self._values(group, last)["betas"] for group in self.groups for _ in group.names]
        weights = [weight_of(beta1) for beta1, _ in betas]
        names = [f"params[{name!r}]" for name in self.params]
        ends = [self._arrays.kept[name, "z"] for name in self.params]
        # A partial has no line of Python at which an interrupt could part the arrays from the mode.
        return partial(self._core.lerp, self._owner, names, arrays, ends, shadows, weights)

    def _initial(self, slot: str, param: Array, group: Mapping[str, Any]) -> float | Array | None:
        return param if slot == "z" else None

    def _carry(self, group: Mapping[str, Any], lr: float, step: int, carried: tuple[float, ...]) -> tuple[float, ...]:
        weight_sum, lr_max = carried
        lr_max = max(lr_max, _warmed(group, lr, step))
        return weight_sum + _weight(group, step, lr_max), lr_max

    def _scalars(self, group: Mapping[str, Any], lr: float, step: int, carried: tuple[float, ...]) -> tuple[float, ...]:
        beta1, beta2 = group["betas"]
        weight_sum, lr_max = carried
        weight = _weight(group, step, lr_max)
        average_weight = weight / weight_sum if weight_sum != 0.0 else 0.0
        lr = _warmed(group, lr, step)
        return (
            group["weight_decay"],
            beta2,
            1.0 - beta2,
            1.0 / (1.0 - beta2**step),
            group["eps"],
            average_weight,
            lr * (beta1 * (1.0 - average_weight) - 1.0),
            lr,
        )
