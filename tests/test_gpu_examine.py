"""The examination of gradients on a GPU: check, norms and factors have the bits of the oracle."""

import math

import numpy as np
import pytest

from gpu_rows import Rows, on_gpu
from helpers import assert_same_bits, laid_out, values
from reference_stages import clamped, masked, norm_of, unit_factors
from reference_storage import DTYPES, compute_type, decode, encode
from stepsmith.cuda.optim.structs import NOTHING, REDUCTIONS

KINDS = {1.0: "sum_abs", 2.0: "sum_squares", math.inf: "max_abs"}
LENGTHS = (0, 1, 127, 128, 129, 4095, 4096, 4097, 12289)
NO_PROBLEM, NON_FINITE, NORM_OVERFLOW = range(3)


class Case:
    """Some gradients here and on the device."""

    def __init__(self, gpu, grads, params=None, kept=None, **settings):
        self.params = params or [np.zeros(grad.shape, compute_type(grad.dtype)) for grad in grads]
        self.compute = [compute_type(param.dtype) for param in self.params]
        self.grads, self.kept = grads, kept or [None] * len(grads)
        self.tensors = [
            {"grad": on_gpu(gpu, grad), "param": on_gpu(gpu, param), "kept": mask}
            for grad, param, mask in zip(grads, self.params, self.kept)
        ]
        self.settings = {"grad_scale": 1.0, **settings}
        self.rows = Rows(gpu, self.tensors, **settings)

    def examine(self, blocks=3):
        self.rows.run("examine", "examine", blocks)
        return self.rows.found()

    def seen(self):
        """The gradients as the norm sees them."""
        with np.errstate(all="ignore"):
            raw = [masked(decode(g, t), mask) for g, t, mask in zip(self.grads, self.compute, self.kept)]
            if not self.settings.get("clips_values"):
                return raw
            inverse, limit = 1.0 / self.settings["grad_scale"], self.settings["clip_value"]
            return [clamped(g * t(inverse), t(limit)) for g, t in zip(raw, self.compute)]

    def norm(self, norm_type):
        with np.errstate(all="ignore"):
            divided = not self.settings.get("clips_values")
            return norm_of(self.seen(), norm_type) / (abs(self.settings["grad_scale"]) if divided else 1.0)


def gradients(dtypes=("f32", "bf16", "f16"), lengths=LENGTHS, seed=1):
    """Behind each are large numbers that belong to nobody."""
    rng = np.random.default_rng(seed)
    return [before(encode(values(rng, n, np.float64), DTYPES[dtypes[k % len(dtypes)]])) for k, n in enumerate(lengths)]


def before(array):
    wide = np.full(array.size + 600, 6e4, array.dtype)
    wide[: array.size] = array
    return wide[: array.size]


def clip_of(max_norm, norm):
    factor = max_norm / (norm + 1e-6)
    return 1.0 if factor > 1.0 else factor


MIXES = [("f32",), ("f64",), ("f16", "bf16"), ("f64", "f32", "bf16")]


@pytest.mark.usefixtures("schedule")
@pytest.mark.parametrize("dtypes", MIXES)
@pytest.mark.parametrize("norm_type", KINDS)
def test_norm_and_clip_have_the_bits_of_the_oracle(gpu, dtypes, norm_type):
    for scale, max_norm, limit in ((1.0, 0.7, None), (-3.0, 1e9, None), (0.5, 0.1, 0.03)):
        clips = {"clips_values": 1, "clip_value": limit} if limit else {}
        case = Case(
            gpu, gradients(dtypes), norm=REDUCTIONS[KINDS[norm_type]], max_norm=max_norm, grad_scale=scale, **clips
        )
        found, norm = case.examine(), case.norm(norm_type)
        assert norm > 0.0
        assert (found["norm"], found["clip"]) == (norm, clip_of(max_norm, norm))
        clip, inverse = found["clip"], 1.0 / scale
        assert (found["first"], found["second"]) == ((inverse, clip) if limit else (clip / scale, 1.0))
        assert (found["stops"], found["problem"], found["ended"]) == (0, NO_PROBLEM, 0)


@pytest.mark.parametrize("blocks", [1, 2, 7, 40])
def test_the_sum_does_not_depend_on_the_grid(gpu, blocks):
    case = Case(gpu, gradients(("f32", "f64")), norm=REDUCTIONS["sum_squares"])
    assert case.examine(blocks)["norm"] == case.norm(2.0)


