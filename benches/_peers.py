"""The optimizers that stepsmith is measured against: one row a rule, one function a library."""

import inspect
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np

from _expressions import (
    numpy_adadelta,
    numpy_adafactor,
    numpy_adagrad,
    numpy_adam,
    numpy_adamax,
    numpy_adan,
    numpy_ademamix,
    numpy_asgd,
    numpy_lamb,
    numpy_lars,
    numpy_lion,
    numpy_nadam,
    numpy_radam,
    numpy_rmsprop,
    numpy_rprop,
    numpy_schedulefree_adamw,
    numpy_sgd,
)
from _harness import Side, find
from stepsmith import _core, optim

Array = np.ndarray[Any, Any]
Expression = Callable[..., None]

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
PATTERN = 1 << 16
LR = 0.1
"""Large, so that float32's rounding of a parameter is small beside its update."""
DECAY = 1e-2
UNREACHED = 1e12
"""A norm that no gradient has: clipping then costs what it costs and changes nothing."""


class Problem:
    """Equal starts for all sides: parameters in ±[0, 0.5), gradients in ±[0.5, 1.5).

    Gradients are shared and read by all sides; parameters are made anew for each. Both repeat a pattern, so that
    nothing must be kept as it was to tell how far a side went.
    """

    def __init__(self, count: int, size: int, dtype: str) -> None:
        self.count, self.size = count, size
        self.dtype = BFLOAT16 if dtype == "bfloat16" else np.dtype(dtype)
        rng = np.random.default_rng(0)
        self.start = rng.uniform(-0.5, 0.5, PATTERN).astype(self.dtype)
        signed = np.copysign(rng.uniform(0.5, 1.5, PATTERN), rng.uniform(-1, 1, PATTERN))
        self._grad = signed.astype(self.dtype)
        self.grads = [self._repeat(self._grad) for _ in range(count)]

    def params(self) -> list[Array]:
        """Fresh parameters."""
        return [self._repeat(self.start) for _ in range(self.count)]

    def before(self, part: slice) -> Array:
        """Parameters at the start, in float64; the part begins with the pattern and is no longer than it."""
        return self.start[: part.stop - part.start].astype(np.float64)

    def halve_grads(self) -> None:
        """Other gradients in the same arrays, so that a second step tells how the first one is remembered."""
        half = self.dtype.type(0.5)
        for grad in self.grads:
            np.multiply(grad, half, out=grad)

    def _repeat(self, pattern: Array) -> Array:
        return np.resize(pattern[: self.size], self.size)


@dataclass(frozen=True)
class Contender(Side):
    """A side that steps a problem's parameters.

    Attributes:
        params: parameters as they are now.
        traffic: bytes that a step must read and write (known for ours).
    """

    params: Callable[[], Sequence[Array]] = list
    traffic: int = 0


@dataclass(frozen=True)
class Row:
    """A rule in every library; None where a library has not the same formula.

    Attributes:
        settings: of our class and of PyTorch's, whose arguments have the same names.
        expression: the rule in NumPy.
        slots: arrays that the expression keeps: its state, and what it needs beside one scratch array.
        torch: class in ``torch.optim``.
        optax: makes the transformation from the module ``optax``.
        thinc: makes the optimizer from the module ``thinc.optimizers``.
    """

    settings: dict[str, float]
    expression: Expression
    slots: int
    torch: str | None = None
    optax: Callable[[ModuleType], Any] | None = None
    thinc: Callable[[ModuleType], Any] | None = None


