"""Drops images by their EXIF orientation."""

from __future__ import annotations

from experiments.curation.filters.rules import REPORT, AtMost


class Rotation(AtMost):
    """Images that a file's EXIF orientation turns or mirrors."""

    stage = 2
    column = "turned"
    unit = "0 = as stored, 1 = turned by EXIF, 2 = mirrored by EXIF"
    reason = (
        "cameras turn rightly and the reader follows them; a mirror tag is often left over, and text reads backwards"
    )
    source = f"{REPORT}: Rotation, which drops both; most=0 does so"
    most: float = 1.0
