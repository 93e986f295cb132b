"""The folder of a run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from stepsmith.config.problems import ConfigError

__all__ = ["Layout"]


class Layout:
    """Where the files of a run are.

    Args:
        folder: Of the run.

    Attributes:
        config: The config as it was used.
        data: What a program needs to prepare inputs and to name labels, and the data's hash.
        summary: The model's layers.
        csv: The history.
        jsonl: The history with all columns.
        checkpoints: What `Trainer.resume` reads.
        curves: Learning curves.
        model: Parameters and buffers at the end.
        report: Final figures.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config, self.data = folder / "config.toml", folder / "data.json"
        self.summary, self.report = folder / "summary.txt", folder / "report.json"
        self.csv, self.jsonl = folder / "history.csv", folder / "history.jsonl"
        self.curves, self.model = folder / "curves.png", folder / "model.safetensors"
        self.checkpoints, self._tensorboard = folder / "checkpoints", folder / "tensorboard"
        self._statistics = folder / "statistics.jsonl"

    def arguments(self) -> dict[str, dict[str, Any]]:
        """By class of callback its arguments that are places in the folder."""
        return {
            "Checkpoint": {"folder": self.checkpoints},
            "CSVLogger": {"path": self.csv, "overwrite": True},
            "JSONLogger": {"path": self.jsonl, "overwrite": True},
            "Statistics": {"path": self._statistics, "overwrite": True},
            "TensorBoard": {"folder": self._tensorboard},
        }

    def check(self, resume: bool, force: bool) -> None:
        """Refuse what would lose something.

        Raises:
            ConfigError: A run that must be there and is not, or the reverse.
        """
        folder = self.folder
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"the output must be a folder, got {folder}")
        if resume and not self.config.is_file():
            raise ConfigError(f"--resume needs a run, got none in {folder}")
        if resume or not folder.exists() or not any(folder.iterdir()):
            return
        if not self.config.is_file():
            raise ConfigError(f"the output must be new or the folder of a run, got {folder}, which holds other files")
        if not force:
            raise ConfigError(f"the run {folder} exists; --resume goes on with it, --force replaces it")

    def has_checkpoint(self) -> bool:
        """Whether there is something to go on from."""
        return self.checkpoints.is_dir() and any(entry.name.startswith("step-") for entry in self.checkpoints.iterdir())

    def clear(self) -> None:
        """Take away what an earlier run left, and nothing else."""
        for path in vars(self).values():
            if path == self.folder:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
