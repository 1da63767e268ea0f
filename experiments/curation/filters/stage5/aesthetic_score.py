"""Drops images by a reward that knows what people like to see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from experiments.curation.filters.reward_score import Scored
from experiments.curation.filters.rules import REPORT


@dataclass(frozen=True)
class Aesthetic(Scored):
    """Images that people would find dull or ugly."""

    stage: ClassVar[int] = 5
    column: ClassVar[str] = "aesthetic"
    unit: ClassVar[str] = "score of the reward; the published ones give 1 to 10"
    reason: ClassVar[str] = "4.5 leaves about the better half of photographs from the web"
    source: ClassVar[str] = f"{REPORT}: Aesthetic"
    group: ClassVar[str] = "aesthetic"
    least: float = 4.5
