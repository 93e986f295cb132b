"""Transfer: weights by name, another head, freezing over time, rates by depth."""

import ml_dtypes
import numpy as np
import pytest

import stepsmith as ss
from helpers import assert_same_bits
from stepsmith.train import Callback, Checkpoint, GradualUnfreezing, Trainer
from stepsmith.transfer import layerwise_groups, load_weights, replace_head

RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 6)).astype(np.float32)
Y = (X[:, 0] > X[:, 1]).astype(np.int64)


def net(seed: int = 0, classes: int = 2) -> ss.nn.Sequential:
    return ss.nn.Sequential(ss.nn.Linear(6, 8), ss.nn.BatchNorm(8), ss.nn.Tanh(), ss.nn.Linear(8, classes), seed=seed)


def arrays(model) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in (model.parameters() | model.buffers()).items()}


def changed(before: dict[str, np.ndarray], model) -> set[str]:
    return {name for name, array in arrays(model).items() if (array != before[name]).any()}


def trainer_of(model, callbacks=(), **settings) -> Trainer:
    return Trainer(model, optimizer=ss.optim.Adam(model.parameters(), lr=0.05), callbacks=callbacks, **settings)


def fit(trainer: Trainer, epochs: int) -> None:
    trainer.fit((X, Y), epochs=epochs, batch_size=16, progress=False)


BUFFERS = {"1.running_mean", "1.running_var", "1.num_batches_tracked"}


def test_all_of_a_file_comes_into_an_equal_model(tmp_path) -> None:
    source, target = net(1), net(2)
    fit(trainer_of(source), 1)
    ss.quant.save(tmp_path / "model.safetensors", arrays(source))
    report = load_weights(target, tmp_path / "model.safetensors", strict=True)
    for name, array in arrays(target).items():
        assert_same_bits(array, arrays(source)[name], name)
    assert set(report.matched) == set(arrays(source))
    assert (report.missing, report.unexpected, report.mismatched, report.cast) == ((), (), {}, {})


def tensors_of_another() -> dict[str, np.ndarray]:
    return {
        "body.fc.weight": RNG.standard_normal((8, 6)),
        "body.fc.bias": np.arange(8).astype(ml_dtypes.bfloat16),
        "body.norm.weight": np.full(8, 2.0, np.float32),
        "body.norm.num_batches_tracked": np.array(7, np.int32),
        "head.weight": np.ones((5, 8), np.float32),
        "extra": np.zeros(3, np.float32),
    }


MAPPING = {"body.fc.*": "0.*", "body.norm.*": "1.*", "head.*": "3.*"}


def test_what_differs_is_reported_and_stays_as_it_is() -> None:
    model, given = net(), tensors_of_another()
    before = arrays(model)
    report = load_weights(model, given, MAPPING)
    after = arrays(model)
    assert report.matched == ("0.weight", "0.bias", "1.weight", "1.num_batches_tracked")
    assert report.missing == ("1.bias", "3.bias", "1.running_mean", "1.running_var")
    assert report.unexpected == ("extra",)
    assert report.mismatched == {"3.weight": ((2, 8), (5, 8))}
    assert report.cast == {
        "0.weight": ("float64", "float32"),
        "0.bias": ("bfloat16", "float32"),
        "1.num_batches_tracked": ("int32", "int64"),
    }
    assert_same_bits(after["0.weight"], given["body.fc.weight"].astype(np.float32))
    assert_same_bits(after["0.bias"], np.arange(8, dtype=np.float32))
    assert after["1.num_batches_tracked"] == 7
    for name in ("3.weight", *report.missing):
        assert_same_bits(after[name], before[name], name)
    lines = [line.split() for line in str(report).splitlines()]
    assert lines[0] == ["name", "what", "model", "source"]
    assert ["0.bias", "loaded", "float32", "bfloat16"] in lines
    assert ["3.weight", "mismatched", "(2,", "8)", "(5,", "8)"] in lines
    assert ["extra", "unexpected"] in lines
    assert len(lines) == 1 + 4 + 1 + 4 + 1


