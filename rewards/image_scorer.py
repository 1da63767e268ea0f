"""A scorer made of a function that judges a few images; everything around that function is here.

Shapes: B samples, 3HW pixels.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from preference_data.pixels import to_uint8
from preference_data.records import Prompt
from rewards.scores import Scores, obstacles, tabulate

log = logging.getLogger(__name__)

ScoreImages = Callable[[Sequence[Prompt], Sequence[np.ndarray]], Sequence[Mapping[str, float]]]
"""Prompts and their images (uint8, (H, W, 3)) -> the parts of each. Raises ``Unjudged`` or anything else."""


def one_by_one(scorer: Callable[[Prompt, np.ndarray], Mapping[str, float]]) -> ScoreImages:
    """A function that judges a few images, from one that judges a single one."""
    return lambda prompts, images: [scorer(prompt, image) for prompt, image in zip(prompts, images, strict=True)]


class Unjudged(Exception):
    """An image cannot be judged. ``cause`` is one word, counted in ``Scores.unjudged``; the text is for the log."""

    def __init__(self, cause: str, text: str = "") -> None:
        super().__init__(text or cause)
        self.cause = cause


class ImageScorer:
    """A scorer around ``judge``. ``parts`` names what it returns, the value first.

    ``batch_size`` images are given to it at once. With 1 a score does not depend on the rest of its batch, to the
    last bit; more are faster on a GPU, and there the last digits move. A batch that fails is tried again one by one, so
    that a single bad image, or a batch too large for the memory, costs no other image its score.
    """

    def __init__(
        self, name: str, scorer: ScoreImages, parts: tuple[str, ...], batch_size: int = 1, needs: tuple[str, ...] = ()
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        self.name = name
        self._score = scorer
        self._parts = parts
        self._batch_size = batch_size
        self._needs = needs

    def __call__(self, prompts: Sequence[Prompt], images_B3HW: np.ndarray) -> Scores:
        """As ``Scorer`` says. Causes: those of ``obstacles``, of ``Unjudged``, "model" (it raised; the log says what)
        and "model_not_finite" (it answered with NaN or infinity)."""
        rows: list[Mapping[str, float] | str] = [c or "" for c in obstacles(prompts, images_B3HW, self._needs)]
        good = [i for i, row in enumerate(rows) if row == ""]
        for start in range(0, len(good), self._batch_size):
            some = good[start : start + self._batch_size]
            images = [to_uint8(images_B3HW[i]).transpose(1, 2, 0) for i in some]
            for i, row in zip(some, self._rows([prompts[i] for i in some], images), strict=True):
                rows[i] = row
        return tabulate(rows, self._parts)

    def _rows(self, prompts: Sequence[Prompt], images: Sequence[np.ndarray]) -> list[Mapping[str, float] | str]:
        try:
            rows = list(self._score(prompts, images))
        except Exception as error:
            if len(prompts) > 1:
                return [row for p, x in zip(prompts, images, strict=True) for row in self._rows([p], [x])]
            if isinstance(error, Unjudged):
                log.warning("%s did not judge the image of prompt %s: %s", self.name, prompts[0].id, error)
                return [error.cause]
            log.exception("%s failed on the image of prompt %s; it is not judged (NaN)", self.name, prompts[0].id)
            return ["model"]
        finite = [all(math.isfinite(value) for value in row.values()) for row in rows]
        return [row if fine else "model_not_finite" for row, fine in zip(rows, finite, strict=True)]
