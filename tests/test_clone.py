"""Clones of optimizers: same kind, groups and state, arrays of their own."""

import numpy as np
import pytest

import stepsmith as ss
from battery import CONFIGS
from helpers import assert_same_bits, flat_state
from test_state_dict import GRADS, params


def copies(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array.copy(order="K") for name, array in arrays.items()}


@pytest.mark.parametrize("config", CONFIGS)
def test_a_clone_goes_on_alone_to_the_same_bits(config) -> None:
    rule, settings = CONFIGS[config]
    arrays = params()
    first = {"params": {name: arrays[name] for name in list(arrays)[:2]}, "lr": 0.5 * settings["lr"]}
    rest = {"params": {name: arrays[name] for name in list(arrays)[2:]}}
    optimizer = ss.optim.REGISTRY[rule]([first, rest], ema=0.9, max_norm=1.0, shadow="bfloat16", **settings)
    for grads in GRADS[:3]:
        optimizer.step(grads)
    kept, state = copies(arrays), optimizer.state_dict()
    own = copies(arrays)
    twin = optimizer.clone(own)
    for grads in GRADS[3:]:
        twin.step(grads)
    for name, array in arrays.items():
        assert_same_bits(array, kept[name], name)
        for slot, x in flat_state(optimizer.state_dict()["state"][name]).items():
            assert_same_bits(x, flat_state(state["state"][name])[slot], f"{name} {slot}")
    for grads in GRADS[3:]:
        optimizer.step(grads)
    for name, array in arrays.items():
        assert_same_bits(array, own[name], name)
        assert (array != kept[name]).any()


def test_options_come_along_and_what_belongs_to_the_arrays_does_not(tmp_path) -> None:
    w, shadow = np.ones((3, 4), np.float32), np.zeros((3, 4), np.float16)
    masks = {"w": np.arange(12).reshape(3, 4) % 3 > 0}
    optimizer = ss.optim.AdamW({"w": w}, shadow={"w": shadow}, masks=masks, state_dir=tmp_path / "s", zero_grads=True)
    optimizer.step({"w": np.ones((3, 4), np.float32)})
    before = shadow.copy()
    twin = optimizer.clone({"w": w.copy()})
    grad = np.ones((3, 4), np.float32)
    twin.step({"w": grad})
    assert not grad.any()
    assert (shadow == before).all()
    assert (twin.masks["w"] == masks["w"]).all()
    assert list((tmp_path / "s").iterdir()) != []
    with pytest.raises(ValueError, match=r"AdamW: clone must be given all of \['w'\], got none for \['w'\]"):
        optimizer.clone({"v": w})
