"""Drops images by the plain bands on two opposite sides."""

from __future__ import annotations

from experiments.curation.filters.rules import AtMost


class Bands(AtMost):
    """Images between bands, as films are shown on screens of another aspect."""

    stage = 5
    column = "bands"
    unit = "share of the height, or of the width, in plain bands on two opposite sides"
    reason = "a model paints the bands, too; cut them off and add the image again"
    source = "ours; the report's Abnormal Element"
    most: float = 0.08
