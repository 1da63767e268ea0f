"""Mirrors into Trackio: its SQLite file below the run's folder, or the Space or server that its variables name."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from experiments.record.whole_files import write_json

PROJECT = "glyphlab"
ELSEWHERE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")
ANYWHERE = (*ELSEWHERE, "TRACKIO_BUCKET_ID", "TRACKIO_DATASET_ID", "TRACKIO_WEBHOOK_URL")
"""Variables by which Trackio sends something away."""


def opened(folder: Path, online: bool) -> ModuleType:
    """Trackio, for files in `folder`. It reads where its files are when it is imported, so it is imported anew for
    another folder. Raises ValueError where it is to go online and nobody says where."""
    if online and not any(os.environ.get(name) for name in ELSEWHERE):
        raise ValueError(f"--online: set {' or '.join(ELSEWHERE)} to where Trackio is to send the run")
    if not online:
        for name in ANYWHERE:
            os.environ.pop(name, None)
    os.environ["TRACKIO_DIR"] = str(folder.resolve())
    for name in [name for name in sys.modules if name.partition(".")[0] == "trackio"]:
        del sys.modules[name]
    import trackio

    return trackio


class Trackio:
    """A run of the project `glyphlab`: `TRACKIO_DIR=FOLDER trackio show --project glyphlab` shows an offline one."""

    def __init__(self, folder: Path, name: str, online: bool) -> None:
        """Raises ValueError as `opened`."""
        folder.mkdir(parents=True, exist_ok=True)
        self._trackio, self._name = opened(folder, online), name
        self._settings = folder / "settings.json"
        self._run: Any = None

    def _begun(self) -> Any:
        """The run. It takes its settings when it begins, and would forget them when it is opened again without."""
        if self._run is None:
            known = json.loads(self._settings.read_text(encoding="utf-8")) if self._settings.exists() else None
            with quiet():
                self._run = self._trackio.init(
                    project=PROJECT, name=self._name, resume="allow", config=known, embed=False, auto_log_gpu=False,
                    auto_log_cpu=False,
                )  # fmt: skip
        return self._run

    def settings(self, config: Mapping[str, Any]) -> None:
        """The run's configuration."""
        write_json(self._settings, dict(config))
        self._begun()

    def metrics(self, step: int, time: float, values: Mapping[str, float]) -> None:
        """A row of metrics."""
        self._begun().log(dict(values), step=step)

    def image(self, step: int, time: float, name: str, file: Path, caption: str) -> None:
        """The PNG with its caption."""
        self._begun().log({name: self._trackio.Image(str(file), caption=caption)}, step=step)

    def alarm(self, step: int, time: float, title: str, text: str) -> None:
        """An alert; Trackio gives it the update that it was told last, so its text says which it was."""
        with quiet():
            level = self._trackio.AlertLevel.WARN
            self._begun().alert(title=title, text=f"after update {step}: {text}", level=level)

    def close(self) -> None:
        """Write what is still on its way."""
        if self._run is not None:
            with quiet():
                self._trackio.finish()  # and not the run's own: this one is not told again when the process ends


def quiet() -> contextlib.AbstractContextManager[Any]:
    """Keep what Trackio prints from the terminal."""
    return contextlib.redirect_stdout(io.StringIO())
