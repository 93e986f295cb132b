"""What a trainer is fed: arrays, mapped arrays, datasets, streams; sizes, windows, augmentation, prefetching."""

import threading

import numpy as np
import pytest

import stepsmith as ss
from stepsmith.train import Clock
from stepsmith.train.loader import Loader
from stepsmith.train.prefetch import Prefetched
from stepsmith.train.sources import Arrays, Dataset, Stream, open_source, split
from test_train import X, Y, build, copy, same


class Pairs:
    """A dataset that is no array, each sample made when it is asked for."""

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self.x, self.y, self.asked = x, y, []

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        self.asked.append(index)
        return self.x[index], int(self.y[index])


def fitted(data, epochs: int = 3, **options) -> ss.Trainer:
    trainer = build()
    trainer.fit(data, epochs=epochs, progress=False, **{"batch_size": 16, **options})
    return trainer


def micros(loader: Loader, **clock) -> list[tuple[np.ndarray, int, bool]]:
    return [(micro.batch[0].copy(), micro.samples, micro.is_last) for micro in loader.epoch(Clock(**clock))]


def test_datasets_and_mapped_arrays_train_to_the_bits_of_arrays(tmp_path) -> None:
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    want = copy(fitted((X, Y)))
    assert same(want, copy(fitted((mapped, Y))))
    assert same(want, copy(fitted(Pairs(X, Y))))
    assert same(want, copy(fitted([X, Y])))
    assert same(want, copy(fitted((X, Y), prefetch=3)))
    assert not same(want, copy(fitted((X, Y), shuffle=False)))


def test_iterables_train_on_their_batches() -> None:
    class Batches:
        def __iter__(self):
            return (tuple(array[i : i + 16] for array in (X, Y)) for i in range(0, 70, 16))

    want = copy(fitted((X, Y), shuffle=False))
    assert same(want, copy(fitted(Batches())))
    assert same(want, copy(fitted(Batches(), prefetch=2)))
    stream = ((X[i : i + 16], Y[i : i + 16]) for _ in range(3) for i in range(0, 70, 16))
    trainer = fitted(stream, steps_per_epoch=5)
    assert same(want, copy(trainer))
    assert (trainer.clock.drawn, trainer.clock.epoch, next(stream, None)) == (15, 3, None)


def test_a_plain_iterator_goes_on_in_the_next_fit() -> None:
    def stream():
        return iter([(X[i : i + 7], Y[i : i + 7]) for i in range(0, 63, 7)] * 4)

    straight = fitted(stream(), epochs=4, steps_per_epoch=2, accumulate=2)
    parts, batches = build(), stream()
    for epochs in (1, 2, 4):
        parts.fit(batches, epochs=epochs, steps_per_epoch=2, accumulate=2, progress=False)
    assert same(copy(straight), copy(parts))
    with pytest.raises(ValueError, match=r"data must go on after 0 batches, got an iterator that is past them"):
        open_again(batches)


def open_again(batches) -> None:
    source = Stream(batches)
    next(source.batches(0, 0))
    for _ in source.batches(0, 1):
        pass
    next(source.batches(0, 0))


def test_torch_like_tensors_come_in_batches() -> None:
    class Tensor:
        dtype = "torch.float32"
        device = "cpu"

        def __init__(self, array: np.ndarray) -> None:
            self.array = array

        def detach(self) -> "Tensor":
            return self

        def numpy(self) -> np.ndarray:
            return self.array

    batches = list(Stream([[Tensor(X), Tensor(Y)]]).batches(0, 0))
    assert batches[0][0] is X


def test_windows_and_sizes_are_functions_of_the_clock() -> None:
    loader = Loader(Arrays((np.arange(23),)), lambda step: 2 + step, accumulate=2, shuffle=False)
    whole = micros(loader)
    assert [samples for _, samples, _ in whole] == [2, 2, 3, 3, 4, 4, 5]
    assert [is_last for *_, is_last in whole] == [False, True, False, True, False, True, True]
    assert (np.concatenate([batch for batch, *_ in whole]) == np.arange(23)).all()
    rest = micros(loader, position=10, step=2, epoch_steps=2)
    assert [samples for _, samples, _ in rest] == [4, 4, 5]
    assert rest[0][0].tolist() == [10, 11, 12, 13]
    limited = Loader(Arrays((np.arange(23),)), lambda _step: 2, accumulate=2, steps=3)
    assert len(micros(limited)) == 6
    assert len(micros(limited, position=8, step=2, epoch_steps=2)) == 2
    assert micros(limited, position=12, step=3, epoch_steps=3) == []


