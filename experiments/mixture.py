"""What the parts of a mixed reward were in each update: its sum alone hides which of them the policy gave up.

    (1)  part/NAME = mean over the pictures of the update that were judged, in the part's own units, unweighted

The pool's own meter adds up in the order in which workers answer; here it is the order in which pictures were drawn, so
that two runs of one seed log the same digits.

Shapes: B samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future

import numpy as np

from preference_data.records import Prompt
from rewards.scores import Scores, concatenate
from rewards.workers import ScorerPool

WEIGHTED = "weighted:"


class Watched:
    """A pool that remembers what it was asked since the last update; a `Judge` like the pool itself."""

    def __init__(self, pool: ScorerPool) -> None:
        self._pool = pool
        self._asked: list[Future[Scores]] = []
        self.name = pool.name

    def submit(self, prompts: Sequence[Prompt], images_B3HW: np.ndarray) -> Future[Scores]:
        """As the pool's own."""
        future = self._pool.submit(prompts, images_B3HW)
        if self.name.startswith(WEIGHTED):
            self._asked.append(future)
        return future

    def parts(self) -> dict[str, float]:
        """(1) of every reward in the mixture since the last call, NaN when none was judged; {} when it is no
        mixture."""
        asked, self._asked = self._asked, []
        scores = concatenate([future.result() for future in asked])
        names = {name: name.partition(":")[0] for name in scores.parts if "/" not in name.partition(":")[0]}
        rewards = {name: short for name, short in names.items() if not _is_inner(name, names)}
        unique = len(set(rewards.values())) == len(rewards)
        return {f"part/{short if unique else name}": _mean(scores.parts[name]) for name, short in rewards.items()}


def _is_inner(name: str, names: Sequence[str] | dict[str, str]) -> bool:
    """Is it a part of a part, NAME/part? A reward's own name may hold a path."""
    return any(name.startswith(f"{other}/") for other in names if other != name)


def _mean(value_B: np.ndarray) -> float:
    judged = value_B[~np.isnan(value_B)]
    return float(judged.mean()) if len(judged) else float("nan")
