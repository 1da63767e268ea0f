"""Means of scores from 0 to 1, one a prompt: intervals that keep a width where few prompts came out alike.

    (1)  a mean m of n scores is as sure as a share of n' = m (1 - m) / v right answers, at least n, and has their
         interval (Clopper & Pearson 1934): for scores that are 0 or 1, n' is n
    (2)  v is the variance of the mean, sum (x - m)^2 / n^2, with one further prompt at the far end of the scale,
         because few prompts that came out alike do not show that the next one will
    (3)  a mean difference is the mean gain minus the mean loss, each with (1), added as in Newcombe (1998)
    (4)  an AUC is the mean over pairs of one of either kind; v is that of DeLong, DeLong & Clarke-Pearson (1988) with
         the pairs of a prompt together (Obuchowski 1997). It is never above m (1 - m) / n, n the rarer kind's number
         (van Dantzig 1951). Its parts are means already, so the further prompt is wholly right or wrong by chance
    (5)  what has no bounds has Student's interval; Spearman's rho that of Bonett & Wright (2000) on Fisher's scale
    (6)  the ratio of two mean differences a and b may be every s for which (3) of a - s b, over 1 + |s|, has 0 inside
         (Fieller 1954); where b may be 0 it has no end

Shapes: N values, P prompts, C clusters.
"""

from __future__ import annotations

import math

import numpy as np

from preference_data.statistics.shares import LEVEL, NAN, Counted, added, exact, quantile_t

ALIKE = 1e-12
"""Of the largest value: values no further apart are alike but for rounding."""
FAR = 100.0
"""A ratio beyond which an interval is said to have no end."""
MIN_RANKS = 10
"""Pairs below which no interval of a rank correlation is given."""