def test_a_rest_can_be_dropped() -> None:
    loader = Loader(Arrays((np.arange(23),)), lambda step: 4 + step, accumulate=2, shuffle=False, drop_last=True)
    assert [(samples, is_last) for _, samples, is_last in micros(loader)] == [
        (4, False),
        (4, True),
        (5, False),
        (5, True),
    ]
    assert micros(loader, position=18, step=2, epoch_steps=2) == []
    odd = Loader(Arrays((np.arange(11),)), 4, accumulate=3, drop_last=True)
    assert [micro[1:] for micro in micros(odd)] == [(4, False), (4, True)]
    trainer = fitted((X, Y), drop_last=True)
    assert trainer.history["step"] == [4, 8, 12]
    assert trainer.clock.samples == 3 * 64
    with pytest.raises(ValueError, match="data must have a batch for epoch 1, got none"):
        fitted((X, Y), batch_size=71, drop_last=True)


def test_data_that_have_ended_are_an_error() -> None:
    """No epochs of nothing."""
    batches = [(X[i : i + 16], Y[i : i + 16]) for i in range(0, 64, 16)]
    trainer = build()
    with pytest.raises(ValueError, match="data must have a batch for epoch 2, got none"):
        trainer.fit(iter(batches), epochs=4, progress=False)
    assert (len(trainer.history), trainer.clock.step) == (1, 4)
    trainer.fit(iter(batches), epochs=2, progress=False)
    assert trainer.clock.step == 8, "another iterator begins at its own beginning"
    with pytest.raises(ValueError, match="data must have a batch for epoch 1, got none"):
        build().fit(iter([]), progress=False)


def test_a_growing_batch_size_is_used_and_checked() -> None:
    trainer = build()
    trainer.fit((X, Y), epochs=2, batch_size=ss.schedules.MultiStep(8, (3,), gamma=4.0), progress=False)
    # 3 steps of 8, 46 more samples in steps of 32: 5 steps, then an epoch of 3.
    assert trainer.history["step"] == [5, 8]
    with pytest.raises(ValueError, match=r"batch_size at step 0 must be at least 1, got 0"):
        build().fit((X, Y), batch_size=lambda _step: 0.4, progress=False)


def test_augmentation_depends_on_seed_epoch_and_position_alone() -> None:
    def augment(batch, rng):
        batch[0] += rng.normal(size=batch[0].shape).astype(np.float32)
        return batch

    before = X.copy()
    loader = Loader(Arrays((X, Y)), lambda _step: 16, augment=augment, seed=3, shuffle=False)
    first, second, other = (micros(loader, epoch=epoch) for epoch in (0, 0, 1))
    assert all((a[0] == b[0]).all() for a, b in zip(first, second, strict=True))
    assert not (first[0][0] == other[0][0]).any()
    assert (micros(loader, position=32, step=2)[0][0] == first[2][0]).all()
    assert (before == X).all(), "the user's data stay as they are"
    assert not same(copy(fitted((X, Y))), copy(fitted((X, Y), augment=augment)))
    assert same(copy(fitted((X, Y), augment=augment)), copy(fitted((X, Y), augment=augment, prefetch=2)))


def test_prefetched_batches_hold_as_long_as_they_are_in_use() -> None:
    loader = Loader(Arrays((np.arange(1000),)), lambda _step: 7, prefetch=3)
    kept = [(micro.batch[0], micro.batch[0].copy()) for micro in loader.epoch(Clock())]
    ahead = iter(loader.epoch(Clock()))
    held = next(ahead).batch[0]
    want = held.copy()
    for _ in range(100):
        assert (held == want).all()
    ahead.close()
    assert len(kept) == 143
    assert sorted(np.concatenate([copied for _, copied in kept]).tolist()) == list(range(1000))


def test_the_thread_ends_with_its_epoch_and_hands_errors_over() -> None:
    def bad():
        yield 1
        raise ValueError("broken data")

    ahead = Prefetched(bad(), depth=1)
    items = iter(ahead)
    assert next(items) == 1
    with pytest.raises(ValueError, match="broken data"):
        next(items)
    ahead.close()
    endless = Prefetched(iter(int, 1), depth=2)
    endless.close()
    with pytest.raises(RuntimeError, match="augment"):
        fitted((X, Y), augment=broken, prefetch=2)
    assert not [thread for thread in threading.enumerate() if thread.name == "stepsmith-prefetch"]


