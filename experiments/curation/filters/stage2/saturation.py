"""Drops images by their mean saturation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from experiments.curation.filters.rules import REPORT, AtMost


@dataclass(frozen=True)
class Saturation(AtMost):
    """Images with colours that no camera sees."""

    stage: ClassVar[int] = 2
    column: ClassVar[str] = "saturation"
    unit: ClassVar[str] = "mean saturation (HSV), 0 to 1"
    reason: ClassVar[str] = "photographs have 0.2 to 0.6; above 0.9 only filters, charts and errors are left"
    source: ClassVar[str] = f"{REPORT}: Saturation"
    most: float = 0.9