@pytest.mark.slow
@pytest.mark.usefixtures("schedule")
def test_a_row_of_more_than_a_block_of_blocks(gpu):
    lengths = (5, 4096 * 4097 + 3, 4096 * 300 + 1, 4096 * 4096)
    grads = gradients(("f32", "f32", "f64", "f32"), lengths)
    case = Case(gpu, grads, [grad.copy() for grad in grads], norm=REDUCTIONS["sum_squares"], agc=0.9)
    assert case.examine(64)["norm"] == case.norm(2.0)
    case.rows.run_once("units", "unit_sums", 64)
    case.rows.run_once("units", "unit_factors")
    for tensor, grad in zip(case.tensors, grads):
        assert_same_bits(tensor["unit_factors"].get(), unit_factors(grad, grad, 0.9, 1.0))


def test_many_rows_are_added_in_order(gpu):
    lengths = [n % 7 * 900 for n in range(700)]
    case = Case(gpu, gradients(("f32", "f64"), lengths), norm=REDUCTIONS["sum_abs"])
    assert case.examine()["norm"] == case.norm(1.0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["C", "F", "strided", "negative", "offset"])
def test_gradients_of_any_layout_are_counted_in_c_order(gpu, dtype, layout):
    rng = np.random.default_rng(2)
    grads = [
        laid_out(encode(values(rng, shape, np.float64), DTYPES[dtype]), layout) for shape in ((65, 67), (3, 5, 7), ())
    ]
    case = Case(gpu, grads, norm=REDUCTIONS["sum_squares"], checks_finite=1)
    found = case.examine()
    assert found["norm"] == case.norm(2.0)
    grads[1][1, 2, 3] = np.nan
    found = Case(gpu, grads, checks_finite=1).examine()
    assert (found["tensor"], found["element"]) == (1, 1 * 35 + 2 * 7 + 3)