def test_strict_lists_everything_and_writes_nothing() -> None:
    model = net()
    before = arrays(model)
    message = (
        r"load_weights: names and shapes must be the model's, got missing 1.bias, 3.bias, 1.running_mean, "
        r"1.running_var; unexpected extra; 3.weight \(2, 8\) in the model and \(5, 8\) here"
    )
    with pytest.raises(ValueError, match=message):
        load_weights(model, tensors_of_another(), MAPPING, strict=True)
    assert not changed(before, model)


def test_quantized_tensors_are_decoded(tmp_path) -> None:
    model, w = net(), RNG.standard_normal((8, 6)).astype(np.float32)
    q = ss.quant.quantize(w, ss.quant.Dynamic8())
    ss.quant.save(tmp_path / "model.safetensors", {"0.weight": q, "0.bias": np.ones(8, np.float32)})
    report = load_weights(model, tmp_path / "model.safetensors")
    assert_same_bits(model.parameters()["0.weight"], q.dequantize())
    assert report.cast == {"0.weight": ("dynamic8", "float32")}


@pytest.mark.parametrize(
    "mapping",
    [
        {"enc.*.lin.*": "*.*", "cls.*": "3.*"},
        [("enc.0.lin.weight", "0.weight"), ("enc.*.lin.bias", "*.bias"), ("cls.*", "3.*"), ("*", "never")],
        lambda name: name.replace("enc.0.lin", "0").replace("cls", "3"),
    ],
)
def test_names_change_by_globs_pairs_or_a_function(mapping) -> None:
    source = arrays(net(1))
    given = {"enc.0.lin.weight": source["0.weight"], "enc.0.lin.bias": source["0.bias"] + 1}
    given |= {"cls.weight": source["3.weight"], "cls.bias": source["3.bias"] + 2}
    model = net()
    report = load_weights(model, given, mapping)
    assert report.matched == ("0.weight", "0.bias", "3.weight", "3.bias")
    for name, old in zip(report.matched, given):
        assert_same_bits(model.parameters()[name], given[old])


GOOD = {"0.bias": np.ones(8, np.float32)}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda _: load_weights(3, GOOD), TypeError, r"model must have parameters\(\), got int"),
        (lambda m: load_weights(m, [GOOD]), TypeError, r"source must be a path or a mapping, got list"),
        (lambda m: load_weights(m, "absent.safetensors"), FileNotFoundError, r"absent"),
        (lambda m: load_weights(m, {**GOOD, "w": [1.0]}), TypeError, r"source\['w'\] must be a NumPy array"),
        (lambda m: load_weights(m, {"w": X}), ValueError, r"a tensor must fit the model, got missing .*unexpected w"),
        (lambda m: load_weights(m, {"0.bias": X}), ValueError, r"0.bias \(8,\) in the model and \(40, 6\) here"),
        (lambda m: load_weights(m, GOOD, strict=1), TypeError, r"strict must be True or False, got 1"),
        (lambda m: load_weights(m, GOOD, 3), TypeError, r"mapping must be a function, a mapping or pairs, got 3"),
        (lambda m: load_weights(m, GOOD, ["ab"]), TypeError, r"mapping must have pairs of strings, got 'ab'"),
        (lambda m: load_weights(m, GOOD, {"a": "*"}), ValueError, r"mapping\['a'\] must have no more \*.* got '\*'"),
        (lambda m: load_weights(m, GOOD, lambda _: None), TypeError, r"must give strings, got None for '0.bias'"),
        (
            lambda m: load_weights(m, {**GOOD, "b": X[0]}, {"b": "0.bias"}),
            ValueError,
            r"must lead to one name each, got {'0.bias': '0.bias', 'b': '0.bias'}",
        ),
        (
            lambda m: load_weights(m, {"0.weight": np.ones((8, 6)), "0.bias": np.ones(8, complex)}),
            TypeError,
            r"0.bias must be numbers that can become float32, got complex128",
        ),
        (
            lambda m: load_weights(m, {**GOOD, "1.num_batches_tracked": np.array(1.0)}),
            TypeError,
            r"1.num_batches_tracked must be numbers that can become int64, got float64",
        ),
        (lambda _: replace_head(ss.nn.Linear(2, 2)), TypeError, r"model must be a Sequential, got Linear"),
        (lambda m: replace_head(m, drop=5), ValueError, r"drop must be at most 4, got 5"),
        (lambda m: replace_head(m, 3), TypeError, r"layer 3 must be a Module, got int"),
        (lambda _: layerwise_groups(ss.nn.Linear(2, 2), 0.1), TypeError, r"must be a Sequential, got Linear"),
        (lambda m: layerwise_groups(m, 0.1, decay=1.5), ValueError, r"decay must be in \(0, 1\], got 1.5"),
        (lambda m: layerwise_groups(m, -0.1), ValueError, r"lr must be finite and at least 0, got -0.1"),
        (lambda _: layerwise_groups(ss.nn.Sequential(ss.nn.Tanh()), 0.1), ValueError, r"must have parameters"),
        (lambda _: GradualUnfreezing([]), ValueError, r"stages must not be empty"),
        (lambda _: GradualUnfreezing(["3.*"]), TypeError, r"stages\[0\] must be a list, got '3.\*'"),
        (lambda _: GradualUnfreezing([["*"]], 0), ValueError, r"every_epochs must be at least 1, got 0"),
        (lambda m: fit(trainer_of(m, [GradualUnfreezing([["3.*"], ["7.*"]])]), 1), ValueError, r"got '7.\*'"),
        (lambda m: trainer_of(m).freeze("1.running_*"), ValueError, r"must match one of .*, got '1.running_\*'"),
        (lambda m: trainer_of(m).freeze(0), TypeError, r"pattern must be a string, got 0"),
    ],
)
def test_bad_arguments_are_named_and_nothing_is_written(call, error, message) -> None:
    model = net()
    before = arrays(model)
    with pytest.raises(error, match=message):
        call(model)
    assert not changed(before, model)


