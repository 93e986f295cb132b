"""A trainer on a device: data from anywhere, evaluation, checkpoints, averages; against the same run on the CPU."""

import threading
from typing import Any

import numpy as np
import pytest

import gpu_shim
import stepsmith as ss
from gpu_shim import standin
from helpers import assert_same_bits
from stepsmith import nn
from stepsmith._backend import is_on_gpu, moved, namespace
from stepsmith.train import FunctionModel, Trainer, loader
from stepsmith.train.callbacks import Callback
from stepsmith.train.class_weight import class_weights
from stepsmith.train.sources import open_source

Array = Any
RNG = np.random.default_rng(0)
X = RNG.normal(size=(70, 6)).astype(np.float32)
T = (X[:, :2] * X[:, 2:4]).astype(np.float32)
Y = (X[:, 0] + X[:, 1] ** 2 > 0.7).astype(np.int64)
FIT = {"epochs": 3, "batch_size": 16, "progress": False}


class Plain:
    """An optimizer of somebody else: p -= lr·g."""

    def __init__(self, params: dict[str, Array], lr: float = 0.1) -> None:
        self.params, self.lr = params, lr

    def step(self, grads: dict[str, Array]) -> None:
        for name, param in self.params.items():
            param[...] = param - self.lr * grads[name]

    def to(self, _device: str, params: dict[str, Array]) -> "Plain":
        return Plain(params, self.lr)

    def state_dict(self) -> dict[str, Any]:
        return {"lr": self.lr}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.lr = state["lr"]


def square(output: Array, target: Array) -> tuple[float, Array]:
    d = output - target
    return float((d * d).mean()), d * (2 / d.size)


def network(seed: int = 0) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Dropout(0.2), nn.Linear(16, 2), seed=seed)


def plain(device: str = "cpu", **settings: Any) -> Trainer:
    model = network().to(device)
    return Trainer(model, settings.pop("loss", square), optimizer=Plain(model.parameters()), **settings)


def on(device: str, *arrays: Array) -> tuple[Array, ...]:
    return tuple(moved(array, device) for array in arrays)


def assert_same_runs(got: Trainer, want: Trainer, tolerance: float = 1e-5) -> None:
    for name, param in want.model.parameters().items():
        np.testing.assert_allclose(moved(got.model.parameters()[name], "cpu"), param, rtol=0, atol=tolerance)
    assert got.history.columns == want.history.columns
    for own, theirs in zip(got.history.rows, want.history.rows, strict=True):
        assert own == pytest.approx(theirs, rel=1e-4)


class Numbered:
    """A data set with items."""

    def __init__(self, *arrays: Array) -> None:
        self.arrays = arrays

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, row: int) -> tuple[Array, ...]:
        return tuple(array[row] for array in self.arrays)


def batches(*arrays: Array) -> list[tuple[Array, ...]]:
    return [tuple(array[start : start + 16] for array in arrays) for start in range(0, 70, 16)]


KINDS = {
    "arrays": lambda *arrays: arrays,
    "list": lambda *arrays: list(arrays),
    "items": Numbered,
    "batches": lambda *arrays: iter(batches(*arrays) * 3),
}


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("where", ["cpu", "cuda"])
@pytest.mark.parametrize("kind", KINDS)
def test_data_come_from_anywhere(kind: str, where: str) -> None:
    settings = {"steps_per_epoch": 5} if kind == "batches" else {}
    want, got = plain(), plain("cuda")
    want.fit(KINDS[kind](X, T), **FIT, **settings)
    got.fit(KINDS[kind](*on(where, X, T)), **FIT, **settings)
    assert got.model.device == "cuda:0"
    assert_same_runs(got, want)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("where", ["cpu", "cuda"])
