"""Drops files that no decoder reads to their end."""

from __future__ import annotations

from experiments.curation.filters.rules import REPORT, AtMost


class Broken(AtMost):
    """Files that cannot be decoded to their end, are animated, or are not there."""

    stage = 1
    column = "broken"
    unit = "1 = cannot be decoded"
    reason = "training would stop at it, or learn the grey that decoders fill in"
    source = f"{REPORT}: Broken Files"
    rendered = True
    most: float = 0.0
