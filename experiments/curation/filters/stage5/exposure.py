"""Drops images by the share of their pixels that are black or white."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from experiments.curation.filters.rules import REPORT, AtMost


@dataclass(frozen=True)
class Exposure(AtMost):
    """Images that are burnt out or black in most places."""

    stage: ClassVar[int] = 5
    column: ClassVar[str] = "clipped"
    unit: ClassVar[str] = "share of pixels that are black or white"
    reason: ClassVar[str] = (
        "beyond that little is left to learn from; objects on a white ground reach it, too: look at the page"
    )
    source: ClassVar[str] = f"{REPORT}: Image Quality, over and under exposure"
    most: float = 0.7
