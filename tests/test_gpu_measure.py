"""The sweeps before a write pass on a GPU: norms of tensors, means of rows and columns, with the oracle's bits."""

import numpy as np
import pytest

import gpu_shim
from gpu_rows import Rows, groups_of, on_gpu
from helpers import assert_same_bits, laid_out, values
from reference_layerwise import adafactor, mean_of_rows, norm_of
from reference_stages import clamped, masked, units_of
from reference_storage import DTYPES, compute_type, decode, encode, larger
from reference_sums import fixed_sum
from stepsmith import _core
from stepsmith.cuda._launch import launch

SCALARS = {
    "lamb": {
        "weight_decay": 0.01,
        "one_minus_beta1": 0.1,
        "beta2": 0.99,
        "one_minus_beta2": 0.01,
        "inv_bias_correction1": 3.0,
        "inv_sqrt_bias_correction2": 2.0,
        "eps": 1e-6,
        "lr": 0.1,
    },
    "lars": {"weight_decay": 0.1, "momentum": 0.9, "nesterov": 0.0, "lr": 0.1, "trust_coefficient": 0.01},
    "adafactor": {"decay": 0.99, "one_minus_beta2": 0.3, "eps1": 0.0, "eps2": 1e-3, "rho": 0.1, "d": 1.0},
}


def measured(rule, param, grad, state):
    """What a rule measures, by the oracle's lines."""
    s = {name: param.dtype.type(x) for name, x in SCALARS[rule].items()}
    if rule == "lars":
        return grad + param * s["weight_decay"]
    if rule == "adafactor":
        variance = state[2] + (grad * grad - state[2]) * s["one_minus_beta2"]
        eps = np.finfo(param.dtype).eps
        return grad / np.sqrt(larger(variance, eps * eps))
    m = state[0] + (grad - state[0]) * s["one_minus_beta1"]
    v = state[1] * s["beta2"] + grad * grad * s["one_minus_beta2"]
    denom = np.sqrt(v) * s["inv_sqrt_bias_correction2"] + s["eps"]
    return m * s["inv_bias_correction1"] / denom + param * s["weight_decay"]


SHAPES = ((0,), (1,), (127,), (128, 1), (3, 43), (4095,), (4096,), (17, 241), (12289,), ())
SETTINGS = {
    "plain": {},
    "scaled": {"first": -0.7},
    "clipped": {"first": 0.9, "second": 0.3, "clips_values": 1, "clip_value": 0.05},
    "units": {"clips_units": 1},
    "examined": {"is_examined": 1, "clips_values": 1, "clip_value": 0.1},
}


class Case:
    """Tensors of a rule here and on the device."""

    def __init__(self, gpu, rule, dtypes, layout="C", sign=1.0, shapes=SHAPES, **settings):
        rng = np.random.default_rng(6)
        self.rule, self.sign, self.settings = rule, sign, {"first": 1.0, "second": 1.0, **settings}
        names = [dtypes[k % len(dtypes)] for k in range(len(shapes))]
        self.params = [
            laid_out(encode(values(rng, shape, np.float64), DTYPES[name]), layout) for shape, name in zip(shapes, names)
        ]
        kinds = [DTYPES[("f64", "bf16", "f32")[k % 3]] for k in range(len(shapes))]
        self.grads = [
            laid_out(encode(values(rng, shape, np.float64), kind), layout) for shape, kind in zip(shapes, kinds)
        ]
        self.kept = [rng.random(shape) < 0.7 if k % 3 == 1 else None for k, shape in enumerate(shapes)]
        slots = len(_core.rules()[rule][0])
        self.states = [
            [abs(values(rng, param.shape, compute_type(param.dtype))) for _ in range(slots)] for param in self.params
        ]
        self.units = [rng.random(units_of(param).shape[0]) for param in self.params]
        self.tensors = [
            {
                "grad": on_gpu(gpu, grad),
                "param": on_gpu(gpu, param),
                "state": [on_gpu(gpu, x) for x in state],
                "kept": kept,
            }
            for param, grad, state, kept in zip(self.params, self.grads, self.states, self.kept)
        ]
        self.rows = Rows(gpu, self.tensors, **self.settings)
        for tensor, factors in zip(self.tensors, self.units):
            if tensor["grad"].size:
                tensor["unit_factors"][:] = gpu.asarray(factors)
        self.rows.set_scalars([SCALARS[rule][name] for name in _core.rules()[rule][1]], sign)

    def prepared(self, k):
        """The gradient as the rule sees it."""
        compute, now = compute_type(self.params[k].dtype), self.settings
        grad = masked(decode(self.grads[k], compute), self.kept[k]) * compute(self.sign * now["first"])
        if now.get("clips_values"):
            grad = clamped(grad, compute(now["clip_value"]))
        grad = grad * compute(now["second"])
        if now.get("clips_units") and grad.size:
            grad = (units_of(grad) * self.units[k].astype(compute)[:, None]).reshape(grad.shape)
        return grad

    def norms(self, k):
        compute = compute_type(self.params[k].dtype)
        param = decode(self.params[k], compute)
        with np.errstate(all="ignore"):
            return norm_of(param), norm_of(measured(self.rule, param, self.prepared(k), self.states[k]))


