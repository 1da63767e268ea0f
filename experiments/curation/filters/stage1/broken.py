"""Drops files that no decoder reads to their end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from experiments.curation.filters.rules import REPORT, AtMost


@dataclass(frozen=True)
class Broken(AtMost):
    """Files that cannot be decoded to their end, are animated, or are not there."""

    stage: ClassVar[int] = 1
    column: ClassVar[str] = "broken"
    unit: ClassVar[str] = "1 = cannot be decoded"
    reason: ClassVar[str] = "training would stop at it, or learn the grey that decoders fill in"
    source: ClassVar[str] = f"{REPORT}: Broken Files"
    rendered: ClassVar[bool] = True
    most: float = 0.0
