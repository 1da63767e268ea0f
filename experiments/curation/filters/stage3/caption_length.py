"""Drops captions by the number of their words."""

from __future__ import annotations

from experiments.curation.filters.rules import REPORT, Between


class CaptionLength(Between):
    """Captions that say nothing, or more than a text encoder reads."""

    stage = 3
    column = "words"
    unit = "words; a Chinese or Japanese character counts as one"
    reason = "encoders cut at 512 tokens, which is about 400 words; what is cut off was never seen"
    source = f"{REPORT}: Token Length"
    rendered = True
    of_captions = True
    least: float = 1.0
    most: float = 400.0
