"""What judging costs and how often it fails: measured where a scorer is called, added up where a run logs it.

``measured`` wraps one call; a ``Meter`` adds up the scores that it is shown and hands out their sums as metrics:

    (1)  seconds a picture = sum of seconds / sum of pictures        likewise for tokens and requests
    (2)  mean of a part    = mean over the pictures that were judged

Shapes: B samples, 3HW pixels.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from preference_data.records import Prompt
from rewards.scores import Scorer, Scores, total


def measured(scorer: Scorer, prompts: Sequence[Prompt], images_B3HW: np.ndarray) -> Scores:
    """As the scorer's own call, with "pictures" and "seconds" (of the clock) in ``spent``."""
    start = time.perf_counter()
    scores = scorer(prompts, images_B3HW)
    spent = {"pictures": float(len(prompts)), "seconds": time.perf_counter() - start}
    return replace(scores, spent=total((scores.spent, spent)))


class Meter:
    """Sums over the scores of many calls, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self._spent: dict[str, float] = {}
        self._unjudged: dict[str, int] = {}
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def add(self, scores: Scores) -> None:
        """Count a call in."""
        with self._lock:
            self._spent = total((self._spent, scores.spent))
            self._unjudged = total((self._unjudged, scores.unjudged))
            for name, part_B in scores.parts.items():
                judged_B = part_B[~np.isnan(part_B)]
                self._sums[name] = self._sums.get(name, 0.0) + float(judged_B.sum())
                self._counts[name] = self._counts.get(name, 0) + len(judged_B)

    def drain(self) -> dict[str, float]:
        """What was added since the last time, as metrics, and start again from nothing.

        ``part/NAME`` is eq. (2), ``cost/NAME`` is eq. (1), ``cost/seconds`` the mean clock seconds a picture takes one
        worker, ``unjudged/CAUSE`` a count of pictures. Empty when nothing was judged.
        """
        with self._lock:
            pictures = self._spent.get("pictures", 0.0)
            metrics = {f"part/{name}": self._sums[name] / n for name, n in self._counts.items() if n}
            metrics |= {f"cost/{k}": v / pictures for k, v in self._spent.items() if k != "pictures" and pictures}
            metrics |= {f"unjudged/{cause}": float(count) for cause, count in self._unjudged.items()}
            self._clear()
        return metrics
