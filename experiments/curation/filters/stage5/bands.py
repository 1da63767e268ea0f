"""Drops images by the plain bands on two opposite sides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from experiments.curation.filters.rules import AtMost


@dataclass(frozen=True)
class Bands(AtMost):
    """Images between bands, as films are shown on screens of another aspect."""

    stage: ClassVar[int] = 5
    column: ClassVar[str] = "bands"
    unit: ClassVar[str] = "share of the height, or of the width, in plain bands on two opposite sides"
    reason: ClassVar[str] = "a model paints the bands, too; cut them off and add the image again"
    source: ClassVar[str] = "ours; the report's Abnormal Element"
    most: float = 0.08
