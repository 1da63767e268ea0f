"""Drops images by a reward that compares them with their captions."""

from __future__ import annotations

from experiments.curation.filters.reward_score import Scored
from experiments.curation.filters.rules import REPORT


class Alignment(Scored):
    """Images that do not show what their first caption says."""

    stage = 3
    column = "alignment"
    unit = "score of the reward; more = more alike"
    reason = "captions of web pages often speak of something else"
    source = f"{REPORT}: Chinese CLIP and SigLIP 2 filters, on raw captions"
    group = "alignment"
    least: float = 0.2
