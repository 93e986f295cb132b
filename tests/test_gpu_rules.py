"""The rules as CUDA text, before any pipeline: every element's update against the oracle's bits."""

import re
from functools import cache

import numpy as np
import pytest

import battery
from helpers import assert_same_bits, values
from reference import Reference
from reference_layerwise import mean_of_rows, means_of_squares, norm_of
from reference_rules import EXACT, FLAGS, RULES, SHARED, STATE
from reference_storage import larger
from stepsmith import _core
from stepsmith.cuda import _module
from stepsmith.cuda._source import FOLDER, _in_order, _text

# What the least normal number is for: a float32 1e-30 squared is 0.
CONFIGS = {**battery.CONFIGS, "adafactor-tiny": ("adafactor", {"lr": 0.1, "eps": (1e-30, 1e-3)})}
FILES = {name: "adam" if name == "adamw" else name for name in _core.rules()}
INTERNAL = ("Sweep", "Scale", "Clamp", "Lerp", "Axpy", "Assign")
MEASURED = ("lamb", "lars", "adafactor")
COMPUTE = {np.float32: "float", np.float64: "double"}

# One thread an element; a rule's state lies slot after slot.
PROBE = """
template <template <class> class R, class T> struct Probe {
    R<T> rule;
    T param, grad, state[R<T>::STATES];
    u64 i, n;
    __device__ Probe(const T *params, const T *grads, const T *states, const double *scalars, int factored, u64 n)
        : rule(Scalars<T>{scalars}), i((u64)blockIdx.x * blockDim.x + threadIdx.x), n(n) {
        rule.of_tensor(factored != 0);
        if (i >= n) return;
        param = params[i], grad = grads[i];
        for (int k = 0; k < R<T>::STATES; k++) state[k] = states[k * n + i];
    }
    __device__ void step(T *params, T *states, Norms norms) {
        if (R<T>::MEASURES) rule.measured(norms);
        if (i >= n) return;
        params[i] = rule.step(param, grad, state);
        for (int k = 0; k < R<T>::STATES; k++) states[k * n + i] = state[k];
    }
    __device__ void measure(T *out) const {
        if (i < n) out[i] = rule.measure(param, grad, state);
    }
};
"""
KERNELS = """
KERNEL(%(name)s_%(type)s)(%(type)s *params, const %(type)s *grads, %(type)s *states, const double *scalars,
                          int factored, double param_norm, double measured_norm, u64 n) {
    Norms norms = {n, param_norm, measured_norm};
    Probe<%(name)s, %(type)s>(params, grads, states, scalars, factored, n).step(params, states, norms);
}
KERNEL(%(name)s_measure_%(type)s)(const %(type)s *params, const %(type)s *grads, const %(type)s *states,
                                  const double *scalars, int factored, %(type)s *out, u64 n) {
    Probe<%(name)s, %(type)s>(params, grads, states, scalars, factored, n).measure(out);
}
"""


def declaration(rule):
    """Name of the struct and number of states."""
    (found,) = re.findall(
        r"^template <class T> struct (\w+) : Rule<T, (\d)> \{$", _text(f"{FILES[rule]}.cuh"), re.MULTILINE
    )
    return found[0], int(found[1])


def scalars_of(rule):
    """How each member takes its scalar, in order."""
    return re.findall(r"(\w+)\(s\.(number|flag|exact)\(\)\)", _text(f"{FILES[rule]}.cuh"))


def members_of(rule):
    """Members in order of their declaration, which is the order in which they are initialized."""
    lines = re.findall(r"^    (?:T|bool|double) (\w+(?:,\s+\w+)*);$", _text(f"{FILES[rule]}.cuh"), re.MULTILINE)
    return [name for line in lines for name in re.split(r",\s+", line)]


@pytest.mark.parametrize("rule", FILES)
def test_a_rule_has_the_states_and_scalars_of_rust(rule):
    slots, names = _core.rules()[rule]
    taken = scalars_of(rule)
    assert declaration(rule)[1] == len(slots)
    assert [name for name, _ in taken] == names == members_of(rule)[: len(names)]
    for name, how in taken:
        want = "exact" if name in EXACT.get(rule, ()) else "flag" if name in FLAGS | {"rehearsal"} else "number"
        assert how == want, name


def test_each_rule_file_is_a_rule_of_rust():
    texts = {path.stem: path.read_text() for path in FOLDER.glob("*.cuh")}
    found = {name for name, text in texts.items() if re.search(r"^template .* : Rule<T, \d> \{$", text, re.MULTILINE)}
    assert found == {*FILES.values(), "internal"}


