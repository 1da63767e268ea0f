"""Drops texts that describe no image."""

from __future__ import annotations

from experiments.curation.filters.rules import REPORT, AtMost


class CaptionGarbage(AtMost):
    """Captions that are none: file names, addresses, HTML, wrongly decoded text, repetitions, refusals to describe."""

    stage = 3
    column = "garbage"
    unit = "1 = no caption"
    reason = "a model that reads them learns to connect images with nothing"
    source = f"{REPORT}: Invalid Caption"
    of_captions = True
    most: float = 0.0
