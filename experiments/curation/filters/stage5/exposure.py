"""Drops images by the share of their pixels that are black or white."""

from __future__ import annotations

from experiments.curation.filters.rules import REPORT, AtMost


class Exposure(AtMost):
    """Images that are burnt out or black in most places."""

    stage = 5
    column = "clipped"
    unit = "share of pixels that are black or white"
    reason = "beyond that little is left to learn from; objects on a white ground reach it, too: look at the page"
    source = f"{REPORT}: Image Quality, over and under exposure"
    most: float = 0.7
