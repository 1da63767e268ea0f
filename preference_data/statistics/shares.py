"""Shares of what was counted: intervals that hold for few prompts too, exact tests, and how many more would decide.

    (1)  interval of a share       Clopper & Pearson (1934), which also takes counts that are not whole
    (2)  pairs of one prompt       count as n = N / (1 + (m - 1) r) independent ones (Kish 1965), m pairs a prompt. r,
                                   their correlation within a prompt, comes from the spread of the prompts' sums, with
                                   one further prompt whose pairs all agree: few prompts cannot show that r is small
    (3)  interval of a difference  of two shares of the same pairs, from the shares a won and b lost: the square-and-add
                                   of Newcombe (1998), with the limits of (1) and the correlation of two shares of one
                                   multinomial
    (4)  sign flips (Fisher 1935)  if two sides are alike, every prompt's sum is as likely with the other sign
    (5)  Holm's correction (1979)

n lies between Kish's number of prompts, as if all pairs of a prompt were one, and his number of pairs. So no interval
of (1) is wider than that of as many independent prompts, and none has width 0.

scipy is opened where it is used, because pages that only look at a run need none of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NAN = float("nan")
LEVEL = 0.95
POWER = 0.8
"""Probability of a decision that "n more answers would decide" promises, were the estimate the truth."""
ENUMERATED = 12
"""Largest sums whose signs are flipped one by one in (4); the others together are close to normal."""


@dataclass(frozen=True)
class Counted:
    """A share or a difference of shares: its interval, and the number of independent pairs that it is worth (2)."""

    value: float
    low: float
    high: float
    worth: float


def exact(successes: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """(1): (low, high); (nan, nan) without any trial.

    The quantile itself, because statsmodels' `proportion_confint` takes thirty times as long, and a page asks for
    thousands.
    """
    from scipy.special import betaincinv

    if not n > 0:
        return NAN, NAN
    tail, left = (1.0 - level) / 2.0, n - successes
    low = 0.0 if successes <= 1e-9 else float(betaincinv(successes, left + 1.0, tail))
    high = 1.0 if left <= 1e-9 else float(betaincinv(successes + 1.0, left, 1.0 - tail))
    return low, high


def share(value_N: np.ndarray, weight_N: np.ndarray, cluster_N: np.ndarray, level: float = LEVEL) -> Counted:
    """(1) and (2) of the weighted mean of values from 0 to 1; all NaN without weight. Weight 0 may hold NaN."""
    used = weight_N > 0
    value, weight, cluster = value_N[used], weight_N[used], cluster_N[used]
    if not len(value):
        return Counted(NAN, NAN, NAN, 0.0)
    mean = float(weight @ value / weight.sum())
    worth = effective(value, weight, cluster, mean * (1.0 - mean))
    low, high = exact(mean * worth, worth, level)
    return Counted(mean, min(low, mean), max(high, mean), worth)


def difference(value_N: np.ndarray, weight_N: np.ndarray, cluster_N: np.ndarray, level: float = LEVEL) -> Counted:
    """(3) of the weighted mean of values from -1 to 1: 1 = only the first is right, -1 = only the second."""
    used = weight_N > 0
    value, weight, cluster = value_N[used], weight_N[used], cluster_N[used]
    if not len(value):
        return Counted(NAN, NAN, NAN, 0.0)
    weight = weight / weight.sum()
    mean = float(weight @ value)
    worth = effective(value, weight, cluster, float(weight @ (value - mean) ** 2))
    won, lost = float(weight @ np.maximum(value, 0.0)), float(weight @ np.maximum(-value, 0.0))
    (won_low, won_high), (lost_low, lost_high) = (exact(s * worth, worth, level) for s in (won, lost))
    room = (1.0 - won) * (1.0 - lost)
    related = -math.sqrt(won * lost / room) if room > 1e-12 else 0.0
    low = mean - added(won - won_low, lost_high - lost, related)
    high = mean + added(won_high - won, lost - lost_low, related)
    return Counted(mean, max(low, -1.0), min(high, 1.0), worth)


def added(a: float, b: float, related: float) -> float:
    """Newcombe's square-and-add of two half widths whose shares are `related`."""
    return math.sqrt(max(a * a + b * b - 2.0 * related * a * b, 0.0))


