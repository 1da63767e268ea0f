"""Scores one image at a time by a reward of `rewards/`.

A reward is written as for `glyphlab score`, such as `aesthetic_v25:weights=...,head=...`. Shapes: 3HW pixels.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np


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
