"""Drops images by their mean saturation."""

from __future__ import annotations

from experiments.curation.filters.rules import REPORT, AtMost


class Saturation(AtMost):
    """Images with colours that no camera sees."""

    stage = 2
    column = "saturation"
    unit = "mean saturation (HSV), 0 to 1"
    reason = "photographs have 0.2 to 0.6; above 0.9 only filters, charts and errors are left"
    source = f"{REPORT}: Saturation"
    most: float = 0.9
