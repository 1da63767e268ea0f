"""Drops images by the entropy of their grey levels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from experiments.curation.filters.rules import REPORT, AtLeast


@dataclass(frozen=True)
class Entropy(AtLeast):
    """Images with next to nothing on them."""

    stage: ClassVar[int] = 2
    column: ClassVar[str] = "entropy"
    unit: ClassVar[str] = "bits of the grey levels, 0 to 8"
    reason: ClassVar[str] = "photographs have 5 to 7.9; a plain ground with a mark on it has less than 2"
    source: ClassVar[str] = f"{REPORT}: Entropy"
    least: float = 2.5
