"""Drops images by a reward that sees distortions."""

from __future__ import annotations

from experiments.curation.filters.reward_score import Scored
from experiments.curation.filters.rules import REPORT


class Quality(Scored):
    """Images with distortions that a model of image quality sees, such as `brisque`."""

    stage = 5
    column = "distortion_score"
    unit = "score of the reward; more = better"
    reason = "blur, noise and compression that no single number of ours sees"
    source = f"{REPORT}: Image Quality"
    group = "distortion_score"
    least: float = 0.2
