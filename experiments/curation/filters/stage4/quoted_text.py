"""Drops images by the share of what captions quote that can be read in them."""

from __future__ import annotations

from experiments.curation.filters.rules import REPORT, AtLeast
from experiments.curation.measures.text_reading import GROUP


class QuotedText(AtLeast):
    """Images whose captions quote a text that cannot be read in them."""

    stage = 4
    column = "quoted_read"
    unit = "share of the quoted characters that the engine reads"
    reason = "a wrong quotation teaches to write something else; above a half it may be the engine's fault"
    source = f"{REPORT}, stage 4; the threshold is ours"
    rendered = True
    group = GROUP
    least: float = 0.5
