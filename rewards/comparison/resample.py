"""How sure a number over pairs is, when pairs of one prompt depend on each other: prompts are what is independent.

    (1)  ratio = sum_i w_i x_i / sum_i w_i       in a resample every prompt counts as often as it was drawn

The resamples say how often each reward comes first; the same ones serve all, so that they are paired. Intervals come
from `preference_data.statistics`, because resamples of five right answers are five right answers.

Shapes: N pairs, C clusters (prompts), B resamples, R rewards.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from preference_data.statistics.score_intervals import ALIKE, clustered, student
from preference_data.statistics.shares import NAN, Counted, difference, share, sign_flip

HALVES = (-1.0, -0.5, 0.0, 0.5, 1.0)
"""Values of what is counted: a pair is right, half right or wrong; negative in differences of two rewards."""
BATCH = 3
"""Prompts whose values are not 0, without which a mean of mostly zeros has no interval."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval, and what it rests on."""

    value: float
    low: float = NAN
    high: float = NAN
    n: int = 0
    clusters: int = 0
    worth: float = NAN
    """independent pairs that it is worth, where it was counted"""


class Clusters:
    """The prompts that pairs belong to, and resamples of them; a pure function of the ids and the seed."""

    def __init__(self, cluster_N: np.ndarray, seed: int, resamples: int = 2000) -> None:
        if resamples < 1:
            raise ValueError(f"resamples is {resamples}; it must be at least 1")
        ids, self._index_N = np.unique(cluster_N, return_inverse=True)
        self.count = len(ids)
        self._seed, self._resamples = seed, resamples

    @cached_property
    def draws_BC(self) -> np.ndarray:
        """How often each cluster is drawn in each resample."""
        random = np.random.default_rng(self._seed)
        even = np.full(self.count, 1.0 / self.count) if self.count else np.zeros(0)
        return random.multinomial(self.count, even, size=self._resamples).astype(np.float64)

    def at(self, row_A: np.ndarray) -> Clusters:
        """The clusters of rows that stand for others, such as of several answers about a pair."""
        return Clusters(self._index_N[row_A], self._seed, self._resamples)

    def sums(self, value_N: np.ndarray) -> np.ndarray:
        """[C]: sums over the pairs of every cluster."""
        return np.bincount(self._index_N, weights=value_N, minlength=self.count)

    def ratio(self, value_N: np.ndarray, weight_N: np.ndarray) -> tuple[float, np.ndarray, int, int]:
        """(1): (ratio, its resamples [B], pairs used, clusters used). Pairs with weight 0 may hold NaN."""
        used = weight_N > 0
        top_C = self.sums(np.where(used, value_N, 0.0) * weight_N)
        below_C = self.sums(weight_N)
        total = below_C.sum()
        with np.errstate(invalid="ignore", divide="ignore"):
            draws_B = (self.draws_BC @ top_C) / (self.draws_BC @ below_C)
        value = float(top_C.sum() / total) if total else NAN
        return value, draws_B, int(used.sum()), int((below_C > 0).sum())

    def estimate(self, value_N: np.ndarray, weight_N: np.ndarray | None = None) -> Estimate:
        """The weighted mean of values from 0 to 1, or from -1 to 1 where they are `HALVES`, with its interval.

        Without weights every pair that is not NaN counts once.
        """
        weight_N = (~np.isnan(value_N)).astype(np.float64) if weight_N is None else weight_N
        used = weight_N > 0
        if not np.isin(value_N[used], HALVES).all():
            return counted(clustered(value_N, weight_N, self._index_N), self._index_N[used])
        of = difference if (value_N[used] < 0).any() else share
        return counted(of(value_N, weight_N, self._index_N), self._index_N[used])

    def difference(self, value_N: np.ndarray, weight_N: np.ndarray | None = None) -> tuple[Estimate, float]:
        """(the mean difference of two rewards' counts with its interval, p of "they do not differ"); NaN is no pair."""
        weight_N = (~np.isnan(value_N)).astype(np.float64) if weight_N is None else weight_N
        used = weight_N > 0
        result = counted(difference(value_N, weight_N, self._index_N), self._index_N[used])
        return result, sign_flip(self.sums(np.where(used, value_N, 0.0) * weight_N)) if used.any() else NAN


def counted(counts: Counted, cluster_N: np.ndarray) -> Estimate:
    """The estimate over pairs of these clusters."""
    return Estimate(counts.value, counts.low, counts.high, len(cluster_N), len(np.unique(cluster_N)), counts.worth)


def of_prompts(value_C: np.ndarray) -> Estimate:
    """The mean of one value a prompt that has no bounds, with Student's interval; NaN without a prompt.

    No interval where some prompts are 0, so that the mean rests on the others, and fewer than `FEW` are not.
    """
    value = float(value_C.mean()) if len(value_C) else NAN
    telling = int((np.abs(value_C) > ALIKE).sum())
    limits = (NAN, NAN) if telling < min(BATCH, len(value_C)) else student(value_C)
    return Estimate(value, *limits, len(value_C), len(value_C))
