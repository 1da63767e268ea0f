"""What a filter is: thresholds, and which images they drop. It reads stored numbers; the folder `measures` makes them.

Each filter is a file of its own in the folder of its stage, with its threshold, unit, reason and source.

A filter compares one column of measured numbers with its thresholds. NaN means "not measured" and is never dropped,
because every comparison with NaN is false. Columns are arrays with one element an image, or one a caption.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar, dataclass_transform

import numpy as np

Columns = Mapping[str, np.ndarray]
FOREVER = float("inf")
REPORT = "Qwen-Image technical report, section 3.2"
"""where the filters of the seven stages are listed, without thresholds"""


@dataclass_transform(frozen_default=True)
class Filter:
    """Thresholds of one number. A subclass sets them and says what the number is, and why its line is where it is.

    Every subclass is a frozen dataclass, without saying so.
    """

    stage: ClassVar[int]
    column: ClassVar[str]
    unit: ClassVar[str]
    reason: ClassVar[str]
    source: ClassVar[str]
    rendered: ClassVar[bool] = False
    """whether rendered pages can be dropped, too"""
    of_captions: ClassVar[bool] = False
    """whether it drops captions; an image goes with its last caption"""
    group: ClassVar[str] = ""
    """the group of measures that its number is of, where it may fail"""

    def __init_subclass__(cls) -> None:
        dataclass(frozen=True)(cls)

    def bounds(self) -> dict[str, float]:
        """The thresholds that can drop anything, by name: `least`, `most` or both."""
        values = {name: getattr(self, name) for name in ("least", "most") if hasattr(self, name)}
        return {name: value for name, value in values.items() if math.isfinite(value)}

    def choices(self) -> dict[str, str]:
        """What it is about where one can choose, as `--set` takes it: classes, scripts or categories."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: "|".join(value) for name, value in values.items() if isinstance(value, tuple) and value}

    def shown(self, columns: Columns) -> np.ndarray:
        """The numbers that it compares, NaN where there are none."""
        return np.asarray(columns[self.column], dtype=float)

    def outside(self, values: np.ndarray) -> np.ndarray:
        """Which numbers are beyond a threshold, bool of the same shape; NaN is not."""
        wrong = np.zeros(values.shape, dtype=bool)
        for name, bound in self.bounds().items():
            wrong |= values < bound if name == "least" else values > bound
        return wrong

    def prepared(self, columns: Columns, alive: np.ndarray, good: np.ndarray) -> dict[str, np.ndarray]:
        """Columns that depend on which images are left, such as the distance to the nearest; most filters have none.

        `good` are the images that no threshold of the stages 1 and 2 drops.
        """
        return {}

    def drops(self, columns: Columns, alive: np.ndarray) -> np.ndarray:
        """Which of the rows that are still `alive` this filter drops."""
        wrong = self.outside(self.shown(columns)) & alive
        return wrong if self.rendered or "rendered" not in columns else wrong & ~columns["rendered"]

    def explain(self, value: float) -> str:
        """Say why a number is beyond a threshold; "" where it is not."""
        for name, bound in self.bounds().items():
            if value < bound if name == "least" else value > bound:
                side = "below" if name == "least" else "above"
                return f"{self.column} {value:.4g} is {side} {bound:g} ({self.unit})"
        return ""


class AtLeast(Filter):
    """Drops what is below a number."""

    least: float = -FOREVER


class AtMost(Filter):
    """Drops what is above a number."""

    most: float = FOREVER


class Between(Filter):
    """Drops what is below one number or above another. Raises ValueError where nothing could pass."""

    least: float = -FOREVER
    most: float = FOREVER

    def __post_init__(self) -> None:
        if not self.least <= self.most:
            raise ValueError(f"least={self.least:g} must not be above most={self.most:g}: nothing would pass")
