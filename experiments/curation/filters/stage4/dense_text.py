"""Drops images by the area that text takes."""

from __future__ import annotations

from experiments.curation.filters.rules import REPORT, AtMost
from experiments.curation.measures.text_reading import GROUP


class DenseText(AtMost):
    """Photographs of pages: more text than a model of that size can write."""

    stage = 4
    column = "text_area"
    unit = "share of the image in boxes of text"
    reason = "captions of such images quote none of it, or more than an encoder reads"
    source = f"{REPORT}: Intensive Text"
    group = GROUP
    most: float = 0.5
