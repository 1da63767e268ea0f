"""Drops images by a reward that knows unsafe ones."""

from __future__ import annotations

from experiments.curation.filters.reward_score import Scored
from experiments.curation.filters.rules import REPORT


class Safety(Scored):
    """Images that a model of yours takes for unsafe, beside the bodies that `nudity` sees."""

    stage = 1
    column = "safety"
    unit = "score of the reward; more = safer"
    reason = "what a model was not shown it paints less readily"
    source = f"{REPORT}: NSFW"
    group = "safety"
    least: float = 0.5
