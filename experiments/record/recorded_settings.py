"""Settings as run.json has them, back to the values that they were."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from experiments.record.moved_names import MOVED_FIELDS, current_name

FUNCTIONS = ("alignment.tied_dpo.", "base_model.flow.", "base_model.qwen.positions.", "base_model.qwen.coarse_encoder.")
"""Where settings that are functions live."""


def rebuild(settings: Any) -> Any:
    """The dataclasses and functions of settings that `plain` made. What a later version added has its default.

    Raises ValueError when a class or a field no longer exists.
    """
    if isinstance(settings, list):
        return tuple(rebuild(item) for item in settings)
    if isinstance(settings, str) and current_name(settings).startswith(FUNCTIONS):
        return named(settings)
    if not isinstance(settings, Mapping):
        return settings
    fields = {MOVED_FIELDS.get(name, name): rebuild(value) for name, value in settings.items() if name != "class"}
    if "class" not in settings:
        return fields
    try:
        return named(settings["class"])(**fields)
    except TypeError as error:
        raise ValueError(f"the run was made with another version of {settings['class']}: {error}") from error


def named(path: str) -> Any:
    """The object of a dotted path. Raises ValueError when it is gone, or not ours."""
    module, _, name = current_name(path).rpartition(".")
    if module.split(".")[0] not in {"base_model", "alignment", "experiments"}:
        raise ValueError(
            f"run.json names {path!r}, which is not a part of this project; restore run.json, or begin a new run"
        )
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"the run was made with a version that had {path}, which is gone") from error
