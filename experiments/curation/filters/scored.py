"""Filters by a reward of `rewards/`: a number that needs weights, and is off until somebody names them.

A reward is written as for `glyphlab score`, such as `aesthetic_v25:weights=...,head=...`. Shapes: 3HW pixels.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from experiments.curation.filters.rules import AtLeast

REPORT = "Qwen-Image technical report, section 3.2"


@dataclass(frozen=True)
class Scored(AtLeast):
    """Drops what a reward scores below a number; off without a reward."""

    reward: str = ""
    """as for `glyphlab score`; "" = off"""

    def bounds(self) -> dict[str, float]:
        """No threshold without a reward."""
        return super().bounds() if self.reward else {}

    def shown(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """The scores; NaN where the filter is off."""
        return columns[self.column] if self.column in columns else np.full(len(columns["name"]), np.nan)


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


@functools.lru_cache(maxsize=4)
def scorer(reward: str) -> Any:
    """The loaded reward. Raises as its `load`."""
    from rewards.parse import named_reward

    return named_reward(reward).load()


def version_of_reward(reward: str) -> list[Any]:
    """What a score depends on beside the image. Raises ValueError for a reward that there is not."""
    from rewards.parse import named_reward

    return [reward, named_reward(reward).version]


def score(reward: str, rgb_HW3: np.ndarray, captions: Sequence[str]) -> float:
    """The score of an image for its first caption; NaN where there is none. Raises RuntimeError when it fails."""
    from preference_data.records import Prompt

    prompt = Prompt.from_text(captions[0] if captions else "an image")
    scores = scorer(reward)([prompt], rgb_HW3.transpose(2, 0, 1)[None].astype(np.float32) / 255.0)
    if failed := scores.unjudged.keys() & {"engine", "model", "model_not_finite"}:
        raise RuntimeError(f"{reward} failed: {', '.join(failed)}")
    return float(scores.value_B[0])
