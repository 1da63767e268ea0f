"""Drops images by a reward that knows unsafe ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from experiments.curation.filters.reward_score import Scored
from experiments.curation.filters.rules import REPORT


@dataclass(frozen=True)
class Safety(Scored):
    """Images that a model of yours takes for unsafe, beside the bodies that `nudity` sees."""

    stage: ClassVar[int] = 1
    column: ClassVar[str] = "safety"
    unit: ClassVar[str] = "score of the reward; more = safer"
    reason: ClassVar[str] = "what a model was not shown it paints less readily"
    source: ClassVar[str] = f"{REPORT}: NSFW"
    group: ClassVar[str] = "safety"
    least: float = 0.5
