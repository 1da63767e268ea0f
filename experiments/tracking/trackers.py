"""What a tracker is to us, and the trackers there are. Each writes below the run's folder first and needs no network.

A tracker is given what a run's folder says, in the order of updates. Its package is imported when it is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol

from preference_data.spelling import unknown

TrackerName = Literal["tensorboard", "wandb", "trackio", "mlflow"]
"""What --track and --to take."""


class Tracker(Protocol):
    """Somewhere that a run is shown. Times are seconds since 1970."""

    def settings(self, config: Mapping[str, Any]) -> None:
        """What the run was started with, once."""
        ...

    def metrics(self, step: int, time: float, values: Mapping[str, float]) -> None:
        """The metrics of an update; NaN = not known."""
        ...

    def image(self, step: int, time: float, name: str, file: Path, caption: str) -> None:
        """A PNG that the run kept after an update, under a name that is the same for every update."""
        ...

    def alarm(self, step: int, time: float, title: str, text: str) -> None:
        """What a monitor raised after an update."""
        ...

    def close(self) -> None:
        """All was told that there is for now."""
        ...


Open = Callable[[Path, str, bool], Tracker]
"""Opens a tracker: folder for its files, the run's name, and whether to go online where the tracker can."""


def opens(module: str, kind: str) -> Open:
    """Opens a class of a module of this folder, which is imported then."""
    return lambda *opening: getattr(import_module(f"experiments.tracking.{module}"), kind)(*opening)


TRACKERS: dict[str, Open] = {
    "tensorboard": opens("to_tensorboard", "TensorBoard"), "wandb": opens("to_wandb", "WeightsAndBiases"),
    "trackio": opens("to_trackio", "Trackio"), "mlflow": opens("to_mlflow", "MLflow"),
}  # fmt: skip
"""By the name that --track and --to take."""
EXTRAS = {"tensorboard": "track", "wandb": "track"}
"""Names of the extras of this package that install a tracker, where that is not its own name."""


def installation(name: str) -> str:
    """The command that installs a tracker."""
    return f"pip install 'glyphlab[{EXTRAS.get(name, name)}]'"


def open_tracker(name: str, folder: Path, run: str, online: bool = False) -> Tracker:
    """The tracker of that name. Raises ValueError when it is unknown, or its package is not installed."""
    if name not in TRACKERS:
        raise ValueError(unknown("tracker", name, TRACKERS))
    try:
        return TRACKERS[name](folder, run, online)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"the tracker {name} needs a package that is not installed ({error}): {installation(name)}"
        ) from error