def test_a_new_head_is_drawn_afresh_on_copies_of_the_trained_layers() -> None:
    model = net()
    drawn = model.parameters()["3.weight"].copy()
    fit(trainer_of(model), 1)
    before, want = arrays(model), model(X).copy()
    other = replace_head(model, ss.nn.Dropout(0.5), ss.nn.Linear(8, 2))
    assert list(other.parameters()) == ["0.weight", "0.bias", "1.weight", "1.bias", "4.weight", "4.bias"]
    for name, array in arrays(other).items():
        if not name.startswith("4."):
            assert_same_bits(array, before[name], name)
    same_place = replace_head(model, ss.nn.Linear(8, 2))
    assert (same_place.parameters()["3.weight"] != drawn).all()
    assert_same_bits(
        replace_head(model, ss.nn.Linear(8, 2)).parameters()["3.weight"], same_place.parameters()["3.weight"]
    )
    assert (replace_head(model, ss.nn.Linear(8, 2), seed=9)(X) != same_place(X)).all()
    fit(trainer_of(other), 1)
    assert not changed(before, model)
    assert_same_bits(model(X), want)
    body = replace_head(model, drop=2)
    assert_same_bits(np.tanh(body(X)), np.tanh(model.modules[1].forward(model.modules[0].forward(X))))


def test_layers_that_were_not_drawn_are_drawn_by_the_model_that_they_come_from() -> None:
    assert_same_bits(replace_head(net(5), ss.nn.Linear(8, 3)).parameters()["0.weight"], net(5).parameters()["0.weight"])


def test_frozen_layers_keep_parameters_and_statistics_where_asked() -> None:
    for statistics in (False, True):
        trainer = trainer_of(net())
        before = arrays(trainer.model)
        trainer.freeze("0.*", "1.*", statistics=statistics)
        fit(trainer, 1)
        assert changed(before, trainer.model) == {"3.weight", "3.bias"} | (set() if statistics else BUFFERS)
        trainer.unfreeze("1.*")
        fit(trainer, 2)
        assert changed(before, trainer.model) == {"3.weight", "3.bias", "1.weight", "1.bias"} | BUFFERS


