"""Distillation: a teacher's outputs and their cache, data with two targets, a student that is better for it."""

import numpy as np
import pytest

import stepsmith as ss
from helpers import assert_same_bits
from stepsmith.distill import teacher_logits
from stepsmith.train import Trainer

RNG = np.random.default_rng(0)
X = RNG.standard_normal((37, 5)).astype(np.float32)
Y = RNG.integers(0, 3, 37)


def net(seed: int = 0, width: int = 8) -> ss.nn.Sequential:
    return ss.nn.Sequential(
        ss.nn.Linear(5, width),
        ss.nn.BatchNorm(width),
        ss.nn.Tanh(),
        ss.nn.Dropout(0.5),
        ss.nn.Linear(width, 3),
        seed=seed,
    )


def trainer_of(model, loss=None, lr: float = 0.05, **settings) -> Trainer:
    return Trainer(model, loss, optimizer=ss.optim.Adam(model.parameters(), lr=lr), **settings)


class Counting:
    """A function that knows how many rows it was asked for."""

    def __init__(self, model) -> None:
        self.model, self.rows = model, 0

    def __call__(self, x):
        self.rows += len(x)
        return self.model(x)


def test_module_trainer_and_function_give_outputs_outside_training() -> None:
    model = net()
    want = model(X).copy()
    before = {name: array.copy() for name, array in model.buffers().items()}
    for teacher in (model, trainer_of(model), Counting(model)):
        got = teacher_logits(teacher, X, batch_size=37)
        assert_same_bits(got, want)
        assert not np.shares_memory(got, model(X))
        np.testing.assert_allclose(teacher_logits(teacher, X, batch_size=10), want, rtol=1e-5, atol=1e-6)
    assert all((array == before[name]).all() for name, array in model.buffers().items())


def test_a_cache_is_read_while_it_is_of_the_same_rows_and_teacher(tmp_path) -> None:
    path, teacher = tmp_path / "teacher.safetensors", Counting(net())
    first = teacher_logits(teacher, X, cache=path)
    assert teacher.rows == 16 + 37
    assert_same_bits(np.array(first), teacher_logits(teacher.model, X))
    again = teacher_logits(teacher, X, cache=path)
    assert teacher.rows == 16 + 37 + 16
    assert_same_bits(np.array(again), np.array(first))
    assert not again.flags.writeable
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["teacher.safetensors"]


def test_a_stale_cache_is_computed_again(tmp_path) -> None:
    path, model = tmp_path / "teacher.safetensors", net()
    stale = np.array(teacher_logits(model, X, cache=path))
    other_rows = X.copy()
    other_rows[36, 4] += 1
    assert_same_bits(np.array(teacher_logits(model, other_rows, cache=path)), teacher_logits(model, other_rows))
    assert_same_bits(np.array(teacher_logits(model, X[:20], cache=path)), teacher_logits(model, X[:20]))
    model.parameters()["4.bias"][1] += 1
    fresh = np.array(teacher_logits(model, X, cache=path))
    assert_same_bits(fresh, teacher_logits(model, X))
    assert (fresh[:, 1] != stale[:, 1]).all()
    model.buffers()["1.running_mean"][...] = 1.0
    assert_same_bits(np.array(teacher_logits(model, X, cache=path)), teacher_logits(model, X))
    assert_same_bits(np.array(teacher_logits(lambda x: x[:, :3], X, cache=path)), X[:, :3])
    assert_same_bits(np.array(teacher_logits(lambda x: x[:, 2:], X, cache=path)), X[:, 2:])


def test_a_change_that_the_first_rows_do_not_show_is_seen(tmp_path) -> None:
    path, model, rows = tmp_path / "teacher.safetensors", net(), X.copy()
    rows[:16, 0] = 0
    teacher_logits(model, rows, cache=path)
    model.parameters()["0.weight"][:, 0] += 1
    assert_same_bits(np.array(teacher_logits(model, rows, cache=path)), teacher_logits(model, rows))


