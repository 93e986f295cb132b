"""Which arrays an optimizer on the device takes, how it moves, and what it saves."""

from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

import stepsmith as ss
from gpu_optim import Pair, drawn, same
from stepsmith.cuda.optim.places import check

RNG = np.random.default_rng(41)
F32 = np.float32


def grads_of(params, dtype=F32):
    return {name: drawn(RNG, param.shape, dtype) for name, param in params.items()}


def params_of():
    return {
        "matrix": drawn(RNG, (64, 80), F32, "F"),
        "half": drawn(RNG, (5000,), ml_dtypes.bfloat16),
        "wide": drawn(RNG, (3, 4, 5), np.float64, "strided"),
        "scalar": drawn(RNG, (), np.float16),
    }


SETTINGS = {
    "adamw": {"amsgrad": True, "ema": 0.9, "master": True},
    "nadam": {"state_dtype": "int8", "momentum_decay": 0.1},
    "adafactor": {"state_dtype": "bfloat16", "shadow": "float16"},
    "lion": {"state_dtype": "float8", "min_8bit_size": 0, "state_rounding": "stochastic"},
    "schedulefree_adamw": {"warmup_steps": 3},
    "muon": {},
}


@pytest.mark.parametrize("rule", SETTINGS)
def test_moves_between_devices_keep_every_bit(gpu, rule):
    """Three steps here, two there, two here again are seven steps here."""
    params = params_of() if rule != "muon" else {"matrix": drawn(RNG, (6, 4), F32)}
    lr = ss.schedules.Exponential(0.01, gamma=0.9) if rule == "nadam" else 0.01
    straight = ss.optim.REGISTRY[rule](
        {name: param.copy("K") for name, param in params.items()}, lr=lr, **SETTINGS[rule]
    )
    moving = ss.optim.REGISTRY[rule](params, lr=lr, **SETTINGS[rule])
    for device, steps in (("cpu", 3), ("cuda", 2), ("cpu", 2)):
        moving = moving.to(device) if device != moving.device else moving
        assert (moving.device == "cpu") == (device == "cpu")
        for _ in range(steps):
            grads = grads_of(params)
            straight.step(grads)
            moving.step(grads if device == "cpu" else {name: gpu.asarray(grad) for name, grad in grads.items()})
    want, got = straight.state_dict(), moving.state_dict()
    assert want["steps"] == got["steps"] == dict.fromkeys(params, 7)
    assert want["groups"] == got["groups"]
    close = (lambda x, y, _: np.testing.assert_allclose(x, y, rtol=1e-4)) if rule == "muon" else same
    for name in params:
        close(moving.params[name], straight.params[name], name)
        for slot, array in want["state"][name].items():
            close(got["state"][name][slot], array, slot)


def test_to_takes_arrays_that_are_there(gpu):
    w = drawn(RNG, (5, 3), F32)
    optimizer = ss.optim.SGD({"w": w}, lr=0.1, momentum=0.9, shadow={"w": np.zeros((5, 3), np.float16)})
    optimizer.step({"w": w.copy()})
    there = gpu.asarray(w)
    moved = optimizer.to("cuda:0", {"w": there})
    assert moved.params["w"] is there
    same(moved.state["w"]["momentum"].get(), optimizer.state["w"]["momentum"], "momentum")
    same(moved._arrays.shadow("w").get(), optimizer._arrays.shadow("w"), "shadow")
    copied = moved.to("cuda")
    assert copied.params["w"] is not there
    same(copied.params["w"].get(), w, "w")
    with pytest.raises(ValueError, match=r"^SGD: params\['w'\] must be on cpu, got an array on cuda:0$"):
        optimizer.to("cpu", {"w": there})
    with pytest.raises(ValueError, match=r"^SGD: device must be 'cpu', 'cuda' or 'cuda:N', got 'gpu'$"):
        optimizer.to("gpu")


@pytest.mark.parametrize("rule", ["adamw", "lion"])
def test_a_state_dictionary_is_of_the_host_and_loads_on_either_device(gpu, rule):
    params = params_of()
    masks = {"matrix": RNG.random((64, 80)) < 0.5}
    pair = Pair(gpu, rule, params, lr=0.01, masks=masks, **SETTINGS[rule])
    pair.step(grads_of(params))
    saved = pair.device.state_dict()
    arrays = [array for row in saved["state"].values() for array in row.values()]
    assert all(type(array) is np.ndarray for array in [*arrays, *saved["masks"].values()])
    for _ in range(2):
        pair.step(grads_of(params))
    for optimizer, own in ((pair.host, params), (pair.device, pair.there)):
        optimizer.load_state_dict(saved)
        for param in own.values():
            param[...] = 0
    pair.compare()
    assert pair.host.state_dict()["steps"]["half"] == 1
    pair.step(grads_of(params))
    pair.compare()
    with pytest.raises(ValueError, match=r"state\['half'\]\['m'\] must be a NumPy array"):
        pair.device.load_state_dict({**saved, "state": {**saved["state"], "half": {"m": pair.there["half"]}}})


