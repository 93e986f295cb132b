"""Masks against brute force and the golden rows, and what an optimizer does with them."""

import json
import math
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stepsmith as ss
from helpers import LAYOUTS, Array, assert_same_bits, laid_out, values
from stepsmith import prune

GOLDEN = Path(__file__).parent / "golden"
CASES = [row for row in json.loads((GOLDEN / "layers.json").read_text()) if row["case"].startswith("prune-")]
ARRAYS = np.load(GOLDEN / "layers.npz")
DTYPES = [np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_masks_equal_golden(case: dict[str, Any]) -> None:
    w, want = ARRAYS[f"{case['case']}/w"], ARRAYS[f"{case['case']}/mask"]
    if case["op"] == "structured":
        got = prune.structured_mask(w, case["amount"], axis=case["axis"], norm=case["norm"])
    else:
        got = prune.magnitude_mask(w, case["amount"])
    assert 0 < got.sum() < got.size
    assert (got == want).all()


def test_every_golden_case_is_covered() -> None:
    assert {case["op"] for case in CASES} == {"structured", "magnitude_unstructured"}
    assert len(CASES) == 4


# Oracles: Python's sort, which is stable, over all weights that are left.


def brute(keys: list[float], kept: list[bool], amount: float) -> list[bool]:
    left = [i for i, keep in enumerate(kept) if keep]
    count = amount if isinstance(amount, int) else round(amount * len(left))
    gone = set(sorted(left, key=lambda i: keys[i])[:count])
    return [keep and i not in gone for i, keep in enumerate(kept)]


few = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, -2.0, 3.0, math.inf])
shapes = st.lists(st.integers(0, 5), max_size=3).map(tuple)


@st.composite
def weights(draw: st.DrawFn, shape: st.SearchStrategy[tuple[int, ...]] = shapes) -> Array:
    """With many ties, of any dtype and layout."""
    dims = draw(shape)
    flat = draw(st.lists(few, min_size=math.prod(dims), max_size=math.prod(dims)))
    return laid_out(np.array(flat).reshape(dims).astype(draw(st.sampled_from(DTYPES))), draw(st.sampled_from(LAYOUTS)))


@st.composite
def masked(draw: st.DrawFn, shape: st.SearchStrategy[tuple[int, ...]] = shapes) -> tuple[Array, Array | None]:
    w = draw(weights(shape))
    flat = draw(st.none() | st.lists(st.booleans(), min_size=w.size, max_size=w.size))
    return w, None if flat is None else laid_out(np.array(flat, bool).reshape(w.shape), draw(st.sampled_from("CF")))


def kept_of(w: Array, mask: Array | None) -> list[bool]:
    return [True] * w.size if mask is None else mask.reshape(-1).tolist()


def amounts(data: st.DataObject, total: int) -> float:
    return data.draw(st.integers(0, total) | st.floats(0, 1) | st.sampled_from([0.25, 0.5]))


def check_mask(got: Array, w: Array) -> None:
    assert (got.dtype, got.shape, got.flags.c_contiguous) == (np.bool_, w.shape, True)


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_magnitude_is_brute_force(data: st.DataObject) -> None:
    w, mask = data.draw(masked())
    kept = kept_of(w, mask)
    amount = amounts(data, sum(kept))
    got = prune.magnitude_mask(w, amount, mask)
    check_mask(got, w)
    keys = np.abs(w.astype(np.float64)).reshape(-1).tolist()
    assert got.reshape(-1).tolist() == brute(keys, kept, amount)


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_global_is_brute_force(data: st.DataObject) -> None:
    pairs = data.draw(st.lists(masked(), max_size=3))
    params = {str(i): w for i, (w, _) in enumerate(pairs)}
    masks = {str(i): mask for i, (_, mask) in enumerate(pairs) if mask is not None}
    kept = [keep for w, mask in pairs for keep in kept_of(w, mask)]
    amount = amounts(data, sum(kept))
    got = prune.global_masks(params, amount, masks)
    assert list(got) == list(params)
    for name, mask in got.items():
        check_mask(mask, params[name])
    keys = [abs(float(x)) for w, _ in pairs for x in w.reshape(-1)]
    assert [keep for mask in got.values() for keep in mask.reshape(-1).tolist()] == brute(keys, kept, amount)


