"""Layers and losses: central differences, golden rows, buffers, seeds, the dropout counter, errors."""

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from stepsmith import nn, random

GOLDEN = Path(__file__).parent / "golden"
ARRAYS = np.load(GOLDEN / "layers.npz")
ACTIVATIONS = {"act-relu": nn.ReLU, "act-tanh": nn.Tanh, "act-sigmoid": nn.Sigmoid}
LOSSES = {"loss-cross_entropy": nn.cross_entropy, "loss-mse": nn.mse}
LAYERS = {
    "linear": lambda: nn.Linear(7, 5, rng=1, dtype=np.float64),
    "linear-no-bias": lambda: nn.Linear(7, 5, bias=False, rng=1, dtype=np.float64),
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "dropout": lambda: nn.Dropout(0.3),
    "sequential": lambda: nn.Sequential(
        nn.Linear(7, 11, dtype=np.float64),
        nn.Tanh(),
        nn.Dropout(0.2),
        nn.Sequential(nn.Linear(11, 3, dtype=np.float64), nn.Sigmoid()),
    ),
}


def close(got, want, tolerance: float) -> None:
    scale = max(1e-300, float(np.abs(want).max()))
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * scale)


def numeric(function, x: np.ndarray, h: float = 1e-6) -> np.ndarray:
    """Central differences of a scalar function, one element at a time."""
    grad = np.empty_like(x)
    for index in np.ndindex(x.shape):
        kept = x[index]
        x[index] = kept + h
        above = function()
        x[index] = kept - h
        grad[index] = (above - function()) / (2 * h)
        x[index] = kept
    return grad


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("rows", [1, 3, 17])
def test_gradients_equal_central_differences(name: str, rows: int) -> None:
    rng = np.random.default_rng(rows)
    layer, x = LAYERS[name](), rng.normal(size=(rows, 7))
    dy = rng.normal(size=layer(x, training=True).shape)

    def scalar() -> float:
        return float((layer(x, training=True) * dy).sum())

    scalar()
    dx = layer.backward(dy).copy()
    assert np.abs(dx).max() > 0
    close(dx, numeric(scalar, x), 1e-7)
    grads = {key: grad.copy() for key, grad in layer.gradients().items()}
    for key, param in layer.parameters().items():
        assert np.abs(grads[key]).max() > 0
        close(grads[key], numeric(scalar, param), 1e-7)


@pytest.mark.parametrize("rows", [1, 5, 13])
def test_loss_gradients_equal_central_differences(rows: int) -> None:
    rng = np.random.default_rng(rows)
    z, labels = rng.normal(size=(rows, 7)), rng.integers(0, 7, rows)
    close(nn.cross_entropy(z, labels)[1], numeric(lambda: nn.cross_entropy(z, labels)[0], z), 1e-7)
    target = rng.normal(size=z.shape)
    close(nn.mse(z, target)[1], numeric(lambda: nn.mse(z, target)[0], z), 1e-7)


@pytest.mark.parametrize("case", ACTIVATIONS)
def test_activation_equals_pytorch(case: str) -> None:
    layer = ACTIVATIONS[case]()
    close(layer(ARRAYS[f"{case}/in0"]), ARRAYS[f"{case}/y"], 1e-12)
    close(layer.backward(ARRAYS[f"{case}/dy"]), ARRAYS[f"{case}/d0"], 1e-12)


def test_linear_equals_pytorch() -> None:
    layer = nn.Linear(7, 3, rng=0, dtype=np.float64)
    layer.weight[...], layer.bias[...] = ARRAYS["linear/in1"], ARRAYS["linear/in2"]
    close(layer(ARRAYS["linear/in0"]), ARRAYS["linear/y"], 1e-12)
    close(layer.backward(ARRAYS["linear/dy"]), ARRAYS["linear/d0"], 1e-12)
    close(layer.gradients()["weight"], ARRAYS["linear/d1"], 1e-12)
    close(layer.gradients()["bias"], ARRAYS["linear/d2"], 1e-12)


@pytest.mark.parametrize("case", LOSSES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 2e-6)])
def test_loss_equals_pytorch(case: str, dtype: type, tolerance: float) -> None:
    target = ARRAYS[f"{case}/target"]
    target = target.astype(dtype) if target.dtype.kind == "f" else target
    loss, grad = LOSSES[case](ARRAYS[f"{case}/in0"].astype(dtype), target)
    assert grad.dtype == dtype
    close(loss, ARRAYS[f"{case}/y"], tolerance)
    close(grad * ARRAYS[f"{case}/dy"], ARRAYS[f"{case}/d0"], tolerance)


