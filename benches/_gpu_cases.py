"""The cases of the GPU bench: each makes its arrays, compares our result with the peers', and gives what is timed."""

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

import _gpu
import stepsmith as ss
from _gpu import Case, Step
from _harness import find

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def cases(quick: bool) -> list[Case]:
    """All lines; small ones for a test of the bench itself."""
    huge, tensors, rows, columns = (70_001, 20, 64, 256) if quick else (1 << 30, 1000, 16384, 4096)
    many, label = (1 << 16, "64Ki") if quick else (256 << 20, "256Mi")
    return [
        Case(f"adamw/float32/{huge}", 28 * huge, lambda: adamw([huge]), (("copy", 0.90), ("torch fused", 1.0))),
        Case(f"adamw/{tensors}x1024", 28 * 1024 * tensors, lambda: adamw([1024] * tensors), (("torch fused", 2.0),)),
        Case(
            f"adamw/int8 state/{huge}",
            16 * huge,
            lambda: low_bit(huge),
            (("float32 state", 1.0), ("bitsandbytes", 1.0)),
        ),
        *(
            Case(f"{name}/{way}", traffic * 2 * rows * columns, _of(norm, name, way, rows, columns), target)
            for name in ("layer_norm", "rms_norm")
            for way, traffic in (("forward", 2), ("backward", 3))
            for target in [(("copy", 0.85), ("torch", 1.0))]
        ),
        Case(
            f"nf4/dequantize/{label}",
            many // 2 + many // 64 * 4 + 4 * many,
            lambda: nf4(many),
            (("bitsandbytes", 1.0),),
        ),
        Case(
            f"softmax cross entropy/{rows}",
            2 * 4 * rows * columns,
            lambda: cross_entropy(rows, columns),
            (("torch", 1.0),),
        ),
    ]


def _of(make: Callable[..., dict[str, Step]], *args: Any) -> Callable[[], dict[str, Step]]:
    return lambda: make(*args)


def _torch() -> Any:
    torch = find("torch")
    return torch if torch is not None and torch.cuda.is_available() else None


def _arrays(sizes: list[int], seed: int, scale: float = 1.0) -> dict[str, Any]:
    """Arrays of the device with numbers about 0."""
    import cupy

    made = {}
    for k, size in enumerate(sizes):
        array = cupy.empty(size, np.float32)
        ss.cuda.uniform(array, seed, 0, k, 0)
        array -= np.float32(0.5)
        array *= np.float32(scale)
        made[str(k)] = array
    return made


def adamw(sizes: list[int]) -> dict[str, Step]:
    """Our step beside PyTorch's fused one."""
    params, grads = _arrays(sizes, 1), _arrays(sizes, 2, 1e-2)
    torch, sides = _torch(), {}
    optimizer = ss.optim.AdamW(params, lr=1e-3, on_nonfinite="propagate")
    optimizer.bind(grads)
    if torch is not None:
        theirs = [torch.from_dlpack(param).clone().requires_grad_() for param in params.values()]
        for param, grad in zip(theirs, grads.values()):
            param.grad = torch.from_dlpack(grad)
        fused = torch.optim.AdamW(theirs, lr=1e-3, weight_decay=1e-2, fused=True)
        sides["torch fused"] = fused.step
        optimizer.step()
        fused.step()
        _gpu.close(list(params.values())[:3], [x.detach() for x in theirs[:3]], 1e-5, "AdamW")
    checked = ss.optim.AdamW(_arrays(sizes, 1), lr=1e-3)
    checked.bind(grads)
    return {"stepsmith": optimizer.step, **sides, "stepsmith, checking gradients": checked.step}


def low_bit(size: int) -> dict[str, Step]:
    """8-bit state beside our float32 state and bitsandbytes' 8-bit state."""
    grads = _arrays([size], 2, 1e-2)
    sides: dict[str, Step] = {}
    for name, state in (("stepsmith", "int8"), ("float32 state", "float32")):
        optimizer = ss.optim.AdamW(_arrays([size], 1), lr=1e-3, state_dtype=state, on_nonfinite="propagate")
        optimizer.bind(grads)
        sides[name] = optimizer.step
    torch, bitsandbytes = _torch(), find("bitsandbytes")
    if torch is not None and bitsandbytes is not None:
        theirs = torch.from_dlpack(_arrays([size], 1)["0"]).clone().requires_grad_()
        theirs.grad = torch.from_dlpack(grads["0"])
        sides["bitsandbytes"] = bitsandbytes.optim.AdamW8bit([theirs], lr=1e-3).step
    return sides


