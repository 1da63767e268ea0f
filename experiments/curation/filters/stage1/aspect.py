"""Drops images by the ratio of their sides."""

from __future__ import annotations

from experiments.curation.filters.rules import REPORT, AtMost


class Aspect(AtMost):
    """Images that are much longer than wide, or wider than long."""

    stage = 1
    column = "aspect"
    unit = "longer side by shorter side"
    reason = "1:3 and 3:1 are the most extreme canvases; beyond, a crop loses what a caption names"
    source = f"{REPORT}, section 4.1.3: the list of aspects"
    most: float = 3.0