def test_the_same_parameters_in_another_model_are_another_teacher(tmp_path) -> None:
    path = tmp_path / "teacher.safetensors"
    tanh = ss.nn.Sequential(ss.nn.Linear(5, 3), ss.nn.Tanh())
    relu = ss.nn.Sequential(ss.nn.Linear(5, 3), ss.nn.ReLU())
    teacher_logits(tanh, X, cache=path)
    assert_same_bits(np.array(teacher_logits(relu, X, cache=path)), teacher_logits(relu, X))


def test_a_file_of_something_else_is_left_alone(tmp_path) -> None:
    path = tmp_path / "model.safetensors"
    ss.quant.save(path, {"w": X})
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"cache must be a file that teacher_logits wrote, got .*model"):
        teacher_logits(net(), X, cache=path)
    assert path.read_bytes() == before
    path.write_bytes(b"notes")
    with pytest.raises(ValueError, match="must be a safetensors file"):
        teacher_logits(net(), X, cache=path)
    assert path.read_bytes() == b"notes"


def test_the_folder_of_a_cache_is_made_before_the_work(tmp_path) -> None:
    path = tmp_path / "some" / "where" / "teacher.safetensors"
    assert_same_bits(np.array(teacher_logits(net(), X, cache=path)), teacher_logits(net(), X))
    rows = []

    def counted(x):
        rows.append(len(x))
        return x

    with pytest.raises(OSError, match=r"teacher\.safetensors"):
        teacher_logits(counted, X, cache=path / "teacher.safetensors")
    assert sum(rows) <= 16


def test_a_teacher_that_fails_leaves_the_cache_as_it_was(tmp_path) -> None:
    path = tmp_path / "teacher.safetensors"
    teacher_logits(net(), X, cache=path)
    before = path.read_bytes()

    def failing(x):
        if len(x) != 16:
            raise RuntimeError("out of memory")
        return x

    with pytest.raises(RuntimeError, match="out of memory"):
        teacher_logits(failing, X, cache=path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: teacher_logits(3, X), TypeError, r"teacher must be a Trainer, a Module or a function, got int"),
        (lambda: teacher_logits(net(), X.tolist()), TypeError, r"X must be a NumPy array .*, got builtins.list"),
        (lambda: teacher_logits(net(), X[:0]), ValueError, r"X must have rows, got shape \(0, 5\)"),
        (lambda: teacher_logits(net(), X, 0), ValueError, r"batch_size must be at least 1, got 0"),
        (lambda: teacher_logits(lambda x: x[1:], X), ValueError, r"teacher must give 37 rows, got shape \(36, 5\)"),
    ],
)
def test_bad_arguments_are_named(call, error, message) -> None:
    with pytest.raises(error, match=message):
        call()


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def mixed(z: np.ndarray, labels: np.ndarray, teacher: np.ndarray, temperature: float, alpha: float) -> np.ndarray:
    """The loss of each row."""
    z, teacher = z.astype(np.float64), teacher.astype(np.float64)
    p, q = softmax(z / temperature), softmax(teacher / temperature)
    hard = -np.log(softmax(z)[np.arange(len(z)), labels])
    return alpha * temperature**2 * (q * np.log(q / p)).sum(axis=1) + (1 - alpha) * hard


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_trainer_and_module_hand_both_targets_and_weights_to_the_loss(alpha: float) -> None:
    logits = teacher_logits(net(1), X)
    weights = RNG.uniform(0.5, 2.0, 37).astype(np.float32)
    student = ss.nn.Sequential(ss.nn.Linear(5, 3))
    rows = mixed(student(X).copy(), Y, logits, 3.0, alpha)
    trainer = trainer_of(student, ss.nn.Distillation(3.0, alpha))
    assert trainer.evaluate((X, Y, logits), batch_size=10)["loss"] == pytest.approx(rows.mean(), rel=1e-5)
    want = (rows * weights).sum() / weights.sum()
    got = trainer.evaluate((X, Y, logits, weights), batch_size=10)
    assert got["loss"] == pytest.approx(want, rel=1e-5)
    hits = (student(X).argmax(axis=1) == Y) * weights
    assert got["accuracy"] == pytest.approx(hits.sum() / weights.sum(), rel=1e-6)
    loss, _ = student.loss_and_grads((X, Y, logits, weights), ss.nn.Distillation(3.0, alpha))
    assert loss == pytest.approx(want, rel=1e-5)