def bounded_mean(value_P: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """(low, high) of the mean of scores from 0 to 1, by (1)."""
    mean, low, high, _ = _interval(value_P, level)
    return min(low, mean), max(high, mean)


def bounded_difference(value_P: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """(low, high) of the mean of differences from -1 to 1, by (3)."""
    won, won_low, won_high, won_spread = _interval(np.maximum(value_P, 0.0), level)
    lost, lost_low, lost_high, lost_spread = _interval(np.maximum(-value_P, 0.0), level)
    related = max(-won * lost / (won_spread * lost_spread), -1.0)
    low = won - lost - added(won - won_low, lost_high - lost, related)
    high = won - lost + added(won_high - won, lost - lost_low, related)
    return max(low, -1.0), min(high, 1.0)


def bounded_ratio(top_P: np.ndarray, of_P: np.ndarray, level: float = LEVEL) -> tuple[float, float, float]:
    """(value, low, high) of the ratio of two mean differences from -1 to 1 by (6), over the prompts that have both.

    Infinite where the interval has no end, all three NaN where `of_P` does not rise.
    """
    both = ~np.isnan(top_P + of_P)
    top_P, of_P = top_P[both], of_P[both]
    if of_P.sum() <= ALIKE * len(of_P):
        return NAN, NAN, NAN
    value = float(top_P.sum() / of_P.sum())

    def end(outer: float) -> float:
        """The last ratio towards `outer` that the data does not exclude."""
        inner = value
        if not _excludes(top_P, of_P, outer, level):
            return math.copysign(math.inf, outer)
        for _ in range(30):
            middle = (inner + outer) / 2.0
            inner, outer = (inner, middle) if _excludes(top_P, of_P, middle, level) else (middle, outer)
        return inner

    return value, end(-FAR), end(FAR)


def _excludes(top_P: np.ndarray, of_P: np.ndarray, ratio: float, level: float) -> bool:
    """Whether (3) says that the mean of `top_P` is not `ratio` times that of `of_P`."""
    low, high = bounded_difference((top_P - ratio * of_P) / (1.0 + abs(ratio)), level)
    return low > 0.0 or high < 0.0


def bounded(
    mean: float, variance: float, count: float, level: float = LEVEL, further: float | None = None
) -> tuple[float, float, float]:
    """(low, high, worth) by (1) and (2) of a mean with this sampling variance over `count` independent prompts.

    `further` is the square of what one further prompt adds; that of (2) when not given.
    """
    further = max(mean, 1.0 - mean) ** 2 if further is None else further
    worth = max(mean * (1.0 - mean) / (variance + further / count**2), count)
    low, high = exact(mean * worth, worth, level)
    return min(low, mean), max(high, mean), worth


def _interval(value_P: np.ndarray, level: float) -> tuple[float, float, float, float]:
    """(mean, low, high, spread of a prompt) by (1) and (2); at least one score."""
    count, mean = len(value_P), float(value_P.mean())
    variance = float(((value_P - mean) ** 2).sum()) / count**2
    low, high, _ = bounded(mean, variance, count, level)
    far = max(mean, 1.0 - mean) / count
    return mean, low, high, math.sqrt((variance + far * far) * count)


def clustered(value_N: np.ndarray, weight_N: np.ndarray, cluster_N: np.ndarray, level: float = LEVEL) -> Counted:
    """(1) of the weighted mean of values from 0 to 1 whose clusters are independent; all NaN without weight."""
    used = weight_N > 0
    if not used.any():
        return Counted(NAN, NAN, NAN, 0.0)
    weight = weight_N[used] / weight_N[used].sum()
    mean = float(weight @ value_N[used])
    _, index = np.unique(cluster_N[used], return_inverse=True)
    share_C = np.bincount(index, weights=weight)
    gap_C = np.bincount(index, weights=weight * (value_N[used] - mean))
    return Counted(mean, *bounded(mean, float(gap_C @ gap_C), 1.0 / float(share_C @ share_C), level))


def auc(value_N: np.ndarray, positive_N: np.ndarray, cluster_N: np.ndarray, level: float = LEVEL) -> Counted:
    """(4): P(a positive is above a negative) + half P(equal); all NaN without both kinds.

    By hand, because no library gives the variance of an AUC whose pairs come in clusters; the value is its by-product.
    """
    from scipy.stats import rankdata

    positive = positive_N.astype(bool)
    up, down = int(positive.sum()), int((~positive).sum())
    if not up or not down:
        return Counted(NAN, NAN, NAN, 0.0)
    within = np.empty(len(value_N))
    within[positive], within[~positive] = rankdata(value_N[positive]), rankdata(value_N[~positive])
    below = rankdata(value_N) - within  # of the other kind, equal ones half
    right = np.where(positive, below / down, 1.0 - below / up)
    mean = float(right[positive].mean())
    _, index = np.unique(cluster_N, return_inverse=True)
    gap_C = np.bincount(index, weights=(right - mean) / np.where(positive, up, down))
    kinds = [np.bincount(index[which]) / which.sum() for which in (positive, ~positive)]
    count = min(1.0 / float(share @ share) for share in kinds)
    smooth = (count * mean + 0.5) / (count + 1.0)
    return Counted(mean, *bounded(mean, float(gap_C @ gap_C), count, level, smooth * (1.0 - smooth)))


def student(value_C: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """(low, high) of the mean by (5); NaN for fewer than two, and for values that are alike but for rounding."""
    if len(value_C) < 2 or np.ptp(value_C) <= ALIKE * max(1.0, float(np.abs(value_C).max())):
        return NAN, NAN
    half = quantile_t(0.5 + level / 2.0, len(value_C) - 1) * float(value_C.std(ddof=1)) / math.sqrt(len(value_C))
    return float(value_C.mean()) - half, float(value_C.mean()) + half


def rho_interval(rho: float, count: int, level: float = LEVEL) -> tuple[float, float]:
    """(low, high) of Spearman's rho of so many pairs by (5); NaN for fewer than `FEW_RANKS`."""
    if not count >= MIN_RANKS or math.isnan(rho):
        return NAN, NAN
    middle = math.atanh(max(min(rho, 1.0 - 1e-12), 1e-12 - 1.0))
    half = quantile_t(0.5 + level / 2.0, count - 2) * math.sqrt((1.0 + rho * rho / 2.0) / (count - 3))
    return math.tanh(middle - half), math.tanh(middle + half)