def test_golden_names_exist() -> None:
    names = {case["case"] for case in json.loads((GOLDEN / "layers.json").read_text())}
    assert {"linear", *ACTIVATIONS, *LOSSES} <= names


def test_cross_entropy_survives_huge_logits() -> None:
    loss, grad = nn.cross_entropy(np.array([[1e4, -1e4], [-np.inf, 0.0]]), np.array([0, 1]))
    assert loss == 0.0
    assert np.abs(grad).max() < 1e-300
    assert nn.cross_entropy(np.array([[1e4, -1e4]]), np.array([1]))[0] == 2e4


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", ">i4", "int64", "uint64"])
def test_labels_of_any_integer_dtype_agree(dtype: str) -> None:
    z, labels = np.random.default_rng(0).normal(size=(4, 3)), np.array([2, 0, 1, 2])
    want, got = nn.cross_entropy(z, labels), nn.cross_entropy(z, labels.astype(dtype))
    assert want[0] == got[0]
    assert (want[1] == got[1]).all()


def model(seed: int = 0) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(4, 4), nn.ReLU(), nn.Sequential(nn.Linear(4, 4), nn.Tanh()), nn.Linear(4, 4), seed=seed
    )


def test_parameters_have_names_and_gradients_stay() -> None:
    net = model()
    names = ["0.weight", "0.bias", "2.0.weight", "2.0.bias", "3.weight", "3.bias"]
    assert list(net.parameters()) == list(net.gradients()) == names
    fixed = net.gradients()
    for rows in (3, 8, 2):
        batch = np.ones((rows, 4), np.float32), np.zeros(rows, np.int64)
        _, grads = net.loss_and_grads(batch)
        assert all(grads[name] is fixed[name] for name in names)
        assert all(net.parameters()[name].dtype == fixed[name].dtype == np.float32 for name in names)


def test_seed_draws_layers_that_differ_and_models_that_agree() -> None:
    first, second, other = model().parameters(), model().parameters(), model(seed=1).parameters()
    weights = [name for name in first if name.endswith("weight")]
    assert all((first[name] == second[name]).all() and (first[name] != other[name]).any() for name in weights)
    assert len({first[name].tobytes() for name in weights}) == len(weights)
    assert all((first[name] == 0).all() for name in first if name.endswith("bias"))


def test_same_parameters_in_another_process() -> None:
    code = "import stepsmith as ss; print(float(ss.nn.Sequential(ss.nn.Linear(3, 2)).parameters()['0.weight'].sum()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) == float(nn.Sequential(nn.Linear(3, 2)).parameters()["0.weight"].sum())


def test_trained_and_seeded_layers_keep_their_weights() -> None:
    layer = nn.Linear(4, 4, rng=5)
    drawn = layer.weight.copy()
    nn.Sequential(nn.ReLU(), layer, seed=3).parameters()
    assert (layer.weight == drawn).all()
    trained = model()
    trained.parameters()["0.weight"][...] = 7.0
    assert (nn.Sequential(*trained.modules, seed=9).parameters()["0.weight"] == 7.0).all()


def test_dropout_mask_is_the_counter_s() -> None:
    net = nn.Sequential(nn.ReLU(), nn.Dropout(0.4))
    net.parameters()
    net.counter.seed, net.counter.step = 2**63 + 5, 9
    x = np.ones((6, 5), np.float32)
    u = random.uniform((6, 5), seed=2**63 + 5, step=9, stream=1)
    want = np.where(u >= 0.4, np.float32(1 / 0.6), np.float32(0))
    whole = net(x, training=True).copy()
    assert 0 < (whole == 0).sum() < whole.size
    assert (whole == want).all()
    net.counter.sample = 2
    assert (net(x[2:5], training=True) == want[2:5]).all(), "a micro-batch must see its part of the mask"
    net.counter.sample, net.counter.step = 0, 10
    assert (net(x, training=True) != want).any()
    assert net(x) is net.modules[0].forward(x), "the identity outside training"


def test_each_training_pass_has_its_own_mask() -> None:
    net = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 3))
    batch = np.ones((4, 8), np.float32), np.zeros(4, np.int64)
    losses = [net.loss_and_grads(batch)[0] for _ in range(4)]
    assert len(set(losses)) == 4
    net.counter.step = 1
    assert net.loss_and_grads(batch)[0] == losses[0]


