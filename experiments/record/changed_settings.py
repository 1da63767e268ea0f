"""What may be changed of a run that goes on, and how settings differ.

A run that goes on with other settings is recorded as such: `changes` in run.json has a line for each time, with the
update from which they hold. What says which model learns from which data stays: a result must belong to one of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

CHANGEABLE = (
    "experiment.optim.", "experiment.save_every", "experiment.minutes", "experiment.peak_tflops", "experiment.compile",
    "experiment.zero_stage", "experiment.memory.offload", "experiment.memory.recompute", "experiment.wait_minutes",
    "experiment.scorer_minutes", "experiment.algorithm.steps", "experiment.algorithm.clip", "experiment.algorithm.beta",
    "experiment.algorithm.advantage_clip", "experiment.monitors.every", "experiment.monitors.on_alarm",
    "experiment.monitors.beta_", "experiment.monitors.evidence", "experiment.data.folder", "own_images.left_out",
    "experiment.producers", "experiment.ring_gigabytes",
)  # fmt: skip
"""Beginnings of the settings that may change while a run goes on: how it learns, is watched and saved.
A folder of images may move: the fingerprint of a run says that they are still the same."""


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """What differs between two settings as `plain` gives them, as `a.b: 1 -> 2`."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = [*old, *(name for name in new if name not in old)]
        missing = "(absent)"
        return [
            text
            for name in names
            for text in differences(old.get(name, missing), new.get(name, missing), f"{path}.{name}".lstrip("."))
        ]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [
            text for i, pair in enumerate(zip(old, new, strict=True)) for text in differences(*pair, f"{path}[{i}]")
        ]
    return [] if old == new else [f"{path}: {json.dumps(old)} -> {json.dumps(new)}"]


def require_changeable(folder: object, changed: Sequence[str], finished: bool, changeable: Sequence[str]) -> None:
    """Raises ValueError when a run cannot go on with these differences."""
    refused = [text for text in changed if not text.startswith(tuple(changeable))]
    listed = refused or changed
    shown = "; ".join(listed[:5]) + (f"; and {len(listed) - 5} more" if len(listed) > 5 else "")
    if refused:
        raise ValueError(
            f"{folder} holds a run with other settings ({shown}). Choose another folder, or delete this one"
        )
    if changed and finished:
        raise ValueError(
            f"{folder} holds a run with other settings ({shown}), and it is finished. Choose another folder; to train "
            f"on from its model, start one with --parent {folder}"
        )


def note(update: int, when: str, changed: Sequence[str]) -> Mapping[str, Any]:
    """What run.json says of one change: it holds from `update` on."""
    return {"update": update, "at": when, "settings": list(changed)}