@pytest.mark.usefixtures("schedule")
@pytest.mark.parametrize("dtypes", MIXES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_bad_element_is_named(gpu, dtypes, value):
    rng = np.random.default_rng(3)
    for place in ("first", "last", "some"):
        grads = gradients(dtypes)
        bad = set()
        for k in rng.choice(range(1, len(grads)), 3, replace=False):
            i = {"first": 0, "last": grads[k].size - 1, "some": int(rng.integers(grads[k].size))}[place]
            grads[k][i] = value
            bad.add((int(k), i))
        found = Case(gpu, grads, checks_finite=1, grad_scale=2.0).examine()
        assert (found["tensor"], found["element"]) == min(bad)
        assert_same_bits(np.array([found["value"]]), np.array([value], np.float64))
        assert (found["stops"], found["problem"], found["grad_scale"]) == (1, NON_FINITE, 2.0)
        found = Case(gpu, grads, checks_finite=1, skips=1).examine()
        assert (found["stops"], found["problem"]) == (1, NO_PROBLEM)
        found = Case(gpu, grads, norm=REDUCTIONS["max_abs"]).examine()
        assert (found["stops"], found["first_bad"]) == (0, NOTHING)
        assert math.isnan(found["norm"]) if math.isnan(value) else found["norm"] == math.inf


def test_what_overflows_by_the_scale_is_not_finite(gpu):
    grads = [np.ones(300), np.ones(300, np.float32)]
    grads[1][7] = 1e30
    found = Case(gpu, grads, checks_finite=1, grad_scale=1e-9).examine()
    assert (found["tensor"], found["element"], found["value"]) == (1, 7, np.float32(1e30))
    grads[0][299] = 1e300
    found = Case(gpu, grads, checks_finite=1, grad_scale=1e-9).examine()
    assert (found["tensor"], found["element"], found["value"]) == (0, 299, 1e300)
    # 1e-40 has no reciprocal in float32: zero times infinity is no number, for the first element that is kept.
    kept = [None, np.arange(300) > 4]
    found = Case(gpu, [grads[0] * 1e-300, grads[1] * 0], kept=kept, checks_finite=1, grad_scale=1e-40).examine()
    assert (found["tensor"], found["element"], found["value"]) == (1, 5, 0.0)
    found = Case(gpu, [grads[0] * 1e-300, grads[1][:0]], checks_finite=1, grad_scale=1e-40).examine()
    assert found["stops"] == 0


def test_an_infinite_factor_spoils_nothing_behind_the_last_element(gpu):
    for n in (1, 127, 4097):
        settings = {"clips_values": 1, "clip_value": 0.5, "norm": REDUCTIONS["sum_squares"], "grad_scale": 1e-40}
        found = Case(gpu, [before(np.ones(n, np.float32))], **settings).examine()
        assert found["norm"] == math.sqrt(n * 0.25)


def test_a_norm_that_overflows_is_no_element_s_fault(gpu):
    grads = [np.full(300, 1e200), np.ones(300, np.float32)]
    found = Case(gpu, grads, checks_finite=1, norm=REDUCTIONS["sum_squares"]).examine()
    assert (found["stops"], found["problem"], found["value"]) == (1, NORM_OVERFLOW, math.inf)
    found = Case(gpu, grads, norm=REDUCTIONS["sum_squares"], max_norm=1.0).examine()
    assert (found["stops"], found["norm"], found["clip"]) == (0, math.inf, 0.0)
    found = Case(gpu, grads, norm=REDUCTIONS["sum_squares"], max_norm=math.inf).examine()
    assert math.isnan(found["clip"])
    found = Case(gpu, [grads[0] * 1e-100], norm=REDUCTIONS["sum_squares"], max_norm=math.inf).examine()
    assert found["clip"] == 1.0
    found = Case(gpu, grads, checks_finite=1, norm=REDUCTIONS["sum_abs"]).examine()
    assert (found["stops"], found["norm"]) == (0, 300 + 300 * 1e200)


def test_an_old_problem_stays_until_it_is_seen(gpu):
    case = Case(gpu, gradients(), checks_finite=1, norm=REDUCTIONS["sum_squares"])
    case.rows._control[...] = gpu.asarray(_with_problem(case.rows.control).view(np.uint8))
    found = case.examine()
    assert (found["problem"], found["element"], found["norm"], found["stops"]) == (NON_FINITE, 77, 0.0, 0)


def _with_problem(control):
    control = control.copy()
    control["problem"], control["element"] = NON_FINITE, 77
    return control


@pytest.mark.usefixtures("schedule")
@pytest.mark.parametrize("dtypes", MIXES)
def test_pruned_elements_are_left_out(gpu, dtypes):
    rng = np.random.default_rng(4)
    grads = gradients(dtypes)
    kept = [rng.random(grad.shape) < 0.6 if k % 3 else None for k, grad in enumerate(grads)]
    for grad, mask in zip(grads, kept):
        if mask is not None:
            grad[~mask] = np.nan
    for norm_type, kind in KINDS.items():
        for clips in ({}, {"clips_values": 1, "clip_value": 0.02}):
            case = Case(gpu, grads, kept=kept, norm=REDUCTIONS[kind], checks_finite=1, grad_scale=-0.5, **clips)
            found = case.examine()
            assert (found["norm"], found["stops"]) == (case.norm(norm_type), 0)


SHAPES = ((), (0,), (0, 3), (3, 0), (5,), (4097,), (1, 4097), (7, 1), (3, 4, 5), (33, 129), (2, 4096), (2, 9001))


@pytest.mark.usefixtures("schedule")
@pytest.mark.parametrize("dtypes", MIXES)
@pytest.mark.parametrize("limit", [None, 0.05])
def test_factors_of_units_have_the_bits_of_the_oracle(gpu, dtypes, limit):
    rng = np.random.default_rng(5)
    names = [dtypes[k % len(dtypes)] for k in range(len(SHAPES))]
    params = [encode(values(rng, shape, np.float64), DTYPES[name]) for shape, name in zip(SHAPES, names)]
    params[4][...] = 0
    grads = [laid_out(values(rng, shape, np.float32), "F" if k % 2 else "C") for k, shape in enumerate(SHAPES)]
    kept = [rng.random(shape) < 0.7 if k % 4 == 3 else None for k, shape in enumerate(SHAPES)]
    clips = {"clips_values": 1, "clip_value": limit} if limit else {}
    settings = {"norm": REDUCTIONS["sum_squares"], "max_norm": 20.0, "grad_scale": -0.3, "is_examined": 1}
    case = Case(gpu, grads, params, kept, agc=0.02, **settings, **clips)
    clip = case.examine()["clip"]
    case.rows.run_once("units", "unit_sums")
    case.rows.run_once("units", "unit_factors")
    scale = clip if limit else clip / 0.3
    some = 0
    for tensor, grad, param, compute in zip(case.tensors, case.seen(), params, case.compute):
        if not grad.size:
            continue
        with np.errstate(divide="ignore"):
            want = unit_factors(grad, decode(param, compute), 0.02, scale)
        assert_same_bits(tensor["unit_factors"].get(), want, str(grad.shape))
        some += int(((want > 0) & (want < 1)).sum())
    assert some > 5
