"""Drops images that a caption model calls abnormal."""

from __future__ import annotations

from experiments.curation.filters.rules import REPORT, AtMost


class Abnormal(AtMost):
    """Images in which a caption model sees mosaics, codes or damage; off without a `captioner`."""

    stage = 6
    column = "abnormal"
    unit = "1 = the model says so"
    reason = "it sees faint ones that no measure of ours does"
    source = f"{REPORT} and 3.3: Abnormal Element"
    group = "described"
    most: float = 0.0
