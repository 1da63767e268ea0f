"""Drops images by their mean grey level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from experiments.curation.filters.rules import REPORT, Between


@dataclass(frozen=True)
class Luma(Between):
    """Images that are black or white nearly everywhere."""

    stage: ClassVar[int] = 2
    column: ClassVar[str] = "luma"
    unit: ClassVar[str] = "mean grey level, 0 to 255"
    reason: ClassVar[str] = "a failed exposure shows nothing that a caption could name"
    source: ClassVar[str] = f"{REPORT}: Luma"
    least: float = 12.0
    most: float = 245.0