def test_a_layer_with_frozen_statistics_trains_as_it_predicts() -> None:
    """Value and gradients, against a hand-written layer that knows no batch."""
    model = ss.nn.Sequential(ss.nn.BatchNorm(6), ss.nn.Linear(6, 2))
    fit(trainer_of(model), 1)
    trainer = Trainer(model, optimizer=ss.optim.SGD(model.parameters(), lr=0.5))
    trainer.freeze("0.running_mean", statistics=True)
    before = {name: array.astype(np.float64) for name, array in arrays(model).items()}
    trainer.fit((X, Y), epochs=1, batch_size=40, shuffle=False, progress=False)
    hat = (X - before["0.running_mean"]) / np.sqrt(before["0.running_var"] + 1e-5)
    hidden = hat * before["0.weight"] + before["0.bias"]
    z = hidden @ before["1.weight"].T + before["1.bias"]
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    assert trainer.history["loss"][0] == pytest.approx(-np.log(p[np.arange(40), Y]).mean(), rel=1e-5)
    dz = (p - np.eye(2)[Y]) / 40
    dhidden = dz @ before["1.weight"]
    want = {
        "0.weight": before["0.weight"] - 0.5 * (dhidden * hat).sum(axis=0),
        "0.bias": before["0.bias"] - 0.5 * dhidden.sum(axis=0),
        "1.weight": before["1.weight"] - 0.5 * dz.T @ hidden,
    }
    for name, array in want.items():
        np.testing.assert_allclose(model.parameters()[name], array, rtol=1e-5, atol=1e-6, err_msg=name)


def test_another_trainer_of_the_model_begins_with_nothing_frozen() -> None:
    model = net()
    first = trainer_of(model)
    first.freeze("1.*", statistics=True)
    fit(first, 1)
    before = arrays(model)
    fit(trainer_of(model), 1)
    assert changed(before, model) == set(before)


def test_statistics_are_measured_anew_unless_frozen() -> None:
    trainer = trainer_of(net())
    fit(trainer, 1)
    hidden = X @ trainer.model.parameters()["0.weight"].T + trainer.model.parameters()["0.bias"]
    ss.train.update_statistics(trainer.model, (X,))
    np.testing.assert_allclose(trainer.model.buffers()["1.running_mean"], hidden.mean(axis=0), rtol=1e-4, atol=1e-6)
    trainer.freeze("1.*", statistics=True)
    fit(trainer, 2)
    before = arrays(trainer.model)
    ss.train.update_statistics(trainer.model, (X + 1,))
    assert not changed(before, trainer.model)


class Seen(Callback):
    """What changed in each epoch."""

    def __init__(self) -> None:
        self.moved: list[set[str]] = []

    def on_fit_begin(self, trainer) -> None:
        self.before = arrays(trainer.model)

    def on_epoch_end(self, trainer, row) -> None:
        self.moved.append(changed(self.before, trainer.model))
        self.before = arrays(trainer.model)


STAGES = [["3.*"], ["1.*"], ["0.weight"]]


@pytest.mark.parametrize("statistics", [False, True])
def test_gradual_unfreezing_goes_stage_by_stage(statistics: bool) -> None:
    seen = Seen()
    trainer = trainer_of(net(), [GradualUnfreezing(STAGES, every_epochs=2, statistics=statistics), seen])
    fit(trainer, 7)
    head, norm, first = {"3.weight", "3.bias"}, {"1.weight", "1.bias"}, {"0.weight"}
    early = head if statistics else head | BUFFERS
    assert seen.moved == [early] * 2 + [head | norm | BUFFERS] * 2 + [head | norm | BUFFERS | first] * 3
    assert trainer.optimizer.state_dict()["steps"] == {
        "0.weight": 9,
        "0.bias": 0,
        "1.weight": 15,
        "1.bias": 15,
        "3.weight": 21,
        "3.bias": 21,
    }
    assert trainer.frozen == {"0.bias"}