@pytest.mark.parametrize(
    "settings",
    [
        {"accumulate": 3},
        {"prefetch": 2},
        {"shuffle": False, "drop_last": True},
        {"validation": 0.3},
        {
            "augment": lambda batch, rng: [
                batch[0] * namespace(batch[0]).asarray(rng.normal(size=6), np.float32),
                batch[1],
            ]
        },
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_fits_are_the_same_however_they_are_cut(settings: dict[str, Any], where: str) -> None:
    want, got = plain(), plain("cuda")
    want.fit((X, T), **FIT, **settings)
    got.fit(on(where, X, T), **FIT, **settings)
    assert_same_runs(got, want)


@pytest.mark.usefixtures("gpu")
def test_batches_are_brought_on_the_thread_that_uses_them(monkeypatch: pytest.MonkeyPatch) -> None:
    threads, brought = set(), loader.brought

    def noted(array: Array, device: str) -> Array:
        threads.add(threading.current_thread().name)
        return brought(array, device)

    monkeypatch.setattr(loader, "brought", noted)
    plain("cuda").fit((X, T), **FIT, prefetch=2)
    assert threads == {"MainThread"}


def test_batches_are_made_ahead_on_the_stream_of_the_fit(gpu: Any) -> None:
    seen = set()

    class Watched(Numbered):
        def __getitem__(self, row: int) -> tuple[Array, ...]:
            seen.add((threading.current_thread().name, gpu.cuda.get_current_stream().ptr))
            return super().__getitem__(row)

    with gpu.cuda.Stream(non_blocking=True) as stream:
        plain("cuda").fit(Watched(*on("cuda", X, T)), **FIT, prefetch=2)
    assert seen == {("stepsmith-prefetch", stream.ptr)}


@pytest.mark.usefixtures("gpu")
def test_predictions_are_where_the_inputs_are() -> None:
    trainer, own = plain(), plain("cuda")
    want = trainer.predict(X, batch_size=32)
    for inputs in on("cpu", X) + on("cuda", X):
        got = own.predict(inputs, batch_size=32)
        assert is_on_gpu(got) == is_on_gpu(inputs)
        np.testing.assert_allclose(moved(got, "cpu"), want, rtol=0, atol=1e-6)
        again = own.predict(inputs, batch_size=32)
        got[...] = 7
        np.testing.assert_allclose(moved(again, "cpu"), want, rtol=0, atol=1e-6)


@pytest.mark.usefixtures("gpu")
def test_evaluation_and_metrics_see_the_device() -> None:
    def far(output: Array, target: Array) -> tuple[Array, int]:
        assert is_on_gpu(output) == is_on_gpu(target)
        return abs(output - target).max(axis=1).sum(), len(output)

    want = plain(metrics={"far": far}).evaluate((X, T), batch_size=32)
    for where in ("cpu", "cuda"):
        got = plain("cuda", metrics={"far": far}).evaluate(on(where, X, T), batch_size=32)
        assert got == pytest.approx(want, rel=1e-5)


def test_kinds_that_do_not_go_together_are_refused(gpu: Any) -> None:
    own = moved(X, "cuda")
    with pytest.raises(
        TypeError, match=r"^Trainer: arrays must be all NumPy's or all CuPy's, got data\[0\] of CuPy and"
    ):
        plain("cuda").fit((own, T), **FIT)
    with pytest.raises(TypeError, match=r"^Linear: input must be an array of NumPy as the parameters are"):
        plain().fit((own, moved(T, "cuda")), **FIT)
    with pytest.raises(TypeError, match=r"^Trainer: data must be a tuple of arrays such as \(X, y\), got one array"):
        plain("cuda").fit(gpu.ones((3, 6)), **FIT)


@pytest.mark.usefixtures("gpu")
def test_class_weights_follow_labels_on_the_device() -> None:
    labels = np.where(Y == 0, 5, 9)

    def weighed(where: str, weight: Any) -> dict[str, Array]:
        weigh = class_weights(weight, open_source("data", on(where, X, labels)), plain().view)
        assert weigh is not None
        return [moved(array, "cpu") for array in weigh(on(where, X[:9], labels[:9]))]

    for weight in ("balanced", {5: 2.0}):
        for got, want in zip(weighed("cuda", weight), weighed("cpu", weight), strict=True):
            assert_same_bits(got, want)
    with pytest.raises(ValueError, match=r"labels of class_weight must be among those of data, got \[3\]"):
        weighed("cuda", {3: 1.0})


@pytest.mark.usefixtures("gpu")
def test_a_trainer_moves_and_goes_on() -> None:
    want, got = plain(), plain()
    want.fit((X, T), **FIT | {"epochs": 6})
    got.fit((X, T), **FIT | {"epochs": 2})
    before = got.model.parameters()["0.weight"]
    assert got.to("cuda") is got
    assert all(is_on_gpu(param) for param in got.optimizer.params.values())
    assert_same_bits(got.model.parameters()["0.weight"].get(), before)
    got.fit((X, T), **FIT | {"epochs": 4})
    got.to("cpu").fit((X, T), **FIT | {"epochs": 6})
    assert got.model.device == "cpu"
    assert_same_runs(got, want)


@pytest.mark.usefixtures("gpu")
def test_a_trainer_that_cannot_move_stays_whole() -> None:
    class Failing(Plain):
        def to(self, _device: str, params: dict[str, Array]) -> Plain:
            assert all(map(is_on_gpu, params.values()))
            raise MemoryError

    class Fixed(Plain):
        to = None

    model = network()
    for kind, error in ((Failing, MemoryError), (Fixed, TypeError)):
        trainer = Trainer(model, square, optimizer=kind(model.parameters()))
        with pytest.raises(error):
            trainer.to("cuda")
        assert model.device == "cpu"
        assert all(model.parameters()[name] is param for name, param in trainer.optimizer.params.items())
        trainer.fit((X, T), **FIT | {"epochs": 1})

    class Moving(Callback):
        def on_epoch_end(self, trainer: Trainer, row: Any) -> None:
            trainer.to("cuda")

    with pytest.raises(RuntimeError, match=r"^Trainer.to: the trainer must not be in a fit"):
        plain(callbacks=[Moving()]).fit((X, T), **FIT)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("devices", [("cuda", "cpu"), ("cpu", "cuda"), ("cuda", "cuda")])
def test_checkpoints_say_nothing_of_a_device(devices: tuple[str, str], tmp_path: Any) -> None:
    def trainer(device: str) -> Trainer:
        callbacks = [ss.train.SWA(1), ss.train.EarlyStopping(3, monitor="val_loss")]
        return plain(device, callbacks=callbacks)

    first, second = trainer(devices[0]), trainer(devices[1])
    first.fit((X, T), (X, T), **FIT)
    state = first.state_dict()
    first.save(tmp_path)
    Trainer.resume(tmp_path, second)
    assert_same_trees(second.state_dict(), state)
    for name, param in first.model.parameters().items():
        assert_same_bits(moved(second.model.parameters()[name], "cpu"), moved(param, "cpu"), name)
    # It goes on, with averages and best weights that were written elsewhere.
    for one in (first, second):
        one.fit((X, T), (X, T), **FIT | {"epochs": 5})
    assert second.evaluate((X, T), weights="swa") == pytest.approx(first.evaluate((X, T), weights="swa"), rel=1e-4)


def assert_same_trees(got: Any, want: Any) -> None:
    assert type(got) is type(want)
    if isinstance(want, dict):
        assert got.keys() == want.keys()
        for key in want:
            assert_same_trees(got[key], want[key])
    elif isinstance(want, list):
        for own, theirs in zip(got, want, strict=True):
            assert_same_trees(own, theirs)
    elif isinstance(want, np.ndarray):
        assert_same_bits(got, want)
    else:
        assert got == want


@pytest.mark.usefixtures("gpu")
def test_a_callback_may_keep_arrays_on_the_device(tmp_path: Any) -> None:
    class Keeping(Callback):
        kept = None

        def on_epoch_end(self, trainer: Trainer, _row: Any) -> None:
            self.kept = trainer.model.parameters()["0.bias"].copy()

        def state_dict(self) -> dict[str, Any]:
            return {"kept": self.kept}

        def load_state_dict(self, state: Any) -> None:
            self.kept = state["kept"]

    first, second = (plain("cuda", callbacks=[Keeping()]) for _ in range(2))
    first.fit((X, T), **FIT)
    first.save(tmp_path)
    Trainer.resume(tmp_path, second)
    assert_same_bits(second.callbacks[0].kept, first.callbacks[0].kept.get())


@pytest.mark.usefixtures("gpu")
def test_averages_and_best_weights_follow_a_move() -> None:
    def run(moves: bool) -> Trainer:
        stopping = ss.train.EarlyStopping(50, restore_best=True)
        trainer = plain(callbacks=[ss.train.SWA(1), stopping, ss.train.Statistics(every_steps=2)])
        for epoch in range(1, 6):
            trainer.fit((X, T), (X, T), **FIT | {"epochs": epoch})
            trainer.evaluate((X, T), weights="swa")
            assert trainer.view_of("swa").device() == trainer.model.device
            if moves:
                trainer.to("cuda" if epoch % 2 else "cpu")
        return trainer

    want, got = run(False), run(True)
    assert_same_runs(got, want)
    assert got.evaluate((X, T), weights="swa") == pytest.approx(want.evaluate((X, T), weights="swa"), rel=1e-4)
    rows, own = want.callbacks[2].rows, got.callbacks[2].rows
    assert rows
    for a, b in zip(own, rows, strict=True):
        assert a.pop("name") == b.pop("name")
        assert a == pytest.approx(b, rel=1e-2, abs=1e-6)


@pytest.mark.usefixtures("gpu")
def test_a_function_with_parameters_trains_on_the_device() -> None:
    def fn(params: Any, batch: Any) -> tuple[float, Any]:
        error = batch[0] @ params["w"] - batch[1]
        return float((error * error).mean()), {"w": batch[0].T @ error * (2 / error.size)}

    found = []
    for device in ("cpu", "cuda"):
        model = FunctionModel({"w": np.zeros((6, 2), np.float32)}, fn, lambda params, x: x @ params["w"])
        trainer = Trainer(model, optimizer=Plain(model.parameters()))
        trainer.to(device)
        trainer.fit((X, T), **FIT)
        assert is_on_gpu(model.parameters()["w"]) == (device == "cuda")
        found.append((trainer.history["loss"], trainer.predict(X)))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-5)
    np.testing.assert_allclose(found[1][1], found[0][1], atol=1e-5)


# With optimizers of ours.


def ours(
    device: str, optimizer: Any, *, model: nn.Module | None = None, loss: Any = square, **settings: Any
) -> Trainer:
    model = (network() if model is None else model).to(device)
    return Trainer(model, loss, optimizer=optimizer(model.parameters()), **settings)


def adam(**settings: Any) -> Any:
    return lambda params: ss.optim.AdamW(params, lr=1e-2, **settings)


RUNS: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "plain": (adam(), {}, {}),
    "clipped": (adam(max_norm=0.5), {"metrics": {"m": lambda y, t: (float(abs(y - t).sum()), len(y))}}, {}),
    "average": (adam(ema=0.9), {}, {"validation": (X, T), "validation_weights": "ema"}),
    "codes": (adam(state_dtype="int8", min_8bit_size=1), {}, {}),
    "accumulated": (adam(), {}, {"accumulate": 2}),
    "scaled": (adam(on_nonfinite="skip"), {"loss_scale": "dynamic"}, {}),
    "frozen": (adam(), {"frozen": "0.*"}, {}),
    "statistics": (adam(), {"callbacks": [ss.train.Statistics(every_steps=3)]}, {}),
}


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("name", RUNS)
def test_runs_equal_those_on_the_cpu(name: str) -> None:
    optimizer, settings, fit = RUNS[name]
    found = []
    for device in ("cpu", "cuda"):
        own = {key: value for key, value in settings.items() if key != "frozen"}
        trainer = ours(device, optimizer, **own)
        if "frozen" in settings:
            trainer.freeze(settings["frozen"])
        trainer.fit((X, T), **FIT, **fit)
        found.append(trainer)
    assert_same_runs(found[1], found[0])
    if "frozen" in settings:
        assert_same_bits(found[1].model.parameters()["0.weight"].get(), network().parameters()["0.weight"])


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("devices", [("cuda", "cpu"), ("cpu", "cuda")])
def test_a_run_is_resumed_on_the_other_device(devices: tuple[str, str], tmp_path: Any) -> None:
    optimizer = adam(max_norm=1.0, ema=0.9, state_dtype="int8", min_8bit_size=1)
    first, second = (ours(device, optimizer) for device in devices)
    first.fit((X, T), **FIT)
    first.save(tmp_path)
    Trainer.resume(tmp_path, second)
    assert_same_trees(second.state_dict(), first.state_dict())
    for trainer in (first, second):
        trainer.fit((X, T), **FIT | {"epochs": 5})
    assert first.history["loss"] == pytest.approx(second.history["loss"], rel=1e-5)


