"""State dictionaries: an exact round trip through JSON and arrays; every mismatch is listed and changes nothing."""

import copy
import json

import ml_dtypes
import numpy as np
import pytest

import stepsmith as ss
from battery import CONFIGS
from helpers import assert_same_bits, different, values
from reference_storage import DTYPES

RNG = np.random.default_rng(41)


def params() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(43)
    arrays = {name: values(rng, 37, dtype) for name, dtype in DTYPES.items()}
    return {
        **arrays,
        "fortran": np.asfortranarray(values(rng, (5, 7), np.float32)),
        "scalar": values(rng, (), np.float64),
    }


GRADS = [{name: values(RNG, x.shape, np.float32) for name, x in params().items()} for _ in range(6)]
GRADS[1]["bf16"] = None


def dumped(optimizer) -> dict:
    """The dictionary after its JSON part went through JSON."""
    state_dict = optimizer.state_dict()
    arrays = state_dict.pop("state")
    return {**json.loads(json.dumps(state_dict, allow_nan=False)), "state": arrays}


@pytest.mark.parametrize("state_dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("config", CONFIGS)
def test_a_resumed_run_equals_a_straight_one(config, state_dtype) -> None:
    rule, settings = CONFIGS[config]
    schedule = ss.schedules.LinearWarmup(ss.schedules.CosineAnnealing(settings["lr"], T_max=9), T=4)

    def build(arrays, **others):
        return ss.optim.REGISTRY[rule](arrays, state_dtype=state_dtype, **{**settings, **others})

    straight = params()
    optimizer = build(straight, lr=schedule)
    for grads in GRADS:
        optimizer.step(grads)
    first = params()
    stopped = build(first, lr=schedule)
    for grads in GRADS[:3]:
        stopped.step(grads)
    resumed = {name: x.copy(order="K") for name, x in first.items()}
    others = {"weight_decay": 0.9} if "weight_decay" in optimizer.checks else {}
    again = build(resumed, lr=0.7, **others)
    again.step(GRADS[5])
    for name, x in first.items():
        resumed[name][...] = x
    again.load_state_dict(dumped(stopped))
    assert again.groups[0]["lr"] == schedule
    assert dict(again.groups[0]) == dict(stopped.groups[0])
    assert again.state_dict()["steps"] == {**dict.fromkeys(first, 3), "bf16": 2}
    for t, grads in enumerate(GRADS[3:]):
        info = again.step(grads)
        assert (info.step, info.lr) == (t + 4, (schedule(t + 3),))
    for name, x in straight.items():
        assert different(x, first[name]).size > 0
        assert_same_bits(resumed[name], x, name)
        for slot, array in optimizer.state_dict()["state"][name].items():
            assert_same_bits(again.state_dict()["state"][name][slot], array, f"{name} {slot}")


def test_the_dictionary_has_the_documented_form() -> None:
    optimizer = ss.optim.AdamW(
        [{"params": [np.ones(3)], "lr": ss.schedules.Constant(0.1)}, {"params": {"b": np.ones(2)}}]
    )
    optimizer.step([np.ones(3), None])
    got = optimizer.state_dict()
    assert list(got) == ["version", "optimizer", "groups", "steps", "state"]
    assert (got["version"], got["optimizer"], got["steps"]) == (1, "adamw", {"0": 1, "b": 0})
    assert {name: sorted(row) for name, row in got["state"].items()} == {"0": ["m", "v"], "b": ["m", "v"]}
    assert got["groups"][0]["params"] == ["0"]
    assert got["groups"][0]["lr"] == ss.schedules.Constant(0.1).to_dict()
    assert got["groups"][1] == {
        "params": ["b"],
        "step": 1,
        "lr": 1e-3,
        "betas": [0.9, 0.999],
        "eps": 1e-8,
        "weight_decay": 1e-2,
        "amsgrad": False,
        "maximize": False,
    }


def test_the_dictionary_holds_copies() -> None:
    optimizer = ss.optim.Adam([np.ones(3)])
    optimizer.step([np.ones(3)])
    got = optimizer.state_dict()
    kept = copy.deepcopy(got)
    optimizer.step([np.ones(3)])
    assert (got["state"]["0"]["m"] == kept["state"]["0"]["m"]).all()
    assert got["steps"] == kept["steps"] == {"0": 1}
    got["state"]["0"]["m"][:] = np.nan
    got["groups"][0]["lr"] = 99.0
    assert np.isfinite(optimizer.state["0"]["m"]).all()
    assert optimizer.groups[0]["lr"] == 1e-3
    optimizer.load_state_dict(kept)
    kept["state"]["0"]["m"][:] = np.nan
    assert np.isfinite(optimizer.state["0"]["m"]).all()


def test_loading_keeps_the_arrays_and_their_layouts() -> None:
    fortran = np.asfortranarray(np.ones((3, 4), np.float32))
    optimizer = ss.optim.Adam({"w": fortran})
    m = optimizer.state["w"]["m"]
    optimizer.step([np.arange(12, dtype=np.float32).reshape(3, 4)])
    saved = optimizer.state_dict()
    want = saved["state"]["w"]["m"].copy()
    saved["state"]["w"]["m"] = np.ascontiguousarray(want)
    m[...] = 0
    optimizer.load_state_dict(saved)
    assert optimizer.state["w"]["m"] is m
    assert m.strides == fortran.strides
    assert_same_bits(m, want)


def build() -> ss.optim.AdamW:
    groups = [
        {"params": {"a": np.ones((3, 4), np.float32)}},
        {"params": {"b": np.ones(5, np.float64)}, "lr": 0.5, "amsgrad": True},
    ]
    optimizer = ss.optim.AdamW(groups)
    optimizer.step([np.ones((3, 4)), np.ones(5)])
    return optimizer


def change(*path, to):
    """Sets an entry of the dictionary."""

    def apply(state_dict):
        for key in path[:-1]:
            state_dict = state_dict[key]
        state_dict[path[-1]] = to

    return apply


def drop(*path):
    def apply(state_dict):
        for key in path[:-1]:
            state_dict = state_dict[key]
        del state_dict[path[-1]]

    return apply


MISFITS = {
    "key-missing": (drop("steps"), ["keys: missing ['steps'], extra []"]),
    "key-extra": (change("extra", to=1), ["keys: missing [], extra ['extra']"]),
    "version": (change("version", to=2), ["version must be 1, got 2"]),
    "optimizer": (change("optimizer", to="adam"), ["optimizer must be 'adamw', got 'adam'"]),
    "group-count": (drop("groups", 1), ["groups must be a list of 2"]),
    "group-names": (change("groups", 0, "params", to=["b"]), ["groups[0]['params'] must be ['a'], got ['b']"]),
    "group-key": (drop("groups", 1, "eps"), ["groups[1]: missing ['eps'], extra []"]),
    "group-step": (
        change("groups", 0, "step", to=-1),
        ["groups[0]['step'] must be an integer of at least 0 and below 2**53, got -1"],
    ),
    "group-value": (
        change("groups", 1, "betas", to=[0.9, 1.5]),
        ["groups[1]: AdamW: betas[1] must be in [0, 1), got 1.5"],
    ),
    "group-schedule": (change("groups", 0, "lr", to={"schedule": "none", "arguments": {}}), ["groups[0]: ", "'none'"]),
    "group-slots": (change("groups", 0, "amsgrad", to=True), ["groups[0]: hyperparameters must imply the state"]),
    "step-missing": (drop("steps", "b"), ["steps: missing ['b'], extra []"]),
    "step-huge": (
        change("steps", "a", to=10**400),
        ["steps['a'] must be an integer of at least 0 and below 2**53"],
    ),
    "group-step-huge": (
        change("groups", 0, "step", to=2**70),
        ["groups[0]['step'] must be an integer of at least 0 and below 2**53"],
    ),
    "step-kind": (
        change("steps", "a", to=1.5),
        ["steps['a'] must be an integer of at least 0 and below 2**53, got 1.5"],
    ),
    "state-missing": (drop("state", "a"), ["state: missing ['a'], extra []"]),
    "state-extra": (change("state", "c", to={}), ["state: missing [], extra ['c']"]),
    "slot-missing": (drop("state", "a", "v"), ["state['a']: missing ['v'], extra []"]),
    "slot-extra": (change("state", "a", "v_max", to=np.ones(1)), ["state['a']: missing [], extra ['v_max']"]),
    "shape": (
        change("state", "a", "m", to=np.zeros((4, 3), np.float32)),
        ["state['a']['m'] must be float32 of shape (3, 4), got float32 of shape (4, 3)"],
    ),
    "dtype": (
        change("state", "b", "v", to=np.zeros(5, np.float32)),
        ["state['b']['v'] must be float64 of shape (5,), got float32 of shape (5,)"],
    ),
    "bfloat16": (change("state", "a", "m", to=np.zeros((3, 4), ml_dtypes.bfloat16)), ["got bfloat16 of shape (3, 4)"]),
    "broadcastable": (change("state", "a", "m", to=np.zeros(4, np.float32)), ["got float32 of shape (4,)"]),
    "list": (change("state", "a", "m", to=[[0.0] * 4] * 3), ["state['a']['m'] must be a NumPy array, got list"]),
}


def assert_refused(make_bad, messages) -> None:
    optimizer = build()
    state_dict = optimizer.state_dict()
    # Everything else in it differs, so that a load that stops half-way shows.
    for row in state_dict["state"].values():
        for array in row.values():
            array[...] += 7
    state_dict["steps"]["a"] = 9
    state_dict["groups"][0]["weight_decay"] = 0.25
    make_bad(state_dict)
    before = optimizer.state_dict()
    with pytest.raises(ValueError, match=r"^AdamW: state_dict must fit the optimizer: ") as caught:
        optimizer.load_state_dict(state_dict)
    for message in messages:
        assert message in str(caught.value)
    after = optimizer.state_dict()
    assert (before["steps"], before["groups"]) == (after["steps"], after["groups"])
    for name, row in before["state"].items():
        for slot, array in row.items():
            assert_same_bits(after["state"][name][slot], array)


@pytest.mark.parametrize("case", MISFITS)
def test_a_mismatch_is_named_and_changes_nothing(case) -> None:
    assert_refused(*MISFITS[case])


TOGETHER = [
    ("group-names", "group-value"),
    ("group-key", "group-names"),
    ("group-step", "group-value", "step-missing", "shape", "dtype"),
    ("slot-missing", "state-extra", "step-kind", "group-slots"),
]


@pytest.mark.parametrize("cases", TOGETHER, ids="+".join)
def test_all_mismatches_are_listed(cases) -> None:
    def make_bad(state_dict) -> None:
        for case in cases:
            MISFITS[case][0](state_dict)

    assert_refused(make_bad, [message for case in cases for message in MISFITS[case][1]])


@pytest.mark.parametrize(
    "make_bad",
    [
        change("state", "a", to=None),
        change("state", to=None),
        change("steps", to=[1, 1]),
        change("groups", 0, to=None),
        change("groups", 0, "params", to=None),
        change("groups", 0, "lr", to={"schedule": "step", "arguments": None}),
        change("groups", 0, "lr", to={"schedule": "step", "arguments": {"nonsense": 1}}),
        change("groups", 1, "step", to=5),
    ],
    ids=range(8),
)
def test_a_malformed_dictionary_is_refused_too(make_bad) -> None:
    assert_refused(make_bad, [])


def test_what_is_no_mapping_is_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"^AdamW: state_dict must be a mapping, got list$"):
        build().load_state_dict([])


def test_state_views_that_are_read_only_or_swapped_load_right() -> None:
    """Users hold views of the state: what they do to a view, or hand back as one, must not reach the core."""
    params = {"a": np.zeros(3), "b": np.zeros(3)}
    optimizer = ss.optim.SGD(params, momentum=0.5)
    optimizer.step({"a": np.full(3, 1.0), "b": np.full(3, 2.0)})
    state_dict = optimizer.state_dict()
    state_dict["state"] = {"a": dict(optimizer.state["b"]), "b": dict(optimizer.state["a"])}
    optimizer.state["a"]["momentum"].flags.writeable = False
    optimizer.load_state_dict(state_dict)
    assert (optimizer.state["a"]["momentum"] == 2).all()
    assert (optimizer.state["b"]["momentum"] == 1).all()
