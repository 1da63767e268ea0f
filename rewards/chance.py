"""A number that says nothing about an image: the control for what an algorithm does without being taught.

    (1)  score = first 8 bytes of SHA-256(seed, pixels) / 2^64        uniform; another image has an unrelated one

Training on it shows what comes from everything else, such as a pull towards the guided start or a schedule (compare
"Spurious Rewards", Shao et al., arXiv:2506.10947). The same pixels always score the same, so runs can be repeated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from preference_data.records import Prompt
from rewards.scores import Scores, View, score_each


def chance(image_HW3: np.ndarray, seed: int) -> float:
    """(1), in [0, 1)."""
    digest = hashlib.sha256(f"{seed} ".encode() + image_HW3.tobytes()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2.0**53


class ChanceScorer:
    """Scores by (1)."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.name = f"chance:seed-{seed}"

    def __call__(self, prompts: Sequence[Prompt], images_B3HW: np.ndarray) -> Scores:
        """Value in [0, 1]: (1), also as part ``chance``."""
        return score_each(self.name, self._score, prompts, images_B3HW, needs=(), parts=("chance",))

    def _score(self, prompt: Prompt, image_HW3: np.ndarray) -> dict[str, float]:
        return {"chance": chance(image_HW3, self._seed)}


@dataclass(frozen=True)
class Chance:
    """A number from the pixels that means nothing, for runs that show what is gained without a reward; range [0, 1]."""

    version: ClassVar[int] = 1
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[tuple[str, ...]] = ()

    seed: int = 0

    def sees(self, height: int, width: int) -> View:
        """All pixels, as they are."""
        return View(1.0, height, width, "all of it")

    def load(self, device: str = "cpu") -> ChanceScorer:
        """The scorer; nothing is read from disk."""
        return ChanceScorer(self.seed)