def test_what_is_frozen_by_hand_stays_so_within_a_stage() -> None:
    trainer = trainer_of(net(), [GradualUnfreezing(STAGES, every_epochs=3)])
    fit(trainer, 1)
    trainer.freeze("3.bias")
    before = arrays(trainer.model)
    fit(trainer, 3)
    assert changed(before, trainer.model) == {"3.weight"} | BUFFERS


@pytest.mark.parametrize("steps", [2, 3, 7])
def test_gradual_unfreezing_resumes_exactly(tmp_path, steps: int) -> None:
    def build(*callbacks: Callback) -> Trainer:
        return trainer_of(net(), [GradualUnfreezing(STAGES, statistics=True), *callbacks])

    class Stop(Callback):
        def on_step_end(self, trainer, row) -> None:
            if row["step"] == steps:
                trainer.save(tmp_path)
                raise KeyboardInterrupt

    straight = build()
    fit(straight, 4)
    with pytest.raises(KeyboardInterrupt):
        fit(build(Stop()), 4)
    resumed = build(Stop())
    Trainer.resume(tmp_path, resumed)
    fit(resumed, 4)
    for name, array in arrays(straight.model).items():
        assert_same_bits(array, arrays(resumed.model)[name], name)
    assert straight.history.rows == resumed.history.rows
    assert straight.frozen == resumed.frozen == {"0.bias"}


def test_a_checkpoint_of_an_epoch_s_end_has_the_next_stage(tmp_path) -> None:
    callbacks = [Checkpoint(tmp_path), GradualUnfreezing(STAGES)]
    fit(trainer_of(net(), callbacks), 1)
    resumed = trainer_of(net(), [Checkpoint(tmp_path), GradualUnfreezing(STAGES)])
    Trainer.resume(tmp_path, resumed)
    assert resumed.frozen == {"0.weight", "0.bias"}


def deep() -> ss.nn.Sequential:
    block = ss.nn.Sequential(ss.nn.Linear(8, 8), ss.nn.LayerNorm(8), ss.nn.Tanh())
    return ss.nn.Sequential(ss.nn.Linear(6, 8), ss.nn.Tanh(), block, ss.nn.Linear(8, 2))


def test_rates_fall_from_the_top_down() -> None:
    model = deep()
    groups = layerwise_groups(model, 0.1, decay=0.5)
    assert [sorted({name.partition(".")[0] for name in group["params"]}) for group in groups] == [["3"], ["2"], ["0"]]
    assert [group["lr"] for group in groups] == [0.1, 0.05, 0.025]
    before = arrays(model)
    optimizer = ss.optim.SGD(groups)
    optimizer.step({name: np.ones_like(param) for name, param in optimizer.params.items()})
    for name, rate in (("3.weight", 0.1), ("2.1.bias", 0.05), ("0.bias", 0.025)):
        np.testing.assert_allclose(before[name] - model.parameters()[name], rate, rtol=1e-5)
    assert sorted(model.parameters()) == sorted(optimizer.params)


def test_schedules_are_scaled_and_biases_go_without_decay() -> None:
    model, schedule = deep(), ss.schedules.CosineAnnealing(0.1, T_max=10)
    groups = layerwise_groups(model, schedule, decay=0.5, no_decay=True)
    assert [("weight_decay" in group, sorted(group["params"])) for group in groups] == [
        (False, ["3.weight"]),
        (True, ["3.bias"]),
        (False, ["2.0.weight"]),
        (True, ["2.0.bias", "2.1.bias", "2.1.weight"]),
        (False, ["0.weight"]),
        (True, ["0.bias"]),
    ]
    assert groups[0]["lr"] is schedule
    for group, factor in zip(groups, (1, 1, 0.5, 0.5, 0.25, 0.25)):
        assert [group["lr"](step) for step in range(12)] == [schedule(step) * factor for step in range(12)]
    trainer = Trainer(model, optimizer=ss.optim.AdamW(groups))
    fit(trainer, 1)
    assert trainer.history["lr"] == [schedule(2)]
    again = ss.optim.AdamW(layerwise_groups(deep(), 0.3, no_decay=True))
    again.load_state_dict(trainer.optimizer.state_dict())
    assert again.groups[4]["lr"] == groups[4]["lr"]
