"""What a tracker is to us, and the trackers there are. Each writes below the run's folder first and needs no network.

A tracker is given what a run's folder says, in the order of updates. Its package is imported when it is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol


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


def open_tensorboard(folder: Path, name: str, online: bool) -> Tracker:
    """TensorBoard's event files."""
    from experiments.tracking.to_tensorboard import TensorBoard

    return TensorBoard(folder)


def open_wandb(folder: Path, name: str, online: bool) -> Tracker:
    """Weights & Biases, as an offline run that `wandb sync` sends."""
    from experiments.tracking.to_wandb import WeightsAndBiases

    return WeightsAndBiases(folder, name, online)


TRACKERS: dict[str, Open] = {"tensorboard": open_tensorboard, "wandb": open_wandb}
"""By the name that --track and --to take."""
EXTRA = "pip install 'glyphlab[track]'"


def open_tracker(name: str, folder: Path, run: str, online: bool = False) -> Tracker:
    """The tracker of that name. Raises ValueError when it is unknown, or its package is not installed."""
    if name not in TRACKERS:
        raise ValueError(f"there is no tracker {name!r}; choose one of {', '.join(TRACKERS)}")
    try:
        return TRACKERS[name](folder, run, online)
    except ModuleNotFoundError as error:
        raise ValueError(f"the tracker {name} needs a package that is not installed ({error}): {EXTRA}") from error
