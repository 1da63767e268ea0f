"""Drops images by the lines in them that look like somebody's mark."""

from __future__ import annotations

from experiments.curation.filters.rules import REPORT, AtMost
from experiments.curation.measures.text_reading import GROUP


class Watermark(AtMost):
    """Images with the mark of an agency, a copyright sign or a web address that no caption quotes."""

    stage = 5
    column = "marks"
    unit = "lines that are read and look like a mark"
    reason = "a model writes such marks on whatever it is asked for"
    source = f"{REPORT}, stage 5: Abnormal Element; faint marks are not read, a caption model sees more"
    group = GROUP
    most: float = 0.0
