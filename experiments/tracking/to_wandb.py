"""Mirrors into a run of Weights & Biases, kept on disk unless it is to go online."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class WeightsAndBiases:
    """A run in `folder`/wandb; `wandb sync` sends an offline one later."""

    def __init__(self, folder: Path, name: str, online: bool) -> None:
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        identity = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
        self._wandb = wandb
        self._run = wandb.init(
            project="glyphlab", name=name, id=identity, resume="allow", dir=str(folder),
            mode="online" if online else "offline", settings=wandb.Settings(silent=True),
        )  # fmt: skip

    def settings(self, config: Mapping[str, Any]) -> None:
        """The run's configuration."""
        self._run.config.update(dict(config), allow_val_change=True)

    def metrics(self, step: int, time: float, values: Mapping[str, float]) -> None:
        """A row of the history, where "step" is the update."""
        self._run.log({**values, "step": step})

    def image(self, step: int, time: float, name: str, file: Path, caption: str) -> None:
        """The PNG with its caption."""
        self._run.log({name: self._wandb.Image(str(file), caption=caption), "step": step})

    def alarm(self, step: int, time: float, title: str, text: str) -> None:
        """A text under alarms."""
        self._run.log({f"alarms/{title}": self._wandb.Html(f"<p>{text}</p>"), "step": step})

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()
