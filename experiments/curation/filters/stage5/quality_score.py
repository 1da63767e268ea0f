"""Drops images by a reward that sees distortions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from experiments.curation.filters.reward_score import Scored
from experiments.curation.filters.rules import REPORT


@dataclass(frozen=True)
class Quality(Scored):
    """Images with distortions that a model of image quality sees, such as `brisque`."""

    stage: ClassVar[int] = 5
    column: ClassVar[str] = "distortion_score"
    unit: ClassVar[str] = "score of the reward; more = better"
    reason: ClassVar[str] = "blur, noise and compression that no single number of ours sees"
    source: ClassVar[str] = f"{REPORT}: Image Quality"
    group: ClassVar[str] = "distortion_score"
    least: float = 0.2
