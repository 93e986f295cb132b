"""A model of characters: it learns to write like Python's own documentation, from the text of `pydoc_data.topics`.

The figure is bits per character on the last tenth of the text: the mean of -log2 of the probability that the model gave
to each character that came. Counting does well on such a text: the baselines are the counts of what followed the last
few characters, each mixed with those of a shorter past (Witten and Bell 1991).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from math import ceil, log, log2
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import numpy.typing as npt

from stepsmith import Trainer, nn, optim, schedules
from stepsmith.recipes import _common

Array = npt.NDArray[Any]

KINDS = "lstm", "gru", "attention"
EPOCHS = {"lstm": 6, "gru": 6, "attention": 4}
STEPS = 96
"""Length of a training sequence, and of the past that attention sees."""


BATCH_SIZE = 16


def network(kind: str, characters: int, width: int, seed: int) -> nn.Sequential:
    """Characters (samples, time) to logits of the next ones (samples, time, characters)."""
    if kind == "attention":
        middle = [nn.PositionalEmbedding(STEPS, width), block(width), block(width), nn.LayerNorm(width)]
    else:
        middle = [{"lstm": nn.LSTM, "gru": nn.GRU}[kind](width, width)]
    return nn.Sequential(
        nn.Embedding(characters, width), *middle, nn.Dropout(0.1), nn.Linear(width, characters), seed=seed
    )


def block(width: int) -> nn.Sequential:
    """A block of a transformer, norms first."""
    return nn.Sequential(
        nn.Residual(nn.LayerNorm(width), nn.MultiHeadAttention(width, 4, causal=True)),
        nn.Residual(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)),
    )


def sequences(codes: Array) -> tuple[Array, Array]:
    """The text in pieces, and the same one character later."""
    end = (len(codes) - 1) // STEPS * STEPS
    return codes[:end].reshape(-1, STEPS), codes[1 : end + 1].reshape(-1, STEPS)


def counted(train: str, held_out: str, order: int) -> float:
    """Bits per character by the counts of what followed the last `order` characters.

    p(c) = (count(past, c) + kinds(past)·p'(c)) / (count(past) + kinds(past)), p' the same of a past one shorter; under
    the shortest of all each character is as likely.
    """
    followers: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for length in range(order + 1):
        for i in range(length, len(train)):
            followers[train[i - length : i]][train[i]] += 1
    alphabet, bits = len(set(train + held_out)), 0.0
    for i in range(order, len(held_out)):
        p = 1 / alphabet
        for length in range(order + 1):
            counts = followers.get(held_out[i - length : i])
            if counts is not None:
                p = (counts[held_out[i]] + len(counts) * p) / (counts.total() + len(counts))
        bits -= log2(p)
    return bits / (len(held_out) - order)


def written(model: nn.Sequential, codes: list[int], length: int, seed: int) -> list[int]:
    """The characters and so many more, each drawn from the model's probabilities, somewhat sharpened."""
    layer, rng = model.modules[1], np.random.default_rng(seed)
    if not isinstance(layer, nn.LSTM | nn.GRU):
        for _ in range(length):
            codes = [*codes, drawn(model(np.array([codes[-STEPS:]])), rng)]
        return codes
    logits = model(np.array([codes]))
    for _ in range(length):
        # The state goes on from where it was, so that each character costs one step.
        layer.initial_state = layer.last_state
        codes = [*codes, drawn(logits, rng)]
        logits = model(np.array([codes[-1:]]))
    layer.initial_state = None
    return codes


def drawn(logits: Array, rng: np.random.Generator) -> int:
    """A character after the last step: the largest of logits / 0.7 + Gumbel noise."""
    last = logits[0, -1]
    return int(np.argmax(last / 0.7 + rng.gumbel(size=last.shape)))


def train(
    model: nn.Sequential, data: tuple[Array, Array], held_out: tuple[Array, Array], epochs: int, seed: int
) -> Trainer:
    """Under a rate that rises and falls; gradients are clipped."""
    rate = schedules.OneCycle(0.01, total_steps=epochs * ceil(len(data[0]) / BATCH_SIZE))
    optimizer = optim.AdamW(model.parameters(), lr=rate, max_norm=1.0)
    trainer = Trainer(model, nn.CrossEntropy(axis=-1), optimizer=optimizer, seed=seed, blas_threads=1)
    trainer.fit(data, held_out, epochs=epochs, batch_size=BATCH_SIZE)
    return trainer


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Train, print the table and some text, draw the learning curve; return the bits per character."""
    options = _common.options("characters", "A model of characters.", arguments, {"model": KINDS})
    text = "\n".join(topics.values())
    text, epochs, width = (text[:60_000], 1, 32) if options.quick else (text, EPOCHS[options.model], 128)
    cut = len(text) * 9 // 10
    alphabet = np.array(sorted(set(text)))
    codes = np.searchsorted(alphabet, np.array(list(text)))
    model = network(options.model, len(alphabet), width, options.seed)
    trainer = train(model, sequences(codes[:cut]), sequences(codes[cut:]), epochs, options.seed)
    curve = [loss / log(2) for loss in trainer.history["val_loss"]]
    orders = (0, 2) if options.quick else (0, 2, 4, 6)
    bits = {f"counts after {order}": counted(text[:cut], text[cut:], order) for order in orders}
    bits[options.model] = curve[-1]
    table = _common.Table(("model", "bits per character"), "<>")
    for name, value in bits.items():
        table.add(name, f"{value:.3f}")
    print(table)
    more = written(model, codes[cut : cut + STEPS].tolist(), 40 if options.quick else 400, options.seed)
    characters = "".join(alphabet[more])
    print(f"\n...{characters[STEPS - 30 : STEPS]}|{characters[STEPS:]}...\n")
    curves = {name: (trainer.history["epoch"], [value] * len(curve)) for name, value in bits.items()}
    curves[options.model] = trainer.history["epoch"], curve
    _common.plot(options.output / f"characters_{options.model}.png", curves, "epoch", "bits per character")
    return bits


if __name__ == "__main__":
    main()