ROWS = {
    "sgd": Row(
        {"lr": LR, "momentum": 0.9},
        numpy_sgd,
        slots=1,
        torch="SGD",
        optax=lambda optax: optax.sgd(LR, momentum=0.9),
    ),
    "adam": Row(
        {"lr": LR},
        numpy_adam,
        slots=2,
        torch="Adam",
        optax=lambda optax: optax.adam(LR),
        thinc=lambda thinc: thinc.Adam(LR, L2=0.0, grad_clip=0.0, eps=1e-8, use_averages=False),
    ),
    # thinc decays what the step has already changed: another formula.
    "adamw": Row(
        {"lr": LR, "weight_decay": DECAY},
        numpy_adam,
        slots=2,
        torch="AdamW",
        optax=lambda optax: optax.adamw(LR, weight_decay=DECAY),
    ),
    # optax has ε inside the root.
    "adagrad": Row({"lr": LR}, numpy_adagrad, slots=1, torch="Adagrad"),
    "rmsprop": Row(
        {"lr": LR},
        numpy_rmsprop,
        slots=1,
        torch="RMSprop",
        optax=lambda optax: optax.rmsprop(LR, decay=0.99, eps_in_sqrt=False),
    ),
    "adadelta": Row(
        {"lr": 1.0, "eps": 1e-2},
        numpy_adadelta,
        slots=3,
        torch="Adadelta",
        optax=lambda optax: optax.adadelta(1.0, rho=0.9, eps=1e-2),
    ),
    "adamax": Row({"lr": LR}, numpy_adamax, slots=2, torch="Adamax", optax=lambda optax: optax.adamax(LR)),
    # optax has neither the falling momentum nor the product.
    "nadam": Row({"lr": LR}, numpy_nadam, slots=3, torch="NAdam"),
    # optax adds ε to the corrected root.
    "radam": Row({"lr": LR}, numpy_radam, slots=2, torch="RAdam"),
    # optax moves one step late.
    "rprop": Row({"lr": LR}, numpy_rprop, slots=2, torch="Rprop"),
    "asgd": Row({"lr": LR}, numpy_asgd, slots=1, torch="ASGD"),
    "lion": Row({"lr": LR}, numpy_lion, slots=1, optax=lambda optax: optax.lion(LR, weight_decay=0.0)),
    "ademamix": Row(
        {"lr": LR}, numpy_ademamix, slots=4, optax=lambda optax: optax.contrib.ademamix(LR, b3=0.9999, alpha=5.0)
    ),
    "schedulefree_adamw": Row(
        {"lr": LR}, numpy_schedulefree_adamw, slots=3, optax=lambda optax: optax.contrib.schedule_free_adamw(LR)
    ),
    # optax weighs the differences by 1 - β2.
    "adan": Row({"lr": LR}, numpy_adan, slots=5),
    "lamb": Row(
        {"lr": LR, "weight_decay": DECAY},
        numpy_lamb,
        slots=3,
        optax=lambda optax: optax.lamb(LR, weight_decay=DECAY),
    ),
    "lars": Row(
        {"lr": LR, "trust_coefficient": 1.0},
        numpy_lars,
        slots=1,
        optax=lambda optax: optax.lars(LR, weight_decay=0.0, trust_coefficient=1.0),
    ),
    # The tensors here are vectors, for which optax has the same formula.
    "adafactor": Row({"lr": LR}, numpy_adafactor, slots=1, torch="Adafactor", optax=lambda optax: optax.adafactor(LR)),
}
"""Name in the registry → the rule everywhere. A new optimizer costs one row."""
UNMEASURED = {"lbfgs": "steps by a closure", "muon": "steps matrices alone, most of its time is BLAS's"}
"""Those without a row, and why."""


# Ours.


def ours(rule: str, problem: Problem, name: str = "stepsmith", **options: Any) -> Contender:
    """The whole call ``opt.step()`` with bound gradients."""
    params = problem.params()
    settings = {**_settings(rule, problem), "on_nonfinite": "propagate", **options}
    opt = optim.REGISTRY[rule](params, **settings)
    opt.bind(problem.grads)
    states = itertools.chain.from_iterable(slots.values() for slots in opt.state.values())
    written = sum(array.nbytes for array in itertools.chain(params, states))
    traffic = 2 * written + sum(grad.nbytes for grad in problem.grads)
    return Contender(name, opt.step, params=lambda: params, traffic=traffic)


def sweep(rule: str, problem: Problem) -> Contender:
    """The traffic of our step and next to no arithmetic: every array becomes itself plus the gradient."""
    params = problem.params()
    sweeper = optim.REGISTRY[rule](params, **_settings(rule, problem)).sweeper(problem.grads)
    return Contender("sweep", sweeper, params=lambda: params)


def _settings(rule: str, problem: Problem) -> dict[str, Any]:
    state_dtype = "bfloat16" if problem.dtype == BFLOAT16 else "float32"
    return {**ROWS[rule].settings, "state_dtype": state_dtype}


# Others. Each function returns the library's ways to take the step, none where it is missing or cannot.