@pytest.mark.usefixtures("gpu")
def test_a_trainer_goes_there_and_back_with_its_optimizer() -> None:
    want, got = ours("cpu", adam(max_norm=1.0, ema=0.9)), ours("cpu", adam(max_norm=1.0, ema=0.9))
    for epochs, device in ((2, "cuda"), (4, "cpu"), (6, "cpu")):
        for trainer in (want, got):
            trainer.fit((X, T), **FIT | {"epochs": epochs})
        state = got.state_dict()
        got.to(device)
        assert_same_trees(got.state_dict(), state)
    assert_same_runs(got, want)


class Counting(nn.Module):
    """Counts its passes in training in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.state = {"passes": np.zeros((), np.int64)}

    def forward(self, x: Array, training: bool = False) -> Array:
        self.state["passes"] += training
        return x

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        return dy if input_grad else None


class Breaking:
    """Gradients of a step have an infinity."""

    def __init__(self, step: int) -> None:
        self.left = step

    def __call__(self, output: Array, target: Array) -> tuple[float, Array]:
        loss, grad = square(output, target)
        self.left -= 1
        if self.left == 0:
            grad[0, 1] = np.inf
        return loss, grad


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_gradient_that_is_not_finite_is_told_at_its_step(device: str) -> None:
    model = nn.Sequential(nn.Linear(6, 2), Counting())
    trainer = ours(device, adam(), model=model, loss=Breaking(4))
    with pytest.raises(ss.NonFiniteError, match=r"grads\['0.weight'\].* at step 4, epoch 1$"):
        trainer.fit((X, T), **FIT)
    assert (trainer.clock.step, int(moved(model.buffers()["1.passes"], "cpu"))) == (3, 3)
    before = {name: moved(param, "cpu").copy() for name, param in model.parameters().items()}
    assert all(np.isfinite(param).all() for param in before.values())
    # The fit goes on where it was.
    trainer.fit((X, T), **FIT)
    assert (trainer.clock.step, int(moved(model.buffers()["1.passes"], "cpu"))) == (15, 15)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_skipped_step_leaves_buffers(device: str) -> None:
    model = nn.Sequential(nn.Linear(6, 2), Counting())
    trainer = ours(device, adam(on_nonfinite="skip"), model=model, loss=Breaking(4))
    trainer.fit((X, T), **FIT)
    assert (trainer.clock.step, int(moved(model.buffers()["1.passes"], "cpu"))) == (15, 14)


@pytest.mark.usefixtures("gpu")
def test_the_range_of_rates_is_the_same() -> None:
    want, got = (ours(device, adam()).lr_find((X, T), steps=20) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(got.losses, want.losses, rtol=1e-4)


@pytest.mark.usefixtures("gpu")
def test_pruning_goes_on_on_the_device() -> None:
    found = []
    for device in ("cpu", "cuda"):
        gradual = ss.prune.GradualPruning(0.5, start=0, stop=10, every=2)
        trainer = ours(device, adam(), callbacks=[gradual])
        trainer.fit((X, T), **FIT)
        found.append(trainer)
    assert_same_runs(found[1], found[0])
    assert ss.prune.sparsity(found[1].optimizer).zeros == ss.prune.sparsity(found[0].optimizer).zeros


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_mixed_precision_trains_and_moves(dtype: str) -> None:
    found = []
    for moves in (False, True):
        model = nn.MixedPrecision(network(), dtype)
        trainer = ours("cpu", adam(master=True), model=model, loss_scale=64.0)
        for epochs in (1, 3, 5):
            trainer.fit((X, T), **FIT | {"epochs": epochs})
            if moves:
                trainer.to("cuda" if epochs < 3 else "cpu")
        found.append(trainer)
    np.testing.assert_allclose(found[1].history["loss"], found[0].history["loss"], rtol=2e-3)


# Around a trainer.


@pytest.mark.usefixtures("gpu")
def test_members_of_ensembles_may_be_on_the_device() -> None:
    models = [network(seed) for seed in range(3)]
    for model in models:
        model.parameters()
    averaged = ss.ensemble.average_weights(models)
    for model in models[:2]:
        model.to("cuda")
    for name, param in ss.ensemble.average_weights(models).items():
        assert_same_bits(moved(param, "cpu"), averaged[name], name)


@pytest.mark.usefixtures("gpu")
def test_weights_and_heads_go_where_the_model_is() -> None:
    source = {name: param.copy() for name, param in network(5).parameters().items()}
    model = network().to("cuda")
    ss.transfer.load_weights(model, {**source, "0.bias": moved(source["0.bias"], "cuda")})
    for name, param in model.parameters().items():
        assert_same_bits(param.get(), source[name], name)
    other = ss.transfer.replace_head(model, nn.Linear(16, 3))
    assert (other.device, other(moved(X, "cuda")).shape) == ("cuda:0", (70, 3))
    assert {is_on_gpu(param) for param in other.parameters().values()} == {True}


@pytest.mark.usefixtures("gpu")
def test_masks_are_those_of_weights_on_the_cpu() -> None:
    w = RNG.normal(size=(6, 8)).astype(np.float32)
    own, mask = moved(w, "cuda"), ss.prune.magnitude_mask(w, 0.5)
    masks = [
        (ss.prune.magnitude_mask, (0.5,)),
        (ss.prune.structured_mask, (2,)),
        (ss.prune.n_m_mask, ()),
    ]
    for function, args in masks:
        assert (function(own, *args) == function(w, *args)).all()
    assert (ss.prune.magnitude_mask(own, 3, mask=mask) == ss.prune.magnitude_mask(w, 3, mask=mask)).all()
    assert (ss.prune.global_masks({"w": own}, 0.3)["w"] == ss.prune.global_masks({"w": w}, 0.3)["w"]).all()
    own[...] = moved(np.where(mask, w, 0), "cuda")
    assert ss.prune.sparsity({"w": own}).zeros == {"w": 24}
    with pytest.raises(ValueError, match=r"^shrink: model must be on the CPU, .* got one on cuda:0$"):
        ss.prune.shrink(network().to("cuda"))


@pytest.mark.usefixtures("gpu")
def test_a_teacher_may_be_on_the_device(tmp_path: Any) -> None:
    teacher = network(3)
    want = ss.distill.teacher_logits(teacher, X)
    teacher.to("cuda")
    for inputs in on("cpu", X) + on("cuda", X):
        for cache in (None, tmp_path / "logits.safetensors", tmp_path / "logits.safetensors"):
            got = ss.distill.teacher_logits(teacher, inputs, 32, cache)
            assert is_on_gpu(got) == is_on_gpu(inputs)
            np.testing.assert_allclose(moved(got, "cpu"), want, rtol=0, atol=1e-6)


@pytest.mark.skipif(gpu_shim.has_gpu(), reason="the stand-in counts how often the host waits")
@pytest.mark.usefixtures("gpu")
def test_a_step_waits_for_the_loss_and_for_what_became_of_it() -> None:
    model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 2))
    trainer = ours("cuda", adam(max_norm=1.0), model=model, loss="cross_entropy")
    data = on("cuda", X, Y)
    trainer.fit(data, **FIT | {"epochs": 1})
    before, steps = standin.syncs(), trainer.clock.step
    trainer.fit(data, **FIT | {"epochs": 4})
    # The report of a step is waited for, and then copied; a fit looks at two of its labels first.
    assert standin.syncs() - before <= 3 * (trainer.clock.step - steps) + 1


# Networks from end to end.

PLANES = RNG.normal(size=(90, 1, 8, 8)).astype(np.float32)
SIDES = (PLANES[:, 0, :4].mean(axis=(1, 2)) > PLANES[:, 0, 4:].mean(axis=(1, 2))).astype(np.int64)
WORDS = RNG.integers(0, 11, (60, 7))
ENDS = WORDS[:, ::-1].copy()


def pictures() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm(6), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 8, 3, groups=2), nn.GroupNorm(2, 8), nn.SiLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Dropout(0.1)),
        *(
            nn.WeightNorm(nn.Linear(8, 12)),
            nn.LayerNorm(12),
            nn.GELU(),
            nn.Residual(nn.Linear(12, 12)),
            nn.Linear(12, 2),
        ),
        seed=4,
    )


def sentences() -> nn.Module:
    block = nn.Residual(nn.LayerNorm(12), nn.MultiHeadAttention(12, 3), nn.SequenceDropout(0.1))
    return nn.Sequential(
        nn.Embedding(11, 12), nn.PositionalEmbedding(7, 12), block, nn.GRU(12, 12), nn.RMSNorm(12), nn.Linear(12, 11)
    )


NETWORKS: dict[str, tuple[Any, tuple[Array, ...], Any, dict[str, Any]]] = {
    "pictures": (pictures, (PLANES, SIDES), None, {"class_weight": "balanced"}),
    "sentences": (sentences, (WORDS, ENDS), nn.CrossEntropy(axis=-1, label_smoothing=0.1), {}),
}


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_train_from_end_to_end(name: str, tmp_path: Any) -> None:
    build, data, loss, settings = NETWORKS[name]
    schedule = ss.schedules.CosineAnnealing(2e-2, T_max=60)
    found = []
    for device in ("cpu", "cuda"):
        model = build().to(device)
        optimizer = ss.optim.AdamW(model.parameters(), lr=schedule, max_norm=1.0, ema=0.9)
        saving = ss.train.Checkpoint(tmp_path / device, keep=1)
        trainer = Trainer(model, loss, optimizer=optimizer, callbacks=[saving], regularizers=[nn.L2(1e-4)])
        trainer.fit(data, data, epochs=8, batch_size=16, progress=False, **settings)
        found.append(trainer)
    want, got = found
    # The paths part slowly, as those of two BLAS would.
    for column in want.history.columns:
        np.testing.assert_allclose(got.history[column], want.history[column], rtol=2e-2, atol=2e-2, err_msg=column)
    assert got.history["loss"][-1] < 0.9 * got.history["loss"][0]
    assert got.evaluate(data, weights="ema") == pytest.approx(want.evaluate(data, weights="ema"), rel=2e-2, abs=2e-2)
    # Either one goes on where the other one is.
    for own, other in ((want, tmp_path / "cuda"), (got, tmp_path / "cpu")):
        Trainer.resume(other, own)
        own.fit(data, data, epochs=9, batch_size=16, progress=False, **settings)
    assert got.history["loss"] == pytest.approx(want.history["loss"], rel=2e-2)


@pytest.mark.usefixtures("gpu")
def test_ensembles_and_samples_of_dropout_are_where_the_rows_are() -> None:
    models = [network(seed) for seed in range(3)]
    want = ss.ensemble.Ensemble(models).predict_proba(X)
    sampled = ss.ensemble.mc_dropout(models[0], X, samples=5)
    snapshots = ss.ensemble.Snapshots(cycle_epochs=1)
    trainer = plain("cuda", callbacks=[snapshots])
    trainer.fit((X, T), **FIT)
    assert snapshots.ensemble(trainer.model).predict(X).shape == (70,)
    for model in models[:2]:
        model.to("cuda")
    both = ss.ensemble.Ensemble(models, vote="soft")
    np.testing.assert_allclose(both.predict_proba(X), want, rtol=0, atol=1e-6)
    own = ss.ensemble.Ensemble(models[:2]).predict_proba(moved(X, "cuda"))
    assert is_on_gpu(own)
    for inputs in on("cpu", X) + on("cuda", X):
        found = ss.ensemble.mc_dropout(models[0], inputs, samples=5)
        for array, theirs in zip(found, sampled, strict=True):
            assert is_on_gpu(array) == is_on_gpu(inputs)
            np.testing.assert_allclose(moved(array, "cpu"), theirs, rtol=0, atol=1e-6)