NORMS = {1: lambda x: sum(map(abs, x)), 2: lambda x: sum(v * v for v in x), math.inf: lambda x: max(map(abs, x))}


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_structured_is_brute_force(data: st.DataObject) -> None:
    w, mask = data.draw(masked(st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple)))
    axis, norm = data.draw(st.integers(-w.ndim, w.ndim - 1)), data.draw(st.sampled_from([1, 2, math.inf]))
    kept = np.ones(w.shape, bool) if mask is None else mask
    slices = range(w.shape[axis])
    alive = [bool(kept.take(i, axis).any()) for i in slices]
    keys = [NORMS[norm](np.where(kept, w, 0).take(i, axis).astype(float).reshape(-1).tolist()) for i in slices]
    amount = amounts(data, sum(alive))
    got = prune.structured_mask(w, amount, axis, norm, mask)
    check_mask(got, w)
    want = kept.copy()
    for i, keep in enumerate(brute(keys, alive, amount)):
        np.moveaxis(want, axis, 0)[i] &= keep
    assert (got == want).all()


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_n_of_m_is_brute_force(data: st.DataObject) -> None:
    m = data.draw(st.integers(1, 4))
    n, axis = data.draw(st.integers(1, m)), data.draw(st.integers(-2, 1))
    shape = [data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3))]
    shape[axis] *= m
    w = data.draw(weights(st.just(tuple(shape))))
    got = prune.n_m_mask(w, n, m, axis)
    check_mask(got, w)
    lines = np.moveaxis(np.abs(w.astype(np.float64)), axis, -1).reshape(-1, m) if w.size else np.zeros((0, m))
    want = [brute(run, [True] * m, m - n) for run in lines.tolist()]
    assert np.moveaxis(got, axis, -1).reshape(-1, m).tolist() == want if w.size else got.size == 0


def test_real_numbers_and_extremes() -> None:
    w = values(np.random.default_rng(3), (61, 67), np.float32)
    got = prune.magnitude_mask(w, 0.9)
    assert (~got).sum() == round(0.9 * w.size)
    assert np.abs(w[~got]).max() <= np.abs(w[got]).min()
    huge = np.array([[1e300, 1e300], [2e300, 0.0], [1e308, 1e308], [math.inf, 0.0]])
    got = [np.flatnonzero(~prune.structured_mask(huge, k)[:, 0]).tolist() for k in (1, 2, 3)]
    assert got == [[0], [0, 1], [0, 1, 2]]
    tiny = np.array([[3e-200, 0.0], [2e-200, 2e-200], [1e-200, 0.0]])
    assert prune.structured_mask(tiny, 2)[:, 0].tolist() == [True, False, False]
    assert prune.magnitude_mask(np.float64(3.0)[...], 1).tolist() is False


