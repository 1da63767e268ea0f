"""How sure a number over pairs is, when pairs of one prompt depend on each other: prompts are resampled, never pairs.

    (1)  ratio = sum_i w_i x_i / sum_i w_i       in a resample every prompt counts as often as it was drawn
    (2)  the percentile interval of the bootstrap, expanded for few prompts: its tails are those of a t distribution
         (Hesterberg 2015, "What teachers should know about the bootstrap", section 4)

The same resamples serve all rewards, so that differences between them are paired.

Shapes: N pairs, C clusters (prompts), B resamples, R rewards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

NAN = float("nan")
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval, and what it rests on."""

    value: float
    low: float = NAN
    high: float = NAN
    n: int = 0
    clusters: int = 0


class Clusters:
    """Resamples of the prompts that pairs belong to; a pure function of the ids and the seed."""

    def __init__(self, cluster_N: np.ndarray, seed: int, resamples: int = 2000) -> None:
        if resamples < 1:
            raise ValueError(f"resamples is {resamples}; it must be at least 1")
        ids, self._place_N = np.unique(cluster_N, return_inverse=True)
        self.count = len(ids)
        random = np.random.default_rng(seed)
        share = np.full(self.count, 1.0 / self.count) if self.count else np.zeros(0)
        self.draws_BC = random.multinomial(self.count, share, size=resamples).astype(np.float64)

    def sums(self, value_N: np.ndarray) -> np.ndarray:
        """[C]: sums over the pairs of every cluster."""
        return np.bincount(self._place_N, weights=value_N, minlength=self.count)

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
        """The weighted mean with its interval; without weights every pair that is not NaN counts once."""
        weight_N = (~np.isnan(value_N)).astype(np.float64) if weight_N is None else weight_N
        value, draws_B, n, clusters = self.ratio(value_N, weight_N)
        return interval(value, draws_B, n, clusters)


def interval(value: float, draws_B: np.ndarray, n: int, clusters: int, level: float = 0.95) -> Estimate:
    """(2); without an interval when fewer than two clusters carry the value."""
    draws = draws_B[np.isfinite(draws_B)]
    if clusters < 2 or len(draws) < 2 or not math.isfinite(value):
        return Estimate(value, NAN, NAN, n, clusters)
    tail = _NORMAL.cdf(-math.sqrt(clusters / (clusters - 1)) * t_quantile(0.5 + level / 2, clusters - 1))
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Estimate(value, float(low), float(high), n, clusters)


def t_quantile(p: float, freedom: int) -> float:
    """Quantile of Student's t by Cornish and Fisher's expansion; within 0.5 % of the truth from 4 degrees on."""
    z, v = _NORMAL.inv_cdf(p), float(freedom)
    return (
        z + (z**3 + z) / (4 * v) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    )  # fmt: skip


def p_value(value: float, draws_B: np.ndarray, clusters: int) -> float:
    """Two-sided p of "the number is 0": value over the standard deviation of its resamples, for few clusters too.

    1 when value and resamples are all 0: two rewards that agree everywhere do not differ.
    """
    draws = draws_B[np.isfinite(draws_B)]
    if clusters < 2 or len(draws) < 2 or not math.isfinite(value):
        return NAN
    error = float(draws.std(ddof=1)) * math.sqrt(clusters / (clusters - 1))
    if error == 0.0:
        return 1.0 if value == 0.0 else 0.0
    t = abs(value) / error
    v = float(clusters - 1)
    # Wallace's normal approximation of Student's t (1959): exact in the limit, good to 0.02 % from 5 degrees on
    z = (8 * v + 1) / (8 * v + 3) * math.sqrt(v * math.log1p(t * t / v))
    return 2.0 * _NORMAL.cdf(-z)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p values (1979): all comparisons together keep their error rate. NaN stays NaN, uncounted."""
    known = sorted((value, i) for i, value in enumerate(p) if not math.isnan(value))
    adjusted = list(p)
    running = 0.0
    for rank, (value, i) in enumerate(known):
        running = max(running, min((len(known) - rank) * value, 1.0))
        adjusted[i] = running
    return adjusted


def wilson(successes: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson's interval (1927) of a share of independent trials; (nan, nan) without any."""
    if n <= 0:
        return NAN, NAN
    z = _NORMAL.inv_cdf(0.5 + level / 2)
    p = successes / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(middle - half, 0.0), min(middle + half, 1.0)
