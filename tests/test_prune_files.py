"""Files without zeros: there and back bit by bit, smaller, and checked."""

import json
import math
import re
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

import stepsmith as ss
from helpers import LAYOUTS, laid_out
from stepsmith import prune

NAMES = ("bfloat16", "float8_e4m3fn", "float8_e5m2", "int4")
DTYPES = [np.dtype(code) for code in "?bBhHiIlLefdF"] + [np.dtype(getattr(ml_dtypes, name)) for name in NAMES]


def pruned(shape: tuple[int, ...], share: float, dtype: object = np.float32) -> np.ndarray:
    rng = np.random.default_rng(5)
    return np.where(rng.random(shape) < share, 0.0, rng.standard_normal(shape) * 9).astype(np.float32).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_and_layout_comes_back(dtype: np.dtype, tmp_path: Path) -> None:
    x = pruned((67, 61), 0.95, dtype)
    params = {layout: laid_out(x, layout) for layout in LAYOUTS if layout != "misaligned" or x.itemsize > 1}
    params |= {"0-d": x[1:2, 1].reshape(()), "empty": x[:0], "broadcast": np.broadcast_to(x[0], (40, 61))}
    prune.save_sparse(tmp_path / "x", params)
    back = prune.load_sparse(tmp_path / "x")
    assert set(back) == set(params)
    for name, array in params.items():
        assert (back[name].dtype, back[name].shape) == (array.dtype, array.shape)
        assert back[name].tobytes() == array.tobytes()
        assert back[name].flags.writeable
    assert {"C.values", "C.mask", "0-d", "empty"} <= set(load_file(tmp_path / "x"))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 3000), st.floats(0, 1), st.integers(0, 2**32))
def test_any_bits_come_back_and_no_file_is_larger(tmp_path_factory, size: int, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    bits = np.where(rng.random(size) < share, 0, rng.integers(0, 2**32, size)).astype(np.uint32)
    bits[rng.random(size) < 0.01] = 0x80000000
    path = tmp_path_factory.mktemp("x") / "x"
    prune.save_sparse(path, {"w": bits.view(np.float32)})
    assert prune.load_sparse(path)["w"].tobytes() == bits.tobytes()
    dense = path.with_name("dense")
    ss.quant.save(dense, {"w": bits.view(np.float32)}, {"stepsmith.sparse": "{}"})
    assert path.stat().st_size <= dense.stat().st_size + 16


def test_negative_zero_and_nan_are_values(tmp_path: Path) -> None:
    w = np.zeros(1000)
    w[[3, 500, 999]] = -0.0, math.nan, math.inf
    prune.save_sparse(tmp_path / "x", {"w": w})
    assert load_file(tmp_path / "x")["w.values"].shape == (3,)
    assert prune.load_sparse(tmp_path / "x")["w"].tobytes() == w.tobytes()


def test_a_pruned_model_takes_a_third_at_most(tmp_path: Path) -> None:
    model = ss.nn.Sequential(ss.nn.Linear(64, 128), ss.nn.ReLU(), ss.nn.Linear(128, 10))
    optimizer = ss.optim.SGD(model.parameters(), lr=0.1)
    weights = {name: w for name, w in model.parameters().items() if w.ndim > 1}
    prune.apply(optimizer, prune.global_masks(weights, 0.9))
    for bias in ("0.bias", "2.bias"):
        model.parameters()[bias][...] = 0.1
    ss.quant.save(tmp_path / "dense", model.parameters())
    prune.save_sparse(tmp_path / "sparse", model.parameters())
    assert (tmp_path / "sparse").stat().st_size * 3 < (tmp_path / "dense").stat().st_size
    assert set(load_file(tmp_path / "sparse")) == {
        *(f"{name}.{part}" for name in weights for part in ("values", "mask")),
        "0.bias",
        "2.bias",
    }


def test_metadata_order_and_quantized_arrays_are_kept(tmp_path: Path) -> None:
    q = ss.quant.quantize(pruned((8, 64), 0.5), ss.quant.NF4())
    params = {"z": pruned((900,), 0.9), "q": q, "a": np.arange(3)}
    prune.save_sparse(tmp_path / "x", params, {"made by": "hand"})
    back = prune.load_sparse(tmp_path / "x")
    assert (list(back), back.metadata) == (["z", "q", "a"], {"made by": "hand"})
    assert back["q"].codes.tobytes() == q.codes.tobytes()
    ss.quant.save(tmp_path / "dense", params, {"format": "pt"})
    plain = prune.load_sparse(tmp_path / "dense")
    assert (list(plain), plain.metadata) == (["z", "q", "a"], {"format": "pt"})


def test_damage_is_found(tmp_path: Path) -> None:
    path = tmp_path / "x"
    prune.save_sparse(path, {"w": pruned((30, 40), 0.9), "b": np.arange(5.0)})
    good = path.read_bytes()
    for i in range(len(good) - 1, 0, -7):
        path.write_bytes(good[:i] + bytes([good[i] ^ (1 << i % 8)]) + good[i + 1 :])
        with pytest.raises(ValueError, match=rf"^load: {re.escape(str(path))} "):
            prune.load_sparse(path)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            {"w.values": np.ones(3), "w.mask": np.zeros(1, np.uint8)},
            "must have 0 values for 'w' as its mask says, got 3",
        ),
        (
            {"w.values": np.ones(3), "w.mask": np.zeros(2, np.uint8)},
            "must have a mask of 8 elements for 'w', got another",
        ),
        ({"w.values": np.ones(3)}, "must have a mask of 8 elements for 'w', got another"),
    ],
)
def test_masks_that_do_not_fit_are_refused(parts, message, tmp_path: Path) -> None:
    ss.quant.save(tmp_path / "x", parts, {"stepsmith.sparse": json.dumps({"w": [2, 4]})})
    with pytest.raises(ValueError, match=f"load_sparse: .* {message}"):
        prune.load_sparse(tmp_path / "x")


def test_names_that_collide_are_refused(tmp_path: Path) -> None:
    w = pruned((900,), 0.9)
    for params in ({"w": w, "w.mask": np.arange(3)}, {"w.values": np.arange(3), "w": w}):
        with pytest.raises(
            ValueError, match=r"save_sparse: names of tensors and parts must differ, got 'w\.\w+' twice"
        ):
            prune.save_sparse(tmp_path / "x", params)
    with pytest.raises(ValueError, match=r"save_sparse: metadata must not have the key 'stepsmith\.sparse'"):
        prune.save_sparse(tmp_path / "x", {"w": w}, {"stepsmith.sparse": ""})
    with pytest.raises(TypeError, match="save_sparse: params must have strings as names, got 3"):
        prune.save_sparse(tmp_path / "x", {3: w})
    with pytest.raises(TypeError, match=r"save: tensors\['w'\] must be a NumPy array"):
        prune.save_sparse(tmp_path / "x", {"w": [1.0]})
    assert not (tmp_path / "x").exists()


def test_a_model_itself_is_no_mapping(tmp_path) -> None:
    with pytest.raises(TypeError, match="save_sparse: params must be arrays by name, got Sequential"):
        prune.save_sparse(tmp_path / "m.safetensors", ss.nn.Sequential(ss.nn.Linear(2, 2)))
