"""What judging costs and how often it fails: measured where a scorer is called, added up where a run logs it.

``measured`` wraps one call; a ``Meter`` adds up the scores that it is shown and hands out their sums as metrics:

    (1)  seconds an image = sum of seconds / sum of images        likewise for tokens and requests
    (2)  mean of a part    = mean over the images that were judged

Shapes: B samples, 3HW pixels.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from preference_data.records import Prompt
from rewards.scores import Scorer, Scores, checked, total

Sums = dict[str, tuple[float, float]]
"""Metric -> (sum, what it is divided by); 0 of a count, which is divided by nothing."""


def means(ranks: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, float]:
    """The metrics of what several ranks summed up. Images of a rank without a cost count in its mean all the same."""
    metrics = {}
    for name in dict.fromkeys(name for sums in ranks for name in sums):
        total, by = (math.fsum(sums[name][i] for sums in ranks if name in sums) for i in (0, 1))
        if name.startswith("cost/"):
            by += math.fsum(sums["cost/seconds"][1] for sums in ranks if name not in sums and "cost/seconds" in sums)
        metrics[name] = total / by if by else total
    return metrics


def measured(scorer: Scorer, prompts: Sequence[Prompt], images_B3HW: np.ndarray) -> Scores:
    """As the scorer's own call, with "pictures" and "seconds" (of the clock) in ``spent``. Raises as ``checked``."""
    start = time.perf_counter()
    scores = checked(scorer(prompts, images_B3HW), len(prompts), scorer.name)
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
        self._parts: dict[str, list[float]] = {}

    def add(self, scores: Scores) -> None:
        """Adds a call to the counts."""
        with self._lock:
            self._spent = total((self._spent, scores.spent))
            self._unjudged = total((self._unjudged, scores.unjudged))
            for name, part_B in scores.parts.items():
                self._parts.setdefault(name, []).extend(part_B[~np.isnan(part_B)].tolist())

    def drain(self) -> dict[str, float]:
        """What was added since the last time, as metrics, and start again from nothing.

        ``part/NAME`` is eq. (2), ``cost/NAME`` is eq. (1), ``cost/seconds`` the mean clock seconds an image takes one
        worker, ``unjudged/CAUSE`` a count of images. Empty when nothing was judged.
        """
        return means([self.sums()])

    def sums(self) -> Sums:
        """What ``drain`` gives, before it is divided, so that the sums of several ranks can be added up."""
        with self._lock:
            images = self._spent.get("pictures", 0.0)
            # fsum is exact, so the mean does not depend on which worker answered first
            parts = {name: values for name, values in self._parts.items() if values}
            sums: Sums = {f"part/{name}": (math.fsum(values), float(len(values))) for name, values in parts.items()}
            sums |= {f"cost/{k}": (v, images) for k, v in self._spent.items() if k != "pictures" and images}
            sums |= {f"unjudged/{cause}": (float(count), 0.0) for cause, count in self._unjudged.items()}
            self._clear()
        return sums
