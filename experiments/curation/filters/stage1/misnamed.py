"""Drops files whose name ends for another format, where that is wanted."""

from __future__ import annotations

from experiments.curation.filters.rules import AtMost


class Misnamed(AtMost):
    """Files whose name ends for another format than they have."""

    stage = 1
    column = "misnamed"
    unit = "1 = for example a PNG called .jpg"
    reason = "the reader goes by the bytes, and a set names the file rightly; 0 drops them"
    source = "ours"
    most: float = 1.0
