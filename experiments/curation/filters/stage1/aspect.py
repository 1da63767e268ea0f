"""Drops images by the ratio of their sides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from experiments.curation.filters.rules import REPORT, AtMost


@dataclass(frozen=True)
class Aspect(AtMost):
    """Images that are much longer than wide, or wider than long."""

    stage: ClassVar[int] = 1
    column: ClassVar[str] = "aspect"
    unit: ClassVar[str] = "longer side by shorter side"
    reason: ClassVar[str] = "1:3 and 3:1 are the most extreme canvases; beyond, a crop loses what a caption names"
    source: ClassVar[str] = f"{REPORT}, section 4.1.3: the list of aspects"
    most: float = 3.0
