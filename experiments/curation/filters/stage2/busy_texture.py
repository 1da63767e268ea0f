"""Drops images by the share of their area that is busy."""

from __future__ import annotations

from experiments.curation.filters.rules import REPORT, AtMost


class Texture(AtMost):
    """Images that are busy everywhere: noise, and patterns without an object."""

    stage = 2
    column = "texture"
    unit = "share of blocks of 8 by 8 pixels with a standard deviation above 20 levels"
    reason = "noise has 1; photographs of grass, gravel and leaves stay below 0.95"
    source = f"{REPORT}: Texture"
    most: float = 0.97
