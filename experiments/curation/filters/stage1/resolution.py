"""Drops images by the pixels of their shorter side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from experiments.curation.filters.rules import REPORT, AtLeast


@dataclass(frozen=True)
class Resolution(AtLeast):
    """Images with a short side that training would have to enlarge."""

    stage: ClassVar[int] = 1
    column: ClassVar[str] = "short_side"
    unit: ClassVar[str] = "pixels of the shorter side"
    reason: ClassVar[str] = "the first resolution that the report trains at is 256; enlarged images teach blur"
    source: ClassVar[str] = f"{REPORT}: Resolution, below 256p"
    least: float = 256.0
