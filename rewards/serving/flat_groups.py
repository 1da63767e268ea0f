"""Which rewards of a mixture still tell the images of a group apart.

A group whose rewards are all equal teaches nothing. In a mixture one part can hide that another has been flat for long,
so every part is counted by itself. One submitted batch is one group, as every loop of `alignment` sends them.

Shapes: B samples, 3HW pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future

import numpy as np

from preference_data.records import Prompt
from rewards.scores import Scores
from rewards.serving.metering import Sums, means
from rewards.serving.workers import ScorerPool

LEAST = 1e-8
"""Spread of a group that counts as none, that of GRPO's advantages."""


class SpreadMeter:
    """Submits to a pool, and counts the groups in which a reward had no spread."""

    def __init__(self, pool: ScorerPool) -> None:
        self.pool = pool
        self._groups: list[Future[Scores]] = []

    def submit(self, prompts: Sequence[Prompt], images_uint8_B3HW: np.ndarray) -> Future[Scores]:
        """Submits images as the pool does."""
        self._groups.append(self.pool.submit(prompts, images_uint8_B3HW))
        return self._groups[-1]

    def drain(self) -> dict[str, float]:
        """``zero_spread/NAME``, the share of groups since the last time; groups nobody judged do not count.

        Waits for what was submitted. Raises as its futures do.
        """
        return means([self.sums()])

    def sums(self) -> Sums:
        """What ``drain`` gives, before it is divided: (groups without spread, groups)."""
        groups, self._groups = self._groups, []
        flat: dict[str, list[bool]] = {}
        for scores in (future.result() for future in groups):
            for name, value_B in {"reward": scores.value_B, **scores.parts}.items():
                if not np.isnan(value_B).all():
                    flat.setdefault(name, []).append(bool(np.nanmax(value_B) - np.nanmin(value_B) < LEAST))
        return {f"zero_spread/{name}": (float(sum(each)), float(len(each))) for name, each in sorted(flat.items())}
