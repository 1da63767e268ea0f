"""How sure a mean over prompts is, also when the prompts are few or nearly all of them came out alike.

    (1)  values from 0 to 1, and differences of such: the intervals of `preference_data.statistics.score_intervals`
    (2)  others, such as decibels: the percentile bootstrap (Efron & Tibshirani 1993, chapter 13), expanded for few
         prompts to the tails of a t distribution (Hesterberg 2015, section 4); below `FEW` prompts, of which there are
         too few different resamples, Student's interval

Prompts are resampled, never images: two images of one prompt are not independent. A prompt that could not be judged
(NaN) is left out, in a paired comparison when either side lacks it; `unjudged` says how many that were.

Shapes: P prompts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from preference_data.statistics.score_intervals import bounded_difference, bounded_mean, student
from preference_data.statistics.shares import quantile_t

CHUNK = 2**20
"""Resampled values held at a time."""
MIN_PROMPTS = 20
"""Prompts from which on (2) resamples."""


def unjudged(*values_P: np.ndarray) -> int:
    """Prompts that are NaN in at least one of the arrays, and so count in no interval over them."""
    return int(np.any([np.isnan(v) for v in values_P], axis=0).sum())


def bootstrap_ci(values_P: np.ndarray, seed: int, n: int = 2000, level: float = 0.95) -> tuple[float, float]:
    """(low, high) of the mean over prompts, in the units of the values; `n` is the number of resamples.

    A pure function of its arguments. (nan, nan) when fewer than two prompts were judged, and where (2) gets values that
    are all alike, for they do not show how far the next one may lie. `seed` and `n` are for (2). Raises ValueError when
    `level` is not between 0 and 1, `n` is below 1 or a value is infinite.
    """
    if not 0.0 < level < 1.0 or n < 1:
        raise ValueError(f"level={level}, n={n}: level must lie between 0 and 1 and n be at least 1")
    values = np.asarray(values_P, dtype=np.float64).ravel()
    values = values[~np.isnan(values)]
    if not np.isfinite(values).all():
        raise ValueError("an infinite value has no mean; an image that could not be judged is NaN")
    if len(values) < 2:
        return float("nan"), float("nan")
    if ((values >= 0.0) & (values <= 1.0)).all():
        return bounded_mean(values, level)
    return _resampled(values, seed, n, level)


def in_brackets(low: float, high: float, form: str) -> str:
    """An interval in a table, its ends written in the format `form`; says so where there is none (NaN)."""
    if math.isnan(low) or math.isnan(high):
        return "(no interval)"
    return f"({low:{form}} to {high:{form}})"


def _resampled(values: np.ndarray, seed: int, n: int, level: float) -> tuple[float, float]:
    """(2) of at least two finite values."""
    from scipy.special import ndtr

    limits = student(values, level)
    if len(values) < MIN_PROMPTS or math.isnan(limits[0]):
        return limits
    freedom = len(values) - 1
    reach = quantile_t(0.5 + level / 2.0, freedom)
    random = np.random.default_rng(seed)
    rows = max(CHUNK // len(values), 1)
    means = [
        values[random.integers(len(values), size=(min(rows, n - i), len(values)))].mean(axis=1)
        for i in range(0, n, rows)
    ]
    tail = float(ndtr(-math.sqrt(len(values) / freedom) * reach))
    low, high = np.quantile(np.concatenate(means), [tail, 1.0 - tail])
    return float(low), float(high)


def paired_ci(
    before_P: np.ndarray, after_P: np.ndarray, seed: int, n: int = 2000, level: float = 0.95
) -> tuple[float, float, float]:
    """(delta, low, high): mean of after - before over the prompts judged on both sides, and its interval.

    Pairing takes the difficulty of prompts out of the comparison, so row i of both must be the same prompt sampled from
    the same noise. All three are nan when fewer than two prompts were judged on both sides. Raises ValueError when
    the lengths differ, and as `bootstrap_ci`.
    """
    before, after = np.asarray(before_P, dtype=np.float64), np.asarray(after_P, dtype=np.float64)
    if before.shape != after.shape:
        raise ValueError(f"{before.shape} values before and {after.shape} after: row i of both must be the same prompt")
    difference = after - before
    both = ~np.isnan(difference)
    sides = np.concatenate([before[both], after[both]])
    bootstrap_ci(sides, seed, 1, level)  # refuses what is infinite, and a level that is none
    if both.sum() < 2:
        return float("nan"), float("nan"), float("nan")
    bounded = ((sides >= 0.0) & (sides <= 1.0)).all()
    inside = bounded_difference(difference[both], level) if bounded else _resampled(difference[both], seed, n, level)
    return float(difference[both].mean()), *inside


def welch_ci(before_N: Sequence[float], after_M: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """(low, high) of mean(after) - mean(before) of two independent samples whose spreads may differ (Welch 1947).

    NaN where a sample has fewer than two values, or neither has a spread.
    """
    from scipy.stats import ttest_ind

    if min(len(before_N), len(after_M)) < 2 or np.ptp(before_N) == 0.0 == np.ptp(after_M):
        return math.nan, math.nan
    low, high = ttest_ind(after_M, before_N, equal_var=False).confidence_interval(level)
    return float(low), float(high)
