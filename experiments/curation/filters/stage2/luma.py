"""Drops images by their mean grey level."""

from __future__ import annotations

from experiments.curation.filters.rules import REPORT, Between


class Luma(Between):
    """Images that are black or white nearly everywhere."""

    stage = 2
    column = "luma"
    unit = "mean grey level, 0 to 255"
    reason = "a failed exposure shows nothing that a caption could name"
    source = f"{REPORT}: Luma"
    least: float = 12.0
    most: float = 245.0