@pytest.mark.usefixtures("schedule")
@pytest.mark.parametrize("rule", SCALARS)
@pytest.mark.parametrize("dtypes", [("f32",), ("f64",), ("f16", "f64", "bf16", "f32")])
@pytest.mark.parametrize("setting", SETTINGS)
def test_norms_have_the_bits_of_the_oracle(gpu, rule, dtypes, setting):
    case = Case(gpu, rule, dtypes, "C" if setting == "plain" else "strided", -1.0, **SETTINGS[setting])
    if setting == "examined":
        control = case.rows.control
        control["first"] = case.settings["first"] = 0.4
        control["second"] = case.settings["second"] = 1.7
        case.rows._control[...] = gpu.asarray(control.view(np.uint8))
    case.rows.run(rule, f"measure_{rule}")
    got = case.rows.norms.get().reshape(-1, 2)
    for k, pair in enumerate(got.tolist()):
        assert tuple(pair) == case.norms(k), (k, SHAPES[k])


@pytest.mark.parametrize("n", [1, 127, 4097])
def test_nothing_behind_the_last_element_is_measured(gpu, n):
    """There 0 is divided by 0, and multiplied by a factor that is infinite in float32."""
    grad, settings = np.ones(n, np.float32), {"first": 1e300, "clips_values": 1, "clip_value": 0.5}
    tensors = [{"grad": gpu.asarray(grad), "state": [gpu.zeros(n, np.float32) for _ in range(2)]}]
    rows = Rows(gpu, tensors, **settings)
    rows.set_scalars([0.0, 0.5, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0])
    rows.run("lamb", "measure_lamb")
    assert rows.norms.get().tolist() == [np.sqrt(n), np.sqrt(n * 0.25)]
    for shape in ((n, 1), (1, n)):
        means = [gpu.zeros((shape[0], 1), np.float32), gpu.zeros((1, shape[1]), np.float32)]
        rows = Rows(gpu, [{"grad": gpu.asarray(grad.reshape(shape)), "means": means}], **settings)
        rows.set_scalars([1.0, 1.0, 0.0, 0.0, 0.0, 1.0])
        for kernel, chunks in zip(("sums", "means"), groups_of(rows.table, 1)):
            launch("adafactor", f"{kernel}_adafactor_f32", 2, (rows.told(chunks),))
        assert {x for mean in means for x in mean.get().reshape(-1).tolist()} == {0.25}


def test_a_step_that_must_not_be_written_is_not_measured(gpu):
    case = Case(gpu, "lars", ("f32",))
    case.rows.control["stops"] = 1
    case.rows._control[...] = gpu.asarray(case.rows.control.view(np.uint8))
    case.rows.run("lars", "measure_lars")
    assert np.isnan(case.rows.norms.get()).all()


MATRICES = (
    (1, 1),
    (5, 3),
    (64, 128),
    (65, 129),
    (129, 7),
    (3, 9000),
    (7, 4096),
    (2, 3, 70, 5),
    (3, 2, 1),
    (0, 4),
    (4, 0),
)
TALL = 4100, 1
"""Its row means are more than a block."""