def test_class_weights_stand_after_both_targets() -> None:
    logits, factors = teacher_logits(net(1), X), {0: 0.25, 2: 3.0}
    weights = np.array([factors.get(int(label), 1.0) for label in Y])
    losses = []
    for data, given in (((X, Y, logits, weights), None), ((X, Y, logits), factors)):
        trainer = trainer_of(net(), ss.nn.Distillation(2.0, 0.5))
        losses.append(trainer.fit(data, epochs=2, progress=False, class_weight=given)["loss"])
    assert losses[0] == losses[1]


def test_alpha_1_reads_no_labels() -> None:
    logits, runs = teacher_logits(net(1), X), []
    for labels in (Y, np.full(37, -1)):
        trainer = trainer_of(net(), ss.nn.Distillation(2.0, 1.0))
        trainer.fit((X, labels, logits), epochs=2, progress=False)
        runs.append(trainer.predict(X))
    assert_same_bits(runs[0], runs[1])


def test_wrong_numbers_of_arrays_are_named() -> None:
    logits = teacher_logits(net(1), X)
    rule = r"must be \(inputs, 2 targets\) or \(inputs, 2 targets, sample_weight\), got 2 arrays"
    with pytest.raises(ValueError, match="Trainer: data " + rule):
        trainer_of(net(), ss.nn.Distillation()).fit((X, Y), progress=False)
    with pytest.raises(ValueError, match="loss_and_grads: batch " + rule):
        net().loss_and_grads((X, Y), ss.nn.Distillation())
    with pytest.raises(ValueError, match=r"Trainer: data must be \(inputs, targets\) or .*, got 4 arrays"):
        trainer_of(net()).fit((X, Y, logits, Y), progress=False)


def student_accuracy(data: tuple, loss, test: tuple, seed: int) -> float:
    student = ss.nn.Sequential(ss.nn.Linear(64, 16), ss.nn.ReLU(), ss.nn.Linear(16, 10), seed=seed)
    trainer_of(student, loss, lr=0.02, seed=seed).fit(data, epochs=30, batch_size=20, progress=False)
    return float((student(test[0]).argmax(axis=1) == test[1]).mean())


def test_a_distilled_student_beats_one_of_hard_labels_on_few_digits() -> None:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(1).permutation(len(x))
    x, y = (x[order] / 16).astype(np.float32), y[order]
    train, few, test = slice(0, 1000), slice(0, 60), slice(1000, None)
    teacher = ss.nn.Sequential(ss.nn.Linear(64, 64), ss.nn.ReLU(), ss.nn.Linear(64, 10), seed=7)
    trainer_of(teacher, lr=0.005).fit((x[train], y[train]), epochs=10, progress=False)
    logits = teacher_logits(teacher, x[few])
    hard, soft = (
        [student_accuracy(data, loss, (x[test], y[test]), seed) for seed in range(2)]
        for data, loss in (
            ((x[few], y[few]), None),
            ((x[few], y[few], logits), ss.nn.Distillation(temperature=4.0, alpha=0.9)),
        )
    )
    assert (teacher(x[test]).argmax(axis=1) == y[test]).mean() > 0.94
    assert np.mean(soft) > np.mean(hard) + 0.03, (hard, soft)
    assert min(soft) > 0.85
