"""Judges that compare two images of one prompt, asked in both orders.

    (1)  p = (p_ab + 1 - p_ba) / 2        p_ab: P(first shown is better) with a first, p_ba with b first

Language models favour a place, so an answer in one order is as much about the order as about the images. (1) cancels
a constant lean; ``lean`` = (p_ab + p_ba - 1) / 2 is that lean, positive toward whatever is shown first. The two orders
agree when both favour the same image; where they do not, the outcome is a tie (Zheng et al. 2023; GenArena 2026).

Shapes: B pairs, 3HW pixels in [0, 1].
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from preference_data.pixels import to_uint8
from preference_data.records import Prompt
from rewards.image_scorer import Unjudged
from rewards.scores import obstacles

log = logging.getLogger(__name__)

AskPair = Callable[[Prompt, np.ndarray, np.ndarray], float]
"""Prompt and two images (uint8, (H, W, 3)) in the order they are shown -> P(the first is better)."""


@dataclass(frozen=True)
class Preferences:
    """What was preferred in B pairs (a, b).

    a_better_B: eq. (1), in [0, 1]. lean_B: toward the image shown first, in [-0.5, 0.5]. agree_B: 1 when both orders
    favour the same image, else 0. All float64, NaN where a pair could not be judged in both orders; ``unjudged``
    counts those by cause.
    """

    a_better_B: np.ndarray
    lean_B: np.ndarray
    agree_B: np.ndarray
    unjudged: Mapping[str, int]

    def outcomes(self) -> list[str | None]:
        """ "left" (a), "right" (b) or "tie" when the orders disagree; None where a pair was not judged."""
        return [
            None if np.isnan(p) else "tie" if not agree else "left" if p > 0.5 else "right"
            for p, agree in zip(self.a_better_B, self.agree_B, strict=True)
        ]


class PairJudge:
    """Asks ``ask`` twice a pair, ``workers`` questions at a time. ``name`` says which judge, model and rubric."""

    def __init__(self, name: str, ask: AskPair, needs: tuple[str, ...] = (), workers: int = 1) -> None:
        self.name = name
        self._ask = ask
        self._needs = needs
        self._workers = workers

    def __call__(self, prompts: Sequence[Prompt], a_B3HW: np.ndarray, b_B3HW: np.ndarray) -> Preferences:
        """Compare a[i] with b[i]. ValueError when the lengths differ. The causes are those of ``PictureScorer``."""
        causes = [
            first or second
            for first, second in zip(
                obstacles(prompts, a_B3HW, self._needs), obstacles(prompts, b_B3HW, self._needs), strict=True
            )
        ]
        good = [i for i, cause in enumerate(causes) if cause is None]
        a, b = ({i: to_uint8(images[i]).transpose(1, 2, 0) for i in good} for images in (a_B3HW, b_B3HW))
        requested = self._answers([each for i in good for each in ((prompts[i], a[i], b[i]), (prompts[i], b[i], a[i]))])
        p_B2 = np.full((len(prompts), 2), np.nan)
        for index, i in enumerate(good):
            pair = requested[2 * index : 2 * index + 2]
            failed = [answer for answer in pair if isinstance(answer, str)]
            causes[i] = failed[0] if failed else None
            if not failed:
                p_B2[i] = pair
        ab_B, ba_B = p_B2.T
        agree_B = np.where(np.isnan(ab_B), np.nan, ((ab_B > 0.5) & (ba_B < 0.5)) | ((ab_B < 0.5) & (ba_B > 0.5)))
        counted = Counter(cause for cause in causes if cause is not None)
        return Preferences((ab_B + 1.0 - ba_B) / 2.0, (ab_B + ba_B - 1.0) / 2.0, agree_B, dict(counted))  # (1)

    def _answers(self, questions: list[tuple[Prompt, np.ndarray, np.ndarray]]) -> list[float | str]:
        if self._workers == 1:
            return [self._answer(each) for each in questions]
        with ThreadPoolExecutor(self._workers) as pool:
            results: Iterable[float | str] = pool.map(self._answer, questions)
            return list(results)

    def _answer(self, question: tuple[Prompt, np.ndarray, np.ndarray]) -> float | str:
        try:
            p = float(self._ask(*question))
        except Unjudged as error:
            log.warning("%s did not judge a pair of prompt %s: %s", self.name, question[0].id, error)
            return error.cause
        except Exception:
            log.exception("%s failed on a pair of prompt %s; it is not judged (NaN)", self.name, question[0].id)
            return "model"
        return p if 0.0 <= p <= 1.0 else "model_not_finite"
