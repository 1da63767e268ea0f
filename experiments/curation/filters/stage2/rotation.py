"""Drops images by their EXIF orientation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from experiments.curation.filters.rules import REPORT, AtMost


@dataclass(frozen=True)
class Rotation(AtMost):
    """Images that a file's EXIF orientation turns or mirrors."""

    stage: ClassVar[int] = 2
    column: ClassVar[str] = "turned"
    unit: ClassVar[str] = "0 = as stored, 1 = turned by EXIF, 2 = mirrored by EXIF"
    reason: ClassVar[str] = (
        "cameras turn rightly and the reader follows them; a mirror tag is often left over, and text reads backwards"
    )
    source: ClassVar[str] = f"{REPORT}: Rotation, which drops both; most=0 does so"
    most: float = 1.0
