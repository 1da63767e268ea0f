"""Drops images by the pixels of their shorter side."""

from __future__ import annotations

from experiments.curation.filters.rules import REPORT, AtLeast


class Resolution(AtLeast):
    """Images with a short side that training would have to enlarge."""

    stage = 1
    column = "short_side"
    unit = "pixels of the shorter side"
    reason = "the first resolution that the report trains at is 256; enlarged images teach blur"
    source = f"{REPORT}: Resolution, below 256p"
    least: float = 256.0
