"""Drops images by the steps at the edges of JPEG's blocks."""

from __future__ import annotations

from experiments.curation.filters.rules import REPORT, AtMost


class Blockiness(AtMost):
    """Images that show the blocks of JPEG."""

    stage = 5
    column = "blockiness"
    unit = "steps at block edges by steps inside"
    reason = "photographs have 1.0 to 1.2, saved as JPEG 30 1.3 to 1.7 and as JPEG 10 1.8 to 2.8; smooth ones more"
    source = f"{REPORT}: Image Quality, compression; the measure of Wang, Sheikh and Bovik 2002"
    most: float = 2.2