def effective(value_N: np.ndarray, weight_N: np.ndarray, cluster_N: np.ndarray, variance: float) -> float:
    """n of (2); `variance` is that of a single pair. All weights are positive."""
    _, index = np.unique(cluster_N, return_inverse=True)
    weight = weight_N / weight_N.sum()
    sums_C = np.bincount(index, weights=weight)
    prompts, pairs = 1.0 / float(sums_C @ sums_C), 1.0 / float(weight @ weight)
    size = pairs / prompts
    count = len(sums_C)
    if size <= 1.0 + 1e-9 or count < 2:
        return min(prompts, pairs)
    gap_C = np.bincount(index, weights=weight * (value_N - weight @ value_N))
    spread = count / (count - 1) * float(gap_C @ gap_C)
    related = (spread * pairs / variance - 1.0) / (size - 1.0) if variance > 1e-12 else 1.0
    informed = count * min(4.0 * variance, 1.0)  # a prompt says less of r, the rarer one of the two outcomes is
    related = (min(max(related, 0.0), 1.0) * informed + 1.0) / (informed + 1.0)
    return min(max(pairs / (1.0 + (size - 1.0) * related), prompts), pairs)


def sign_flip(sum_C: np.ndarray) -> float:
    """(4): two-sided p of sums a cluster whose total is 0 in truth; 1 when all are 0, NaN without any.

    The signs of the largest sums are enumerated; the rest is normal with their sum of squares as its variance.
    """
    from scipy.special import ndtr

    if not len(sum_C):
        return NAN
    size_C = np.sort(np.abs(sum_C[sum_C != 0]))[::-1]
    if not len(size_C):
        return 1.0
    total = abs(float(sum_C.sum())) * (1.0 - 1e-9)
    first, rest = size_C[:ENUMERATED], size_C[ENUMERATED:]
    flipped = np.zeros(1)
    for size in first:
        flipped = np.concatenate([flipped + size, flipped - size])
    spread = math.sqrt(float(rest @ rest))
    if spread == 0.0:
        return float((np.abs(flipped) >= total).mean())
    return float((ndtr((flipped - total) / spread) + ndtr((-flipped - total) / spread)).mean())


def binomial_p(hits: int, count: int) -> float:
    """Exact two-sided p of `hits` in `count` throws of a fair coin; 1 when there was none."""
    from scipy.stats import binomtest

    return float(binomtest(hits, count).pvalue) if count else 1.0


def adjusted(p: Sequence[float]) -> list[float]:
    """(5): adjusted p values; all comparisons together keep their error rate. NaN stays NaN, uncounted.

    By hand, because statsmodels' function collects the garbage of the whole process at every call, a twentieth of a
    second or more in which a server answers nobody. The test has it as the oracle.
    """
    values = np.array(p, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    values[order] = np.minimum(np.maximum.accumulate(np.arange(len(order), 0, -1) * values[order]), 1.0)
    return [float(value) for value in values]


def quantile_t(p: float, freedom: float) -> float:
    """Quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, p))


def quantile_z(p: float) -> float:
    """Quantile of the normal distribution."""
    from scipy.special import ndtri

    return float(ndtri(p))


def needed(gap: float, variance: float, variance_if_none: float, alpha: float = 1.0 - LEVEL) -> float:
    """Independent pairs for a two-sided test at `alpha` to find a mean that is `gap` away, with `POWER` (Fleiss 1981).

    `variance` of a pair, and `variance_if_none`, what it would be without a gap; infinite for no gap.
    """
    if not abs(gap) > 1e-12:
        return math.inf
    surely, power = quantile_z(1.0 - alpha / 2.0), quantile_z(POWER)
    return ((surely * math.sqrt(variance_if_none) + power * math.sqrt(variance)) / gap) ** 2
