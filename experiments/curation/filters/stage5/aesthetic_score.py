"""Drops images by a reward that knows what people like to see."""

from __future__ import annotations

from experiments.curation.filters.reward_score import Scored
from experiments.curation.filters.rules import REPORT


class Aesthetic(Scored):
    """Images that people would find dull or ugly."""

    stage = 5
    column = "aesthetic"
    unit = "score of the reward; the published ones give 1 to 10"
    reason = "4.5 leaves about the better half of photographs from the web"
    source = f"{REPORT}: Aesthetic"
    group = "aesthetic"
    least: float = 4.5
