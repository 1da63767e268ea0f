"""How sure a mean over prompts is: percentile bootstrap intervals (Efron & Tibshirani 1993, chapter 13).

Prompts are resampled, never pictures: two pictures of one prompt are not independent. A prompt that could not be judged
(NaN) is left out, in a paired comparison when either side lacks it; `unjudged` says how many that were.

Shapes: P prompts.
"""

from __future__ import annotations

import numpy as np

CHUNK = 2**20
"""Resampled values held at a time."""


def unjudged(*values_P: np.ndarray) -> int:
    """Prompts that are NaN in at least one of the arrays, and so count in no interval over them."""
    return int(np.any([np.isnan(v) for v in values_P], axis=0).sum())


def bootstrap_ci(values_P: np.ndarray, seed: int, n: int = 2000, level: float = 0.95) -> tuple[float, float]:
    """(low, high) of the mean over prompts, in the units of the values; `n` is the number of resamples.

    A pure function of its arguments. (nan, nan) when fewer than two prompts were judged. Raises ValueError when `level`
    is not between 0 and 1, `n` is below 1 or a value is infinite.
    """
    if not 0.0 < level < 1.0 or n < 1:
        raise ValueError(f"level={level}, n={n}: level must lie between 0 and 1 and n be at least 1")
    values = np.asarray(values_P, dtype=np.float64).ravel()
    values = values[~np.isnan(values)]
    if not np.isfinite(values).all():
        raise ValueError("an infinite value has no mean; a picture that could not be judged is NaN")
    if len(values) < 2:
        return float("nan"), float("nan")
    random = np.random.default_rng(seed)
    rows = max(CHUNK // len(values), 1)
    means = [
        values[random.integers(len(values), size=(min(rows, n - i), len(values)))].mean(axis=1)
        for i in range(0, n, rows)
    ]
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(np.concatenate(means), [tail, 1.0 - tail])
    return float(low), float(high)


def paired_ci(
    before_P: np.ndarray, after_P: np.ndarray, seed: int, n: int = 2000, level: float = 0.95
) -> tuple[float, float, float]:
    """(delta, low, high): mean of after - before over the prompts judged on both sides, and its interval.

    Pairing takes the difficulty of prompts out of the comparison, so it needs row i of both to be the same prompt drawn
    from the same noise. All three are nan when fewer than two prompts were judged on both sides. Raises ValueError when
    the lengths differ, and as `bootstrap_ci`.
    """
    before, after = np.asarray(before_P, dtype=np.float64), np.asarray(after_P, dtype=np.float64)
    if before.shape != after.shape:
        raise ValueError(f"{before.shape} values before and {after.shape} after: row i of both must be the same prompt")
    difference = after - before
    low, high = bootstrap_ci(difference, seed, n, level)
    return (float("nan") if np.isnan(low) else float(np.nanmean(difference))), low, high