def test_the_average_of_a_schedule_free_optimizer(gpu):
    params = {"w": drawn(RNG, (300,), F32)}
    pair = Pair(gpu, "schedulefree_adamw", params, lr=0.01)
    for _ in range(3):
        pair.step(grads_of(params))
    same(pair.device.averaged()["w"].get(), pair.host.averaged()["w"], "average")
    for optimizer in (pair.host, pair.device):
        optimizer.eval()
        assert not optimizer.training
        with pytest.raises(RuntimeError, match=r"step\(\) needs the parameters of training, call train\(\) first"):
            optimizer.step({"w": optimizer.params["w"]})
    pair.compare()
    assert not pair.device.to("cpu").training
    for optimizer in (pair.host, pair.device):
        optimizer.train()
    pair.step(grads_of(params))
    pair.compare()


@pytest.mark.parametrize("on_device", [True, False])
def test_masks_hold_from_the_next_step_or_at_once(gpu, on_device):
    params = {"w": drawn(RNG, (33, 3), F32), "v": drawn(RNG, (9,), ml_dtypes.bfloat16)}
    pair = Pair(gpu, "adam", params, lr=0.1, ema=0.5, shadow="bfloat16", state_dtype="int8", min_8bit_size=0)
    pair.step(grads_of(params))
    masks = {"w": RNG.random((33, 3)) < 0.4}
    there = {name: gpu.asarray(mask) for name, mask in masks.items()} if on_device else masks
    pair.host.set_masks(masks)
    pair.device.set_masks(there)
    pair.step(grads_of(params))
    pair.compare()
    for optimizer, own in ((pair.host, masks), (pair.device, there)):
        optimizer.set_masks({"w": ~own["w"]}, at_once=True)
    pair.compare()
    assert not params["w"].any()


# What is refused.


def build(gpu, **settings):
    there = {"a": gpu.zeros((4, 6), F32), "b": gpu.zeros(5, np.float64)}
    return there, ss.optim.AdamW(there, lr=0.1, **settings)


def test_arrays_of_two_kinds_are_a_type_error(gpu):
    rule = r"^SGD: arrays must be all NumPy's or all CuPy's, got params\['b'\] of CuPy and params\['a'\] of NumPy$"
    with pytest.raises(TypeError, match=rule):
        ss.optim.SGD({"a": np.zeros(3), "b": gpu.zeros(3)})
    there, optimizer = build(gpu)
    rule = r"^AdamW: grads\['a'\] must be an array of CuPy as the parameters are, got one of NumPy$"
    with pytest.raises(TypeError, match=rule):
        optimizer.step({"a": np.zeros((4, 6)), "b": there["b"]})
    with pytest.raises(TypeError, match=r"^SGD: grads\['0'\] must be a NumPy array .*, got cupy\.ndarray|ndarray$"):
        ss.optim.SGD([np.zeros(3)]).step([gpu.zeros(3)])
    with pytest.raises(TypeError, match=r"shadow\['a'\] must be a bfloat16 or float16 CuPy array, got float16$"):
        build(gpu, shadow={"a": np.zeros((4, 6), np.float16)})


BAD_GRADS = {
    "kind": (lambda x: {"a": [1.0], "b": x.b}, TypeError, r"grads\['a'\] must be a NumPy array or one of CuPy"),
    "dtype": (
        lambda x: {"a": x.a, "b": x.gpu.zeros(5, np.int64)},
        TypeError,
        r"grads\['b'\] must be float32, float64, bfloat16 or float16 in native byte order, got dtype\('int64'\)",
    ),
    "shape": (
        lambda x: {"a": x.a[:3], "b": x.b[:4]},
        ValueError,
        r"grads\['a'\] must have shape \(4, 6\), got \(3, 6\); grads\['b'\] must have shape \(5,\), got \(4,\)$",
    ),
    "names": (lambda x: {"a": x.a}, ValueError, r"grads must have the names of params, missing \['b'\]"),
    "misaligned": (
        lambda x: {"a": x.a, "b": x.gpu.zeros(41, np.uint8)[1:].view(np.float64)},
        ValueError,
        r"grads\['b'\] must be aligned to its elements, got an array that begins or goes on inside an element$",
    ),
    "overlap": (
        lambda x: {"a": x.a, "b": "param"},
        ValueError,
        r"grads\['b'\] and params\['b'\] must not share elements",
    ),
    "state": (
        lambda x: {"a": "state", "b": x.b},
        ValueError,
        r"grads\['a'\] and state\['a'\]\['m'\] must not share",
    ),
}


