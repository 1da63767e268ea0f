"""Ends a run whose rewards have failed for good.

An image that could not be judged is NaN and teaches nothing, which is right for one that a reward cannot read. Where a
server is gone, or a key has run out, that is every image: the run would go on to its last update, learn nothing, and
call itself finished.
"""

from __future__ import annotations

from collections.abc import Mapping

from rewards.serving.workers import ScoringError

MOST = 5
"""updates in a row without a judged image after which training stops"""


class Judged:
    """Counts updates in a row in which no image of any rank was judged by `reward`."""

    def __init__(self, reward: str) -> None:
        self._reward, self._in_a_row = reward, 0

    def check(self, update: int, metrics: Mapping[str, float]) -> None:
        """Look at an update's metrics, the same on all ranks. Raises ScoringError at the last of `MOST` in a row."""
        self._in_a_row = self._in_a_row + 1 if metrics.get("unjudged") == 1.0 else 0
        if self._in_a_row >= MOST:
            causes = ", ".join(name.partition("/")[2] for name in metrics if name.startswith("unjudged/"))
            raise ScoringError(
                f"update {update}: the reward {self._reward} judged none of its images{causes and f' ({causes})'}, nor "
                f"any of the {self._in_a_row - 1} updates before, so nothing was learned from them. See that it can "
                "judge (glyphlab score), and run it again: it goes on from its last checkpoint"
            )
