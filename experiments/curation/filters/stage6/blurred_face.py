"""Drops images by how sharp the largest face is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from experiments.curation.filters.rules import REPORT, AtLeast
from experiments.curation.measures.body_detector import GROUP


@dataclass(frozen=True)
class BlurredFace(AtLeast):
    """Portraits whose largest face is blurred. Off with `nudity`, whose detector finds the faces."""

    stage: ClassVar[int] = 6
    column: ClassVar[str] = "face_clarity"
    unit: ClassVar[str] = "variance of the Laplacian of the face drawn 48 pixels wide, squared grey levels"
    reason: ClassVar[str] = (
        "three photographed faces have 270 to 1,960; a blur of 2 % of the width leaves 15 to 40, one of 1 % 71 to 218"
    )
    source: ClassVar[str] = f"{REPORT}: mosaics and blurred faces"
    group: ClassVar[str] = GROUP
    least: float = 45.0