@pytest.mark.parametrize("case", BAD_GRADS)
def test_gradients_that_do_not_fit_are_refused_before_anything_is_written(gpu, case):
    make, error, message = BAD_GRADS[case]
    there, optimizer = build(gpu)
    grads = make(SimpleNamespace(gpu=gpu, a=gpu.ones((4, 6), F32), b=gpu.ones(5)))
    own = {"param": there["b"], "state": optimizer.state["a"]["m"]}
    grads = {name: own[grad] if isinstance(grad, str) else grad for name, grad in grads.items()}
    with pytest.raises(error, match=rf"^AdamW: {message}"):
        optimizer.step(grads)
    assert not any(param.get().any() for param in there.values())
    assert optimizer.state_dict()["steps"] == {"a": 0, "b": 0}
    assert optimizer.step({"a": gpu.ones((4, 6), F32), "b": gpu.ones(5)}).step == 1


def test_gradients_that_become_zero_must_have_elements_of_their_own(gpu):
    there, optimizer = build(gpu, zero_grads=True)
    with pytest.raises(ValueError, match=r"^AdamW: grads\['b'\] must not repeat elements"):
        optimizer.step({"a": gpu.ones((4, 6), F32), "b": gpu.broadcast_to(gpu.ones(1), (5,))})
    buffer = gpu.ones(29)
    with pytest.raises(ValueError, match=r"^AdamW: grads\['a'\] and grads\['b'\] must not share elements"):
        optimizer.step({"a": buffer[:24].reshape(4, 6), "b": buffer[20:25]})
    assert not there["b"].get().any()


BAD_PARAMS = {
    "repeats": (lambda gpu: {"w": gpu.broadcast_to(gpu.ones(1), (5,))}, r"params\['w'\] must not repeat elements"),
    "overlaps": (
        lambda gpu: [(w := gpu.ones(9))[:5], w[4:]],
        r"params\['0'\] and params\['1'\] must not share elements",
    ),
    "misaligned": (
        lambda gpu: [gpu.zeros(41, np.uint8)[1:].view(np.float64)],
        r"params\['0'\] must be aligned to its elements",
    ),
}


@pytest.mark.parametrize("case", BAD_PARAMS)
def test_parameters_that_cannot_be_written_in_place_are_refused(gpu, case):
    make, message = BAD_PARAMS[case]
    with pytest.raises(ValueError, match=rf"^SGD: {message}"):
        ss.optim.SGD(make(gpu))


def test_what_makes_no_sense_on_a_gpu_is_refused(gpu, tmp_path):
    with pytest.raises(ValueError, match=r"^SGD: state_dir must be None for parameters on a GPU, got '.*'$"):
        ss.optim.SGD([gpu.zeros(3)], momentum=0.9, state_dir=tmp_path)
    there, optimizer = build(gpu)
    for scale in (0.0, np.nan):
        with pytest.raises(ValueError, match=r"^AdamW: grad_scale must"):
            optimizer.step({"a": there["a"], "b": there["b"]}, grad_scale=scale)
    with pytest.raises(RuntimeError, match=r"^AdamW: step\(\) needs gradients"):
        optimizer.step()


def test_a_bound_gradient_that_changed_is_refused_by_name(gpu):
    _, optimizer = build(gpu)
    grads = {"a": gpu.ones((4, 6), F32), "b": gpu.ones(5)}
    optimizer.bind(grads)
    assert optimizer.step().step == 1
    grads["a"].shape = (6, 4)
    with pytest.raises(ValueError, match=r"^AdamW: grads\['a'\] must stay as it was bound, got another shape$"):
        optimizer.step()
    grads["a"].shape = (4, 6)
    assert optimizer.step().step == 2
    optimizer.bind(None)
    with pytest.raises(RuntimeError, match=r"needs gradients"):
        optimizer.step()


def test_parameters_on_several_devices_are_refused(gpu, monkeypatch):
    params = {"a": gpu.zeros(3), "b": gpu.zeros(4)}
    monkeypatch.setattr("stepsmith._backend.device_of", lambda array: f"cuda:{array.size - 3}")
    rule = r"^SGD: arrays must be on one device, got params\['a'\] on cuda:0 and params\['b'\] on cuda:1$"
    with pytest.raises(ValueError, match=rule):
        ss.optim.SGD(params)


@pytest.mark.usefixtures("gpu")
def test_an_array_of_another_device_is_refused():
    here, there = (
        SimpleNamespace(dtype=np.dtype(F32), device=SimpleNamespace(id=k), data=SimpleNamespace(ptr=0), strides=(4,))
        for k in range(2)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stepsmith.cuda.optim.places.require_same_kind", lambda *_: None)
        with pytest.raises(
            ValueError, match=r"^SGD: w must be on cuda:0 as the parameters are, got an array on cuda:1$"
        ):
            check("SGD", "w", there, here)