@cache
def probe():
    """Kernels of every rule, over the project's own text but for the kernels of a step."""
    names = []
    for file in dict.fromkeys([*FILES.values(), "internal"]):
        _in_order(f"{file}.cuh", names)
    steps = re.compile(r"^(?:RULE|MEASURED|FACTORED)\(.*\n", re.MULTILINE)
    pure = (steps.sub("", _text(name)) for name in names)
    texts = [*pure, PROBE]
    structs = [*dict.fromkeys(declaration(rule)[0] for rule in FILES), *INTERNAL]
    texts += [KERNELS % {"name": name, "type": dtype} for name in structs for dtype in COMPUTE.values()]
    return _module.cupy().RawModule(path=str(_module.build("rules", "".join(texts))))


class Run:
    """A rule over some elements."""

    def __init__(self, gpu, struct, param, grad, state, scalars, factored=False):
        self._type, self._struct, self._gpu = COMPUTE[param.dtype.type], struct, gpu
        self.param, self._grad = gpu.asarray(param), gpu.asarray(grad)
        self._states = gpu.asarray(np.stack([np.broadcast_to(x, param.shape) for x in state]))
        self._scalars, self._factored = gpu.asarray(np.array([*scalars, 0.0], np.float64)), np.int32(factored)

    def _launch(self, name, *rest):
        args = self.param, self._grad, self._states, self._scalars, self._factored, *rest, np.uint64(self.param.size)
        kernel = probe().get_function(f"{self._struct}{name}_{self._type}")
        kernel((-(-self.param.size // 256),), (256,), args)

    def measure(self):
        out = self._gpu.empty(self.param.shape, self.param.dtype)
        self._launch("_measure", out)
        return out.get()

    def step(self, *norms):
        self._launch("", *map(np.float64, norms or (np.nan, np.nan)))
        return self.param.get(), self._states.get()


def numbers(dtype, count, seed):
    """Of all sizes: zeros, tiny and huge ones, what is no number."""
    rng, info = np.random.default_rng(seed), np.finfo(dtype)
    wide = rng.choice([-1, 1], count) * 2.0 ** rng.uniform(info.minexp - info.nmant, info.maxexp, count)
    ends = [0.0, -0.0, np.inf, -np.inf, np.nan, info.tiny, -info.smallest_subnormal, info.max, -info.max, 1.0]
    x = np.where(rng.random(count) < 0.2, rng.choice(ends, count), wide)
    return np.where(rng.random(count) < 0.6, values(rng, count, np.float64), x).astype(dtype)


def inputs(dtype, slots, shape=(1500,)):
    """Parameter, gradient and state; what is a square's mean is no negative number, but for a few."""
    drawn = [numbers(dtype, int(np.prod(shape)), seed).reshape(shape) for seed in range(2 + len(slots))]
    squares = {"v", "v_max", "sum", "square_avg", "acc_delta", "u", "n", "variance", "step_size"}
    states = [abs(x) if slot in squares else x for slot, x in zip(slots, drawn[2:])]
    return drawn[0], drawn[1], states


def oracle(rule, param, grad, state, scalars):
    kept = EXACT.get(rule, set())
    rounded = {
        key: x if key in kept else bool(x) if key in FLAGS else param.dtype.type(x) for key, x in scalars.items()
    }
    with np.errstate(all="ignore"):
        return RULES[rule](param, grad, tuple(state), **rounded)


def moments(config):
    """The scalars of some updates."""
    rule, settings = CONFIGS[config]
    settings = {name: x for name, x in settings.items() if name != "maximize"}
    reference = Reference(rule, {"w": np.zeros(1)}, **settings)
    return [reference.advance("w", {}) for _ in range(7)][:: 6 if config == "radam-rectified" else 3]


@pytest.mark.parametrize("dtype", COMPUTE)
@pytest.mark.parametrize("config", [config for config, (rule, _) in CONFIGS.items() if rule not in MEASURED])
def test_an_update_has_the_bits_of_the_oracle(gpu, config, dtype):
    rule = CONFIGS[config][0]
    slots, names = _core.rules()[rule]
    for scalars in moments(config):
        param, grad, state = inputs(dtype, slots)
        run = Run(gpu, declaration(rule)[0], param, grad, state, [scalars[name] for name in names])
        new, states = run.step()
        want, wanted = oracle(rule, param, grad, state, scalars)
        assert_same_bits(new, want, config)
        for slot, got, right in zip(slots, states, wanted):
            assert_same_bits(got, right, f"{config} {slot}")


@pytest.mark.parametrize("dtype", COMPUTE)
@pytest.mark.parametrize("config", [config for config, (rule, _) in CONFIGS.items() if rule in MEASURED])
@pytest.mark.parametrize("kind", ["usual", "zero", "still", "any"])
def test_a_measured_update_has_the_bits_of_the_oracle(gpu, config, dtype, kind):
    rule = CONFIGS[config][0]
    slots, names = _core.rules()[rule]
    rng = np.random.default_rng(4)
    for scalars in moments(config):
        param, grad, state = inputs(dtype, slots)
        if kind != "any":
            param, grad = (values(rng, param.size, dtype) for _ in range(2))
            state = [abs(values(rng, param.size, dtype)) for _ in slots]
        if kind == "zero":
            param[:] = 0
        if kind == "still":
            grad, state = grad * dtype(0), [x * dtype(0) for x in state]
        run = Run(gpu, declaration(rule)[0], param, grad, state, [scalars[name] for name in names])
        with np.errstate(all="ignore"):
            norms = norm_of(param), norm_of(run.measure())
        new, states = run.step(*norms)
        want, wanted = oracle(rule, param, grad, state, scalars)
        assert_same_bits(new, want, config)
        for slot, got, right in zip(slots, states, wanted):
            assert slot in SHARED or assert_same_bits(got, right, f"{config} {slot}") is None


@pytest.mark.parametrize("dtype", COMPUTE)
@pytest.mark.parametrize("config", ["adafactor", "adafactor-eps"])
def test_a_factored_update_has_the_bits_of_the_oracle(gpu, config, dtype):
    names = _core.rules()["adafactor"][1]
    rng = np.random.default_rng(5)
    for scalars in moments(config):
        param, grad = (values(rng, (23, 31), dtype) for _ in range(2))
        row_var, col_var = (abs(values(rng, shape, dtype)) for shape in [(23, 1), (1, 31)])
        want, (rows, columns, _) = oracle("adafactor", param, grad, [row_var, col_var, param], scalars)
        eps = dtype(scalars["eps1"]) or np.finfo(dtype).eps
        ratios = rows / larger(mean_of_rows(rows), eps)
        state = [ratios, columns, np.zeros(1, dtype)]
        run = Run(gpu, "Adafactor", param, grad, state, [scalars[name] for name in names], factored=True)
        new, _ = run.step(norm_of(param), norm_of(run.measure()))
        assert_same_bits(new, want, config)
    assert means_of_squares(grad)[0].shape == row_var.shape


@pytest.mark.parametrize("dtype", COMPUTE)
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("rehearsal", [False, True])
def test_muon_rehearses_and_steps(gpu, dtype, nesterov, rehearsal):
    param, grad, (before, update) = inputs(dtype, ("momentum", "update"))
    decay, momentum, rest, step_size = map(dtype, (0.99, 0.9, 0.1, 0.3))
    new, states = Run(gpu, "Muon", param, grad, [before, update], [0.99, 0.9, 0.1, 0.3, nesterov, rehearsal]).step()
    with np.errstate(all="ignore"):
        buffer = before + (grad - before) * rest
        ahead = grad + (buffer - grad) * momentum if nesterov else buffer
        want = (param, before, ahead) if rehearsal else (param * decay - update * step_size, buffer, update)
    for got, right in zip((new, *states), want):
        assert_same_bits(got, right)


@pytest.mark.parametrize("dtype", COMPUTE)
@pytest.mark.parametrize("struct", INTERNAL)
def test_rules_that_are_no_optimizers(gpu, struct, dtype):
    param, grad, state = inputs(dtype, "abcd" if struct == "Sweep" else "a")
    new, states = Run(gpu, struct, param, grad, state, [0.37]).step()
    number = dtype(0.37)
    with np.errstate(all="ignore"):
        below = np.where(param > number, number, param)
        want = {
            "Sweep": param + grad,
            "Scale": param * number,
            "Clamp": np.where(below < -number, -number, below),
            "Lerp": param + (state[0] - param) * number,
            "Axpy": param + grad * number,
            "Assign": grad * number,
        }[struct]
        wanted = [x + grad for x in state] if struct == "Sweep" else state
    assert_same_bits(new, want, struct)
    for got, right in zip(states, wanted):
        assert_same_bits(got, right, struct)


def test_every_rule_is_probed():
    assert set(FILES) == {*(rule for rule, _ in CONFIGS.values()), "muon"}
    assert {rule: list(STATE[rule]) for rule in STATE} == {rule: _core.rules()[rule][0] for rule in STATE}
