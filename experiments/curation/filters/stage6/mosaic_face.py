"""Drops images by how much of the largest face is made of squares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from experiments.curation.filters.rules import REPORT, AtMost
from experiments.curation.measures.body_detector import GROUP


@dataclass(frozen=True)
class MosaicFace(AtMost):
    """Portraits whose largest face is covered by squares. Off with `nudity`, whose detector finds the faces."""

    stage: ClassVar[int] = 6
    column: ClassVar[str] = "face_blocks"
    unit: ClassVar[str] = "share of neighbours in a row that differ by at most one grey level, 0 to 1"
    reason: ClassVar[str] = (
        "three photographed faces have 0.12 to 0.25; squares of 4 to 5 % of the width make it 0.54 to 0.66"
    )
    source: ClassVar[str] = f"{REPORT}: mosaics and blurred faces"
    group: ClassVar[str] = GROUP
    most: float = 0.45
