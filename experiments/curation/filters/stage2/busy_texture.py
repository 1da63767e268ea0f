"""Drops images by the share of their area that is busy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from experiments.curation.filters.rules import REPORT, AtMost


@dataclass(frozen=True)
class Texture(AtMost):
    """Images that are busy everywhere: noise, and patterns without an object."""

    stage: ClassVar[int] = 2
    column: ClassVar[str] = "texture"
    unit: ClassVar[str] = "share of blocks of 8 by 8 pixels with a standard deviation above 20 levels"
    reason: ClassVar[str] = "noise has 1; photographs of grass, gravel and leaves stay below 0.95"
    source: ClassVar[str] = f"{REPORT}: Texture"
    most: float = 0.97
