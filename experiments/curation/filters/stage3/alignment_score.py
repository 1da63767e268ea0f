"""Drops images by a reward that compares them with their captions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from experiments.curation.filters.reward_score import Scored
from experiments.curation.filters.rules import REPORT


@dataclass(frozen=True)
class Alignment(Scored):
    """Images that do not show what their first caption says."""

    stage: ClassVar[int] = 3
    column: ClassVar[str] = "alignment"
    unit: ClassVar[str] = "score of the reward; more = more alike"
    reason: ClassVar[str] = "captions of web pages often speak of something else"
    source: ClassVar[str] = f"{REPORT}: Chinese CLIP and SigLIP 2 filters, on raw captions"
    group: ClassVar[str] = "alignment"
    least: float = 0.2