W = np.ones((2, 4), np.float32)
NAN = np.array([[1.0, 2.0], [math.nan, 3.0]])
WRONG = {
    "nan": (
        lambda: prune.magnitude_mask(NAN, 1),
        ValueError,
        r"magnitude_mask: w must not have NaN, got one .*\[1, 0\]",
    ),
    "nan of one": (lambda: prune.global_masks({"a": W, "b": NAN}, 1), ValueError, r"params\['b'\] must not have NaN"),
    "nan row": (lambda: prune.structured_mask(NAN, 1), ValueError, "structured_mask: w must not have NaN"),
    "nan run": (lambda: prune.n_m_mask(NAN, 1, 2), ValueError, "n_m_mask: w must not have NaN"),
    "list": (lambda: prune.magnitude_mask([1.0], 1), TypeError, "magnitude_mask: w must be a NumPy array"),
    "dtype": (lambda: prune.magnitude_mask(np.arange(3), 1), TypeError, "w must be float32, .* got int64"),
    "swapped": (lambda: prune.magnitude_mask(W.astype(">f4"), 1), TypeError, "native byte order, got >f4"),
    "many": (lambda: prune.magnitude_mask(W, 9), ValueError, "magnitude_mask: amount must be at most 8, got 9"),
    "kept": (lambda: prune.magnitude_mask(W, 1, W < 0), ValueError, "magnitude_mask: amount must be at most 0, got 1"),
    "negative": (lambda: prune.magnitude_mask(W, -1), ValueError, "magnitude_mask: amount must be at least 0, got -1"),
    "share": (lambda: prune.magnitude_mask(W, 1.5), ValueError, r"magnitude_mask: amount must be in \[0, 1\], got 1.5"),
    "flag": (
        lambda: prune.magnitude_mask(W, True),
        TypeError,
        "magnitude_mask: amount must be an integer or .* got True",
    ),
    "word": (
        lambda: prune.magnitude_mask(W, "1"),
        TypeError,
        "magnitude_mask: amount must be an integer or .* got '1'",
    ),
    "mask": (lambda: prune.magnitude_mask(W, 1, W), TypeError, "magnitude_mask: mask must be boolean, got float32"),
    "mask shape": (lambda: prune.magnitude_mask(W, 1, W[0] > 0), ValueError, r"mask must have the shape .* got \(4,\)"),
    "sequence": (lambda: prune.global_masks([W], 1), TypeError, "global_masks: params must be a mapping .* got list"),
    "name": (
        lambda: prune.global_masks({"a": W}, 1, {"b": W > 0}),
        ValueError,
        r"must have names of params, got \['b'\]",
    ),
    "axis": (lambda: prune.structured_mask(W, 1, 2), ValueError, "structured_mask: axis must be at most 1, got 2"),
    "no axis": (
        lambda: prune.structured_mask(W[0, 0][...], 1),
        ValueError,
        r"w must have at least one axis, got shape \(\)",
    ),
    "norm": (
        lambda: prune.structured_mask(W, 1, norm=3),
        ValueError,
        "structured_mask: norm must be 1, 2 or inf, got 3",
    ),
    "norm's kind": (lambda: prune.structured_mask(W, 1, norm="2"), TypeError, "norm must be 1, 2 or inf, got '2'"),
    "rest": (
        lambda: prune.n_m_mask(W, 1, 3),
        ValueError,
        "n_m_mask: w must have a multiple of m=3 along axis 1, got 4",
    ),
    "n": (lambda: prune.n_m_mask(W, 5, 4), ValueError, "n_m_mask: n must be at most 4, got 5"),
    "none": (lambda: prune.n_m_mask(W, 0, 4), ValueError, "n_m_mask: n must be at least 1, got 0"),
    "optimizer": (
        lambda: prune.apply({"w": W}, {}),
        TypeError,
        "apply: optimizer must be one of stepsmith.optim .* got dict",
    ),
    "lbfgs": (lambda: prune.apply(ss.optim.LBFGS({"w": W}), {}), TypeError, "apply: optimizer must be .* got LBFGS"),
    "sparsity": (lambda: prune.sparsity([W]), TypeError, "sparsity: params must be a mapping .* got list"),
    "scope": (lambda: gradual(scope="all"), ValueError, "GradualPruning: scope must be 'global', .* got 'all'"),
    "include": (lambda: gradual(include=1), TypeError, "GradualPruning: include must be a string, got 1"),
    "stop": (lambda: gradual(stop=7), ValueError, "stop must be start=2 plus a multiple of every=2, got 7"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_arguments_are_named(case: str) -> None:
    call, kind, message = WRONG[case]
    with pytest.raises(kind, match=message):
        call()


# In an optimizer.


def test_sparsity_counts_zeros() -> None:
    params = {"w": np.array([[0.0, -0.0], [2.0, math.nan]], np.float32), "b": np.zeros(3), "e": np.zeros((0, 2))}
    found = prune.sparsity(params)
    assert (found.zeros, found.sizes) == ({"w": 2, "b": 3, "e": 0}, {"w": 4, "b": 3, "e": 0})
    assert (found["w"], found["e"], found.total) == (0.5, 0.0, 5 / 7)
    assert str(found).splitlines()[-1].split() == ["total", "7", "5", "71.43%"]
    assert prune.sparsity(ss.optim.SGD({"w": params["b"]})).zeros == {"w": 3}
    assert prune.sparsity({}).total == 0.0


def gradual(**changes: Any) -> prune.GradualPruning:
    return prune.GradualPruning(**{"final": 0.9, "start": 2, "stop": 8, "every": 2, "initial": 0.3, **changes})


class Run:
    """What a callback sees of a trainer, and its loop."""

    def __init__(self, callback: prune.GradualPruning, seed: int = 0, **options: Any) -> None:
        self.model = ss.nn.Sequential(
            ss.nn.Linear(5, 16), ss.nn.BatchNorm(16), ss.nn.Tanh(), ss.nn.Linear(16, 9), ss.nn.Linear(9, 3), seed=seed
        )
        self.optimizer = ss.optim.AdamW(self.model.parameters(), lr=0.02, **options)
        self.clock, self.callback = ss.train.Clock(), callback

    def train(self, steps: int) -> None:
        self.callback.on_fit_begin(self)
        while self.clock.step < steps:
            rng = np.random.default_rng(self.clock.step)
            batch = rng.normal(size=(8, 5)).astype(np.float32), rng.integers(0, 3, 8)
            self.optimizer.step(self.model.loss_and_grads(batch)[1])
            self.clock.advance(8, 1, 0.0)
            self.callback.on_step_end(self, {"step": self.clock.step})

    def pruned(self) -> dict[str, int]:
        return {name: int((~mask).sum()) for name, mask in self.optimizer.masks.items()}


SCOPES = ["global", "local", ("structured", 0), ("structured", 1)]
SIZES = {"0.weight": 80, "3.weight": 144, "4.weight": 27}


@pytest.mark.parametrize("scope", SCOPES, ids=str)
def test_gradual_pruning_prunes_exactly_what_the_schedule_says(scope: Any) -> None:
    callback = gradual(scope=scope, norm=1)
    run = Run(callback)
    run.train(1)
    assert run.pruned() == {}
    for step in range(2, 12):
        before = run.optimizer.masks
        run.train(step)
        share = callback.schedule(min(step - step % 2, 8))
        if scope == "global":
            assert sum(run.pruned().values()) == round(share * sum(SIZES.values()))
        elif scope == "local":
            assert run.pruned() == {name: round(share * size) for name, size in SIZES.items()}
        else:
            shapes = {"0.weight": (16, 5), "3.weight": (9, 16), "4.weight": (3, 9)}
            slices = {name: round(share * shape[scope[1]]) for name, shape in shapes.items()}
            assert run.pruned() == {name: n * shapes[name][1 - scope[1]] for name, n in slices.items()}
        for name, mask in run.optimizer.masks.items():
            assert (run.optimizer.params[name][~mask] == 0).all()
            assert not (mask & ~before.get(name, mask)).any(), "nothing comes back"
    assert prune.sparsity(run.optimizer).zeros["1.weight"] == 0


@pytest.mark.parametrize("scope", SCOPES, ids=str)
@pytest.mark.parametrize("options", [{}, {"state_dtype": "int8", "min_8bit_size": 0, "ema": 0.9}], ids=["f32", "int8"])
def test_a_run_resumed_at_any_step_has_the_same_bits(scope: Any, options: dict[str, Any]) -> None:
    straight = Run(gradual(scope=scope), **options)
    straight.train(10)
    for stop in range(11):
        first, second = Run(gradual(scope=scope), **options), Run(gradual(scope=scope), seed=1, **options)
        first.train(stop)
        for part in ("parameters", "buffers"):
            for name, array in getattr(second.model, part)().items():
                array[...] = getattr(first.model, part)()[name]
        second.optimizer.load_state_dict(first.optimizer.state_dict())
        second.clock = first.clock
        second.callback.load_state_dict(first.callback.state_dict())
        second.train(10)
        for name, param in straight.optimizer.params.items():
            assert_same_bits(second.optimizer.params[name], param, f"{name} resumed at {stop}")
            for slot, x in straight.optimizer.state_dict()["state"][name].items():
                assert_same_bits(second.optimizer.state_dict()["state"][name][slot], x, slot)
        for name, mask in straight.optimizer.masks.items():
            assert_same_bits(second.optimizer.masks[name], mask)


def test_gradual_pruning_may_start_before_the_first_batch_and_leaves_other_masks() -> None:
    run = Run(gradual(start=0, include="[34].*"))
    own = np.arange(80).reshape(16, 5) % 2 == 0
    run.optimizer.set_masks({"0.weight": own, "3.weight": np.zeros((9, 16), bool)})
    run.callback.on_fit_begin(run)
    assert run.pruned() == {"0.weight": 40, "3.weight": 144, "4.weight": 0}, "more than the share was pruned already"
    run.train(8)
    assert run.pruned() == {"0.weight": 40, "3.weight": 144, "4.weight": round(0.9 * 171) - 144}


def test_what_another_callback_puts_back_is_zeroed_at_the_end() -> None:
    run = Run(gradual())
    run.train(8)
    best = {name: param.copy() for name, param in run.optimizer.params.items()}
    for param in run.optimizer.params.values():
        param[param == 0] = 7.0
    run.callback.on_fit_end(run)
    for name in SIZES:
        assert_same_bits(run.optimizer.params[name], best[name])


def test_gradual_pruning_refuses_before_training() -> None:
    with pytest.raises(ValueError, match=r"GradualPruning: include must match a parameter of two or more axes of \['0"):
        Run(gradual(include="*bias")).train(1)
    run = Run(gradual())
    run.optimizer = ss.optim.LBFGS(run.model.parameters())
    with pytest.raises(
        TypeError, match=r"GradualPruning: optimizer must be one of stepsmith.optim with masks, got LBFGS"
    ):
        run.callback.on_fit_begin(run)
    run.callback.on_fit_end(run)
