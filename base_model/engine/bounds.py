"""Refuses numbers of settings that cannot work, by their names, before anything is computed from them.

A comparison with NaN is false, so a setting that is checked as `value < least` lets NaN pass; here it is refused.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any


def require_at_least(settings: Any, least: float, *names: str) -> None:
    """Raises ValueError naming the first of these settings that is below `least`, or not a number."""
    for name in names:
        if not (value := getattr(settings, name)) >= least:
            raise ValueError(f"{name}={value} must be at least {least:g}")


def require_above(settings: Any, bound: float, *names: str) -> None:
    """Raises ValueError naming the first of these settings that is not above `bound`, or not a number."""
    for name in names:
        if not (value := getattr(settings, name)) > bound:
            raise ValueError(f"{name}={value} must be above {bound:g}")


def require_finite(settings: Any, where: str = "") -> None:
    """Raises ValueError naming the first number in a dataclass, or in one inside it, that is NaN or infinite.

    `where` is put in front of its name, such as "algorithm.".
    """
    for field in dataclasses.fields(settings):
        value, name = getattr(settings, field.name), f"{where}{field.name}"
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            require_finite(value, f"{name}.")
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, float) and not math.isfinite(number):
                raise ValueError(f"{name}={value} must be finite; give it a number, or leave it out")