def variants(rule: str, problem: Problem) -> list[Contender]:
    """What our check of the gradients and our clipping cost."""
    return [
        ours(rule, problem, "default check", on_nonfinite="raise"),
        ours(rule, problem, "max_norm", max_norm=UNREACHED),
    ]


def numpy(rule: str, problem: Problem) -> list[Contender]:
    """Expressions, tensor after tensor; bfloat16 by way of float32 arrays that are kept."""
    row, counter = ROWS[rule], itertools.count(1)
    params = problem.params()
    states = [[np.zeros_like(param) for _ in range(row.slots)] for param in params]
    wide = [np.empty(problem.size, np.float32) for _ in range(row.slots + 2)]
    scratch = np.empty(problem.size, np.float32)

    def step() -> None:
        number = next(counter)
        for param, grad, state in zip(params, problem.grads, states):
            row.expression(number, param, grad, state, scratch, **row.settings)

    def step_narrow() -> None:
        number = next(counter)
        for param, grad, state in zip(params, problem.grads, states):
            stored = [param, grad, *state]
            for array, source in zip(wide, stored):
                np.copyto(array, source)
            row.expression(number, wide[0], wide[1], wide[2:], scratch, **row.settings)
            for k in (0, *range(2, len(stored))):
                np.copyto(stored[k], wide[k], casting="unsafe")

    return [Contender("numpy", step if problem.dtype == np.float32 else step_narrow, params=lambda: params)]


def torch(rule: str, problem: Problem) -> list[Contender]:
    """Fused and foreach, over memory that NumPy allocated, with as many threads as ours."""
    module, row = find("torch"), ROWS[rule]
    if module is None or row.torch is None:
        return []
    module.set_num_threads(int(dict(_core.info())["threads"]))

    def tensor(array: Array) -> Any:
        if array.dtype == BFLOAT16:
            return module.from_numpy(array.view(np.int16)).view(module.bfloat16)
        return module.from_numpy(array)

    def side(kind: str) -> Contender:
        arrays = problem.params()
        params = [module.nn.Parameter(tensor(array)) for array in arrays]
        for param, grad in zip(params, problem.grads):
            param.grad = tensor(grad)
        opt = getattr(module.optim, row.torch)(params, **row.settings, **{kind: True})
        return Contender(f"torch {kind}", opt.step, params=lambda: arrays)

    takes = inspect.signature(getattr(module.optim, row.torch)).parameters
    return [side(kind) for kind in ("fused", "foreach") if kind in takes]


def optax(rule: str, problem: Problem) -> list[Contender]:
    """One jitted function, parameters and state donated."""
    module, jax, row = find("optax"), find("jax"), ROWS[rule]
    if module is None or jax is None or row.optax is None:
        return []
    transformation = row.optax(module)

    def update(params: Any, state: Any, grads: Any) -> Any:
        changes, state = transformation.update(grads, state, params)
        return module.apply_updates(params, changes), state

    jitted = jax.jit(update, donate_argnums=(0, 1))
    now: dict[str, Any] = {"params": [jax.numpy.array(param) for param in problem.params()]}
    now["state"] = transformation.init(now["params"])

    def refresh() -> None:
        now["grads"] = [jax.numpy.array(grad) for grad in problem.grads]

    def step() -> None:
        now["params"], now["state"] = jitted(now["params"], now["state"], now["grads"])
        jax.block_until_ready(now["params"])

    return [Contender("optax", step, refresh, params=lambda: [np.asarray(param) for param in now["params"]])]


def thinc(rule: str, problem: Problem) -> list[Contender]:
    """One call a tensor; it leaves zeros in its gradients, so it has its own."""
    module, row = find("thinc.optimizers"), ROWS[rule]
    if module is None or row.thinc is None or problem.dtype != np.float32:
        return []
    opt, params = row.thinc(module), problem.params()
    grads = [np.empty_like(grad) for grad in problem.grads]

    def refresh() -> None:
        for own, grad in zip(grads, problem.grads):
            np.copyto(own, grad)

    def step() -> None:
        for key, (param, grad) in enumerate(zip(params, grads)):
            opt((key, ""), param, grad)

    return [Contender("thinc", step, refresh, params=lambda: params)]


PEERS: tuple[Callable[[str, Problem], list[Contender]], ...] = (numpy, torch, optax, thinc)
"""Each is measured beside ours in a turn of its own, NumPy first."""