class Matrices(Case):
    """Tensors whose second moment is factored."""

    def __init__(self, gpu, dtypes, mean_dtype, **settings):
        shapes = MATRICES if mean_dtype else (*MATRICES, TALL)
        super().__init__(gpu, "adafactor", dtypes, settings.pop("layout", "C"), -1.0, shapes, **settings)
        rng = np.random.default_rng(7)
        self.means = []
        self.grads[1] = self.grads[1] * self.grads[1].dtype.type(1e-9)
        self.tensors[1]["grad"] = on_gpu(gpu, self.grads[1])
        for tensor, param in zip(self.tensors, self.params):
            *outer, height, width = param.shape
            dtype = DTYPES[mean_dtype] if mean_dtype else np.dtype(compute_type(param.dtype))
            drawn = [
                encode(abs(values(rng, shape, np.float64)), dtype)
                for shape in ((*outer, height, 1), (*outer, 1, width))
            ]
            if len(self.means) == 1:  # so small that ratios are taken by ε
                drawn = [mean * mean.dtype.type(0) for mean in drawn]
            self.means.append(drawn)
            tensor["means"] = [on_gpu(gpu, mean) for mean in drawn]
        self.rows = Rows(gpu, self.tensors, **self.settings)
        for tensor, factors in zip(self.tensors, self.units):
            if tensor["grad"].size:
                tensor["unit_factors"][:] = gpu.asarray(factors)
        self.rows.set_scalars([SCALARS["adafactor"][name] for name in _core.rules()["adafactor"][1]], -1.0)

    def run(self, blocks):
        for name, compute in (("f32", 1), ("f64", 2)):
            sums, means = groups_of(self.rows.table, compute)
            launch("adafactor", f"sums_adafactor_{name}", blocks, (self.rows.told(sums),))
            launch("adafactor", f"means_adafactor_{name}", blocks, (self.rows.told(means),))

    def want(self, k):
        """New means, before they are rounded to storage."""
        compute = compute_type(self.params[k].dtype)
        means = [decode(mean, compute) for mean in self.means[k]]
        scalars = {name: x if name in ("eps2", "rho", "d") else compute(x) for name, x in SCALARS["adafactor"].items()}
        with np.errstate(all="ignore"):
            state = (*means, np.zeros(1, compute))
            return adafactor(self.params[k].astype(compute), self.prepared(k), state, **scalars)[1][:2]


@pytest.mark.usefixtures("schedule")
@pytest.mark.parametrize("dtypes", [("f32",), ("f64",), ("f16", "f64", "f32")])
@pytest.mark.parametrize("mean_dtype", [None, "bf16"])
@pytest.mark.parametrize("setting", ["plain", "clipped", "units"])
def test_means_of_rows_and_columns_have_the_bits_of_the_oracle(gpu, dtypes, mean_dtype, setting):
    layout = "C" if setting == "plain" else "strided"
    case = Matrices(gpu, dtypes, mean_dtype, layout=layout, **SETTINGS[setting])
    case.run(5)
    for k, (tensor, row) in enumerate(zip(case.tensors, case.rows.table)):
        if not row["len"]:
            assert_same_bits(tensor["means"][0].get(), case.means[k][0])
            continue
        rows, columns = case.want(k)
        for got, new in zip(tensor["means"], (rows, columns)):
            assert_same_bits(got.get(), encode(new, got.dtype), str(rows.shape))
        eps = np.finfo(rows.dtype).eps
        ratios = rows / larger(mean_of_rows(rows), eps)
        for address, want in zip(row["mean_sums"], (ratios, columns)):
            got = table_at(case.rows, address, want.size)
            assert_same_bits(got, want.astype(np.float64).reshape(-1), str(rows.shape))


def table_at(rows, address, size):
    (found,) = [array for array in rows._alive if array.data.ptr == address]
    return found.get()[:size]


TREE = """
KERNEL(tree)(double *numbers, u64 n) {
    Tree tree = {};
    for (u64 i = 0; i < n; i++) add_result(tree, numbers[i]);
    double sum = result_of(tree);
    numbers[lane_of_warp()] = sum;
}
"""


@pytest.mark.parametrize("n", [1, 2, 129, 4095, 4096, 4097, 12289, pytest.param(1_000_001, marks=pytest.mark.slow)])
def test_results_that_come_one_by_one_make_the_same_tree(gpu, n):
    numbers = np.random.default_rng(8).standard_normal(n)
    room = gpu.asarray(np.append(numbers, np.zeros(32)))
    gpu_shim.probe("reduce.cuh", text=TREE).get_function("tree")((1,), (32,), (room, np.uint64(n)))
    assert set(room.get()[:32].tolist()) == {fixed_sum(numbers)}
