"""Mirrors into MLflow: a SQLite file below the run's folder, or the server that MLFLOW_TRACKING_URI names."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

EXPERIMENT, IDENTITY = "glyphlab", "glyphlab.folder"
SERVER = "MLFLOW_TRACKING_URI"
DATABASE, ARTIFACTS = "mlflow.db", "artifacts"
ODD = re.compile(r"[^\w\-. :/]", re.ASCII)
"""what MLflow takes in no name"""
LONGEST, AT_ONCE = 6000, 100
"""Characters of a setting, and settings that are sent together, at most."""


class MLflow:
    """A run of the experiment `glyphlab`: `mlflow ui --backend-store-uri sqlite:///FOLDER/mlflow.db` shows an offline
    one."""

    def __init__(self, folder: Path, name: str, online: bool) -> None:
        """Raises ValueError where it is to go online and nobody says where."""
        if online and not os.environ.get(SERVER):
            raise ValueError(f"--online: set {SERVER} to the address of an MLflow server, such as http://host:5000")
        if not online:
            os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read when it is imported
        from mlflow import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        folder.mkdir(parents=True, exist_ok=True)
        self._client = MlflowClient(None if online else f"sqlite:///{(folder / DATABASE).resolve()}")
        self._id = self._opened(folder, name, online)
        self._client.update_run(self._id, status="RUNNING")

    def _opened(self, folder: Path, name: str, online: bool) -> str:
        """The run that mirrors this folder, made where there is none yet."""
        experiment = self._client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            location = None if online else (folder / ARTIFACTS).resolve().as_uri()
            where = self._client.create_experiment(EXPERIMENT, artifact_location=location)
        else:
            where = experiment.experiment_id
        identity = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
        runs = self._client.search_runs([where], f"tags.`{IDENTITY}` = '{identity}'")
        made = runs[0] if runs else self._client.create_run(where, tags={IDENTITY: identity}, run_name=name)
        return str(made.info.run_id)

    def settings(self, config: Mapping[str, Any]) -> None:
        """A parameter for each setting, by its dotted path, and all of them in settings.json."""
        from mlflow.entities import Param

        self._client.log_dict(self._id, dict(config), "settings.json")
        params = [Param(plain_name(path), text[:LONGEST]) for path, text in flat(config, "")]
        for i in range(0, len(params), AT_ONCE):
            self._client.log_batch(self._id, params=params[i : i + AT_ONCE])

    def metrics(self, step: int, time: float, values: Mapping[str, float]) -> None:
        """A value of each metric."""
        from mlflow.entities import Metric

        when = round(1000 * time)
        self._client.log_batch(self._id, [Metric(plain_name(name), x, when, step) for name, x in values.items()])

    def image(self, step: int, time: float, name: str, file: Path, caption: str) -> None:
        """The image under its name, with a slider over updates; its caption is a tag."""
        from PIL import Image

        with Image.open(file) as image:
            key = plain_name(name)
            self._client.log_image(self._id, image.convert("RGB"), key=key, step=step, timestamp=round(1000 * time))
        self._client.set_tag(self._id, f"caption.{key}", caption[:LONGEST])

    def alarm(self, step: int, time: float, title: str, text: str) -> None:
        """A tag, and a text under alarms."""
        name = plain_name(title).replace("/", "-")
        self._client.set_tag(self._id, f"alarm.{step}.{name}", text[:LONGEST])
        self._client.log_text(self._id, text, f"alarms/step_{step:06d}_{name}.txt")

    def close(self) -> None:
        """Say that nothing more comes for now."""
        self._client.set_terminated(self._id)


def plain_name(name: str) -> str:
    """A name that MLflow takes."""
    return ODD.sub("_", name)


def flat(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """(dotted path, text) of everything in a tree of settings."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from flat(inner, f"{path}.{name}".lstrip("."))
    else:
        yield path, str(value)
