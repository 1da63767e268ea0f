"""Drops images by the entropy of their grey levels."""

from __future__ import annotations

from experiments.curation.filters.rules import REPORT, AtLeast


class Entropy(AtLeast):
    """Images with next to nothing on them."""

    stage = 2
    column = "entropy"
    unit = "bits of the grey levels, 0 to 8"
    reason = "photographs have 5 to 7.9; a plain ground with a mark on it has less than 2"
    source = f"{REPORT}: Entropy"
    least: float = 2.5