def broken(_batch, _rng):
    raise RuntimeError("augment")


@pytest.mark.parametrize("data", [(X, Y), Pairs(X, Y)], ids=["arrays", "dataset"])
def test_a_validation_part_is_held_out(data) -> None:
    source = open_source("data", data)
    train, held = split(source, 0.3, seed=5)
    again = split(source, 0.3, seed=5)[1]
    assert (held.samples, train.samples) == (21, 49)
    assert (held.rows == again.rows).all()
    assert sorted([*train.rows, *held.rows]) == list(range(70))
    assert (split(source, 0.3, seed=6)[1].rows != held.rows).any()
    trainer = fitted(data, validation=0.3)
    assert trainer.clock.samples == 3 * 49
    seed_split = split(source, 0.3, trainer.seed)[1]
    assert trainer.history["val_loss"][-1] == trainer.evaluate((X[seed_split.rows], Y[seed_split.rows]))["loss"]


def test_class_weights_are_sample_weights() -> None:
    weights = np.where(Y == 1, 3.0, 0.5)
    by_class, by_sample = fitted((X, Y), class_weight={1: 3.0, 0: 0.5}), fitted((X, Y, weights))
    assert same(copy(by_class), copy(by_sample))
    assert not same(copy(by_class), copy(fitted((X, Y))))
    both = fitted((X, Y, weights), class_weight={1: 2.0})
    assert same(copy(both), copy(fitted((X, Y, weights * np.where(Y == 1, 2.0, 1.0)))))
    counts = np.bincount(Y)
    balanced = fitted((X, Y), class_weight="balanced")
    assert same(copy(balanced), copy(fitted((X, Y), class_weight=dict(enumerate(len(Y) / (2 * counts))))))


@pytest.mark.parametrize(
    ("data", "options", "error", "message"),
    [
        (5, {}, TypeError, r"data must be a tuple of arrays, an object with .*, got int"),
        (Pairs(X[:0], Y[:0]), {}, ValueError, r"data must not be empty, got a length of 0"),
        ((X, Y), {"validation": 1.5}, ValueError, r"must leave samples on both sides of 70, got 1.5"),
        ((X, Y), {"validation": iter([(X, Y)])}, TypeError, r"validation must be .* read again, got a plain iterator"),
        (iter([(X, Y)]), {"validation": 0.5}, TypeError, r"validation must be data of its own beside an iterable"),
        (iter([X]), {}, TypeError, r"data must yield tuples such as \(inputs, targets\), got ndarray"),
        ((X, Y), {"accumulate": 0}, ValueError, r"accumulate must be at least 1, got 0"),
        ((X, Y), {"prefetch": -1}, ValueError, r"prefetch must be at least 0, got -1"),
        ((X, Y), {"steps_per_epoch": 0}, ValueError, r"steps_per_epoch must be at least 1, got 0"),
        ((X, Y), {"class_weight": "even"}, ValueError, r"class_weight must be one of balanced, got 'even'"),
        ((X, Y), {"class_weight": {0: -1.0}}, ValueError, r"class_weight\[0\] must be finite and at least 0, got -1.0"),
        ((X, Y), {"class_weight": [1.0]}, TypeError, r"class_weight must be 'balanced' or a mapping"),
        ((X, Y), {"validation_weights": "ema"}, ValueError, r"weights must be one of live, got 'ema'"),
        ((X, Y, Y), {}, TypeError, r"sample_weight must have dtype float32 or float64, got int64"),
    ],
)
def test_bad_data_are_named(data, options, error, message) -> None:
    trainer = build()
    before = copy(trainer)
    with pytest.raises(error, match=message):
        trainer.fit(data, progress=False, **options)
    assert same(before, copy(trainer))


def test_a_dataset_must_give_tuples() -> None:
    class Bare(Pairs):
        def __getitem__(self, index: int):
            return self.x[index]

    with pytest.raises(TypeError, match=r"data\[\d+\] must be a tuple such as \(x, y\), got ndarray"):
        build().fit(Bare(X, Y), progress=False)
    assert isinstance(open_source("data", Bare(X, Y)), Dataset)