def test_input_gradient_is_computed_only_where_wanted() -> None:
    net = nn.Sequential(nn.ReLU(), nn.Linear(3, 2), nn.Tanh())
    y = net(np.ones((4, 3), np.float32))
    dx = net.backward(np.ones_like(y)).copy()
    weight = net.gradients()["1.weight"].copy()
    assert dx.shape == (4, 3)
    asked = []
    backward = net.modules[1].backward
    net.modules[1].backward = lambda dy, input_grad: asked.append(input_grad) or backward(dy, input_grad)
    assert net.backward(np.ones_like(y), input_grad=False) is None
    assert asked == [False], "the first layer with parameters must not compute what nobody reads"
    assert (net.gradients()["1.weight"] == weight).all()


def test_a_step_allocates_nothing_of_the_arrays_size() -> None:
    net = nn.Sequential(nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 64), nn.Sigmoid(), nn.Linear(64, 10))
    batch = np.ones((512, 512), np.float32), np.zeros(512, np.int64)
    net.loss_and_grads(batch)
    tracemalloc.start()
    net.loss_and_grads(batch)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 1024, peak


FLOAT = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: nn.Linear(0, 3), ValueError, r"Linear: in_features must be at least 1, got 0"),
        (lambda: nn.Linear(3, 2.5), TypeError, r"Linear: out_features must be an integer, got 2.5"),
        (lambda: nn.Linear(3, 2, dtype=np.int32), TypeError, r"Linear: dtype must be float32 or float64, got int32"),
        (lambda: nn.Linear(3, 2)(FLOAT.tolist()), TypeError, r"Linear: input must be a NumPy array"),
        (lambda: nn.Linear(3, 2)(FLOAT.astype(np.float64)), TypeError, r"Linear: input must be float32.*got float64"),
        (
            lambda: nn.Linear(4, 2)(FLOAT),
            ValueError,
            r"Linear: input must have shape \(samples, ..., 4\), got \(2, 3\)",
        ),
        (
            lambda: nn.Linear(3, 2)(FLOAT[0]),
            ValueError,
            r"input must have shape \(samples, ..., 3\), got \(3,\)",
        ),
        (lambda: nn.Dropout(1.0), ValueError, r"Dropout: p must be in \[0, 1\), got 1.0"),
        (lambda: nn.Dropout("0.5"), TypeError, r"Dropout: p must be a number, got '0.5'"),
        (lambda: nn.Sequential(nn.ReLU), TypeError, r"Sequential: layer 0 must be a Module"),
        (lambda: nn.Sequential(*[nn.ReLU()] * 2), ValueError, r"each layer must appear once"),
        (lambda: nn.Sequential(seed=-1), ValueError, r"Sequential: seed must be at least 0, got -1"),
        (lambda: nn.cross_entropy(FLOAT, np.array([0, 3])), ValueError, r"labels must be in \[0, 3\), got 3"),
        (lambda: nn.cross_entropy(FLOAT, np.array([-1, 0])), ValueError, r"labels must be in \[0, 3\), got -1"),
        (lambda: nn.cross_entropy(FLOAT, np.array([0.0, 1.0])), TypeError, r"labels must be integers, got float64"),
        (lambda: nn.cross_entropy(FLOAT, np.array([0])), ValueError, r"as many samples"),
        (lambda: nn.cross_entropy(FLOAT, np.zeros((2, 1), int)), ValueError, r"labels must have shape \(samples,\)"),
        (lambda: nn.cross_entropy(FLOAT[:0], np.zeros(0, int)), ValueError, r"batch must not be empty"),
        (lambda: nn.mse(FLOAT, FLOAT.astype(np.float64)), TypeError, r"mse: target must be float32"),
        (lambda: nn.mse(FLOAT, FLOAT[:, :2]), ValueError, r"mse: target must have shape \(samples, 3\), got \(2, 2\)"),
        (lambda: nn.mse(FLOAT, FLOAT[:1]), ValueError, r"as many samples"),
        (
            lambda: nn.Linear(3, 2).loss_and_grads((FLOAT,)),
            ValueError,
            r"batch must be \(inputs, targets\) or .* 1 arr",
        ),
    ],
)
def test_bad_arguments_are_named(build, error, message) -> None:
    with pytest.raises(error, match=message):
        build()
