"""Every kernel once, at small odd sizes: what compute-sanitizer watches. Fails if a kernel of the project did not run.

``compute-sanitizer --tool memcheck python tests/gpu_kernels.py``; a test runs the same on the stand-in for CuPy.
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np

import stepsmith as ss
from quant_cases import CASES

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = (np.dtype(np.float32), np.dtype(np.float64), BFLOAT16)


def numbers(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Any:
    """Random numbers on the device."""
    import cupy

    x = np.random.default_rng([seed, *shape]).standard_normal(shape)
    return cupy.asarray(x.astype(np.float32).astype(dtype))


def steps() -> None:
    """Every rule in both compute types, plain and with all that can be folded into a step."""
    for name, rule in ss.optim.REGISTRY.items():
        if name == "lbfgs":
            continue
        for dtype in (np.float32, np.float64):
            params = {"a": numbers(33, 41, dtype=dtype), "b": numbers(65, 70, dtype=dtype, seed=1)}
            grads = {key: numbers(*param.shape, dtype=dtype, seed=2) for key, param in params.items()}
            rule(params, lr=1e-3, on_nonfinite="propagate").step(grads)
            rule(params, lr=1e-3, max_norm=1.0).step(grads)
            rule(params, lr=1e-3).sweeper(grads)()
    params = {"a": numbers(33, 141, dtype=BFLOAT16)}
    masks = {"a": np.random.default_rng(3).random((33, 141)) < 0.5}
    folded: dict[str, Any] = {"masks": masks, "ema": 0.9, "clip_value": 0.5, "agc": 0.1, "zero_grads": True}
    for low in ({"rounding": "stochastic", "state_rounding": "stochastic"}, {"master": True}):
        optimizer = ss.optim.AdamW(params, state_dtype="int8", min_8bit_size=0, max_norm=1.0, **folded, **low)
        optimizer.step({"a": numbers(33, 141, dtype=BFLOAT16, seed=4)})
    for norm_type in (1.0, np.inf):
        ss.clip_grad_norm([numbers(5000), numbers(129, dtype=np.float64)], 1.0, norm_type)
    ss.clip_grad_value([numbers(5000), numbers(129, dtype=np.float64)], 0.5)


def full_batch() -> None:
    """What L-BFGS and averages do with lists of arrays."""
    for dtype in (np.float32, np.float64):
        params = {"w": numbers(4099, dtype=dtype)}
        ss.optim.LBFGS(params).step(partial(_bowl, params))
        averaged = ss.optim.ScheduleFreeAdamW(params, lr=1e-3)
        averaged.step({"w": numbers(4099, dtype=dtype, seed=1)})
        averaged.averaged()
        averaged.eval()


def _bowl(params: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    return 0.5 * float((params["w"] ** 2).sum()), {"w": params["w"].copy()}


def norms() -> None:
    """Rows short and long, channels, groups; forward and backward."""
    for dtype in FLOATS:
        wide = np.float64 if dtype == np.float64 else np.float32
        for columns in (37, 64, 1500, 9001):
            x, dy = numbers(5, columns, dtype=dtype), numbers(5, columns, dtype=dtype, seed=1)
            w, b = _pair(columns, wide)
            for name, given in (("layer_norm", (w, b)), ("rms_norm", (w,))):
                saved = getattr(ss.norm, name)(x, *given)[1]
                getattr(ss.norm, f"{name}_backward")(dy, saved)
        x, dy, (w, b) = numbers(3, 6, 7, 5, dtype=dtype), numbers(3, 6, 7, 5, dtype=dtype, seed=1), _pair(6, wide)
        ss.norm.batch_norm_backward(dy, ss.norm.batch_norm(x, w, b)[1])
        samples = numbers(70, 6, dtype=dtype)
        ss.norm.batch_norm_backward(samples.copy(), ss.norm.batch_norm(samples, w, b)[1])
        ss.norm.group_norm_backward(dy, ss.norm.group_norm(x, w, b, groups=3)[1])
        v, g = numbers(7, 33, dtype=wide), numbers(7, dtype=wide, seed=1).reshape(7, 1)
        ss.norm.weight_norm_backward(v, ss.norm.weight_norm(v, g)[1])


def _pair(n: int, dtype: Any) -> tuple[Any, Any]:
    return numbers(n, dtype=dtype, seed=5), numbers(n, dtype=dtype, seed=6)


def rows() -> None:
    """Softmax, cross entropy, activations, random numbers."""
    import cupy

    functional = ss.nn.functional
    for dtype in FLOATS:
        wide = np.float64 if dtype == np.float64 else np.float32
        for columns in (10, 64, 3001, 4100, 9004):
            x, dy = numbers(9, columns, dtype=dtype), numbers(9, columns, dtype=dtype, seed=1)
            for name in ("softmax", "log_softmax"):
                saved = getattr(functional, name)(x)[1]
                getattr(functional, f"{name}_backward")(dy, saved)
            labels, weight = cupy.asarray(np.arange(9) % columns), cupy.ones(columns, wide)
            ss.nn.cross_entropy(x, labels, weight, label_smoothing=0.1)
            ss.nn.cross_entropy(x, functional.softmax(dy)[0].astype(wide))
        for kind in ss._core.ACTIVATIONS:
            for shape in ((7, 65), (2, 7, 5000), (3, 7, 40_000)):
                x, dy = numbers(*shape, dtype=dtype), numbers(*shape, dtype=dtype, seed=1)
                saved = functional.activate(x, kind, numbers(7, dtype=wide), axis=-2)[1]
                functional.activate_backward(dy, saved)
    out = cupy.empty(77, np.float32)
    ss.random.uniform(77, seed=1, step=2, stream=3, out=out)


def quantization() -> None:
    """Every scheme there and back, products, casts, fake quantization."""
    for case in CASES:
        for shape in case.shapes[-3:-1]:
            for dtype in (np.float32, np.float64):
                q = ss.quant.quantize(numbers(*shape, dtype=dtype), case.scheme)
                q.dequantize()
    import cupy

    for scheme in (ss.quant.NF4(), ss.quant.Affine(axis=0), ss.quant.Affine(bits=4, group_size=32)):
        q = ss.quant.quantize(numbers(9, 96), scheme)
        for batch in (1, 3):
            q.matmul(numbers(batch, 96))
    q = ss.quant.quantize(numbers(9, 96), ss.quant.Affine(axis=0))
    q.matmul(numbers(3, 96), activations="int8")
    for dtype in (np.float32, np.float64):
        x = numbers(2, 7, 5000, dtype=dtype)
        for scale, axis in ((0.1, None), (cupy.asarray(np.full(7, 0.1)), 1)):
            saved = ss.quant.fake_quantize(x, scale, axis=axis)[1]
            ss.quant.fake_quantize_backward(x.copy(), saved)
    ss.cast(numbers(3, 77), "float8_e4m3fn")


def layers() -> None:
    """Convolutions, pools, embeddings."""
    import cupy

    for dtype in (np.float32, np.float64):
        x = numbers(2, 3, 9, 8, dtype=dtype)
        for layer in (ss.nn.Conv2d(3, 4, 3, padding=1, dtype=dtype), ss.nn.MaxPool2d(2), ss.nn.AvgPool2d(3, padding=1)):
            y = layer.to("cuda")(x, True)
            layer.backward(y.copy())
        table = ss.nn.Embedding(11, 5, dtype=dtype).to("cuda")
        y = table(cupy.asarray(np.arange(12).reshape(3, 4) % 11), True)
        table.backward(y.copy(), False)


PARTS: tuple[Callable[[], None], ...] = (steps, full_batch, norms, rows, quantization, layers)


def kernels() -> set[str]:
    """Every program's kernels; one of a file that several programs have counts once."""
    from stepsmith.cuda import _nvrtc
    from stepsmith.cuda._source import programs, source

    found = set()
    for program in programs():
        ptx = _nvrtc.compiler().compile(f"{program}.cu", source(program), "compute_75").ptx
        found |= set(re.findall(r"\.entry (\w+)", ptx))
    return found


def main() -> None:
    """Runs all parts."""
    from stepsmith.cuda import _module

    for part in PARTS:
        part()
    missing = kernels() - {name for _, _, name in _module._kernels}
    if missing:
        raise SystemExit(f"kernels that did not run: {sorted(missing)}")


if __name__ == "__main__":
    main()