def norm(name: str, way: str, rows: int, columns: int) -> dict[str, Step]:
    """A norm of bfloat16 rows, forward or backward."""
    import cupy

    x = cupy.asarray(_arrays([rows * columns], 3, 4.0)["0"].reshape(rows, columns).astype(BFLOAT16))
    dy = cupy.asarray(_arrays([rows * columns], 4)["0"].reshape(rows, columns).astype(BFLOAT16))
    weight, bias = _arrays([columns], 5)["0"], _arrays([columns], 6)["0"]
    forward, backward = getattr(ss.norm, name), getattr(ss.norm, f"{name}_backward")
    given = (weight, bias) if name == "layer_norm" else (weight,)
    out, dx = cupy.empty_like(x), cupy.empty_like(x)
    y, saved = forward(x, *given, eps=1e-5, out=out)
    places = (
        (dx, *(cupy.empty_like(array) for array in given)) if name == "layer_norm" else (dx, cupy.empty_like(weight))
    )
    gradients = backward(dy, saved, out=places)
    ours: Step = (
        (lambda: forward(x, *given, eps=1e-5, out=out)) if way == "forward" else lambda: backward(dy, saved, out=places)
    )
    return {"stepsmith": ours, **_torch_norm(name, way, (x, dy, given), (y, gradients))}


def _torch_norm(name: str, way: str, given: Any, ours: Any) -> dict[str, Step]:
    torch = _torch()
    if torch is None:
        return {}
    (x, dy, weights), (y, gradients) = given, ours
    inputs = torch.from_dlpack(x).clone().requires_grad_()
    parameters = [torch.from_dlpack(array).to(torch.bfloat16).requires_grad_() for array in weights]
    function = getattr(torch.nn.functional, name)
    shape = (x.shape[1],)
    result = function(inputs, shape, *parameters, eps=1e-5)
    upstream = torch.from_dlpack(dy)
    theirs = torch.autograd.grad(result, [inputs, *parameters], upstream, retain_graph=True)
    _gpu.close([y.astype(np.float32), gradients[0].astype(np.float32)], [result.detach(), theirs[0]], 3e-2, name)
    if way == "forward":
        with torch.no_grad():
            return {"torch": lambda: function(inputs.detach(), shape, *(p.detach() for p in parameters), eps=1e-5)}
    return {"torch": lambda: torch.autograd.grad(result, [inputs, *parameters], upstream, retain_graph=True)}


def nf4(size: int) -> dict[str, Step]:
    """NF4 codes to float32."""
    import cupy

    x = _arrays([size], 7)["0"]
    q, out = ss.quant.quantize(x, ss.quant.NF4()), cupy.empty_like(x)
    sides: dict[str, Step] = {"stepsmith": lambda: q.dequantize(out=out)}
    torch, bitsandbytes = _torch(), find("bitsandbytes")
    if torch is not None and bitsandbytes is not None:
        functional = bitsandbytes.functional
        codes, state = functional.quantize_4bit(torch.from_dlpack(x), quant_type="nf4", blocksize=64)
        into = torch.empty(size, device="cuda")
        q.dequantize(out=out)
        functional.dequantize_4bit(codes, state, out=into)
        _gpu.close([out], [into], 1e-5, "NF4")
        sides["bitsandbytes"] = lambda: functional.dequantize_4bit(codes, state, out=into)
    return sides


def cross_entropy(rows: int, columns: int) -> dict[str, Step]:
    """Mean loss of float32 logits and its gradient."""
    import cupy

    logits = _arrays([rows * columns], 8, 8.0)["0"].reshape(rows, columns)
    labels = cupy.arange(rows, dtype=np.int64) % columns
    out = cupy.empty_like(logits)
    _, gradient = ss.nn.cross_entropy(logits, labels, out=out)
    sides: dict[str, Step] = {"stepsmith": lambda: ss.nn.cross_entropy(logits, labels, out=out)}
    torch = _torch()
    if torch is not None:
        theirs, targets = torch.from_dlpack(logits).clone().requires_grad_(), torch.from_dlpack(labels)

        def step() -> Any:
            value = torch.nn.functional.cross_entropy(theirs, targets)
            return torch.autograd.grad(value, theirs)[0]

        _gpu.close([gradient], [step()], 1e-4, "cross entropy")
        sides["torch"] = step
    return sides
