"""Drops files whose name ends for another format, where that is wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from experiments.curation.filters.rules import AtMost


@dataclass(frozen=True)
class Misnamed(AtMost):
    """Files whose name ends for another format than they have."""

    stage: ClassVar[int] = 1
    column: ClassVar[str] = "misnamed"
    unit: ClassVar[str] = "1 = for example a PNG called .jpg"
    reason: ClassVar[str] = "the reader goes by the bytes, and a set names the file rightly; 0 drops them"
    source: ClassVar[str] = "ours"
    most: float = 1.0
