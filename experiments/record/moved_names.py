"""Names in run.json of older versions, and what they are called now: settings are recorded with their class's name."""

from __future__ import annotations

import re
from typing import Any

MOVED_MODULES = {
    "base_model.data.pages": "base_model.data.rendered_pages",
    "base_model.engine": "base_model.engine.engine",
    "base_model.masters": "base_model.engine.mixed_precision",
    "base_model.positions": "base_model.qwen.positions",
    "base_model.sight": "base_model.qwen.coarse_encoder",
}
"""Modules of older versions whose classes and functions were settings of an experiment, with where they are now."""

MOVED_CLASSES: dict[str, str] = {
    "alignment.trajectory.Walk": "alignment.trajectory.Exploration",
    "rewards.learned.train.TrainReward": "rewards.learned.reward_settings.TrainReward",
}
"""Classes and functions with another name today, as dotted paths of today's modules."""
MOVED_FIELDS: dict[str, str] = {
    "walk": "exploration",
    "wall": "grid_images",
    "judge_minutes": "scorer_minutes",
}
"""Settings with another name today; a name means the same in every class of settings."""


def current_name(path: str) -> str:
    """The dotted path of a class or function today; `path` itself where it has not moved."""
    module, _, name = path.rpartition(".")
    here = f"{MOVED_MODULES[module]}.{name}" if module in MOVED_MODULES else path
    return MOVED_CLASSES.get(here, here)


def current_setting(path: str) -> str:
    """A setting's dotted path, or an option such as --algorithm.micro=4, with today's names of settings."""
    name, equals, value = path.partition("=")
    parts = re.split(r"(\W*[.]|^-+)", name)
    moved = [MOVED_FIELDS.get(part.replace("-", "_"), part) for part in parts]
    if moved == parts:
        return path
    return (
        "".join(moved if "_" in name or not name.startswith("-") else [m.replace("_", "-") for m in moved])
        + equals
        + value
    )


def with_current_names(settings: Any) -> Any:
    """Settings as run.json has them, with today's names of classes and functions."""
    if isinstance(settings, dict):
        return {MOVED_FIELDS.get(name, name): with_current_names(value) for name, value in settings.items()}
    if isinstance(settings, list):
        return [with_current_names(item) for item in settings]
    return current_name(settings) if isinstance(settings, str) else settings
