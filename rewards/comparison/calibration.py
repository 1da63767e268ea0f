"""Is a reward's gap a probability? p = s(gap / T) against the share of people who chose the left image.

Shapes: N answers or pairs. Weights need not sum to anything.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BINS = 15
DRAWS = 50
"""Simulated sets of answers behind the ECE of a perfectly calibrated judge."""


def sigmoid(x: np.ndarray) -> np.ndarray:
    """The logistic function, without overflow."""
    half = np.exp(-np.abs(x))
    p: np.ndarray = np.where(x >= 0, 1.0 / (1.0 + half), half / (1.0 + half))
    return p


def log_loss(gap_N: np.ndarray, share_N: np.ndarray, weight_N: np.ndarray) -> float:
    """Mean of -[y log s(gap) + (1 - y) log s(-gap)], in nats."""
    each = np.logaddexp(0.0, -gap_N) * share_N + np.logaddexp(0.0, gap_N) * (1.0 - share_N)
    return float((weight_N * each).sum() / weight_N.sum())


def fit_temperature(gap_N: np.ndarray, share_N: np.ndarray, weight_N: np.ndarray) -> float:
    """T > 0 that minimises the log loss of s(gap / T) (Guo et al. 2017), by golden section over 1 / T.

    A reward whose gaps say nothing, or the opposite, gets a very large T: everything becomes a half. ValueError without
    a decided answer.
    """
    if not weight_N.sum() > 0:
        raise ValueError("no answer names a better image, so there is nothing to calibrate against")
    used = weight_N > 0
    gap_N, share_N, weight_N = gap_N[used], share_N[used], weight_N[used]
    size = float(np.sqrt((weight_N * gap_N**2).sum() / weight_N.sum()))
    if size == 0.0:
        return 1.0
    low, high = np.log(1e-6 / size), np.log(1e3 / size)  # of 1 / T; convex in 1 / T, so unimodal in its logarithm
    golden = (np.sqrt(5.0) - 1.0) / 2.0
    a, b = high - golden * (high - low), low + golden * (high - low)
    fa, fb = (log_loss(gap_N * np.exp(x), share_N, weight_N) for x in (a, b))
    for _ in range(60):
        if fa <= fb:
            high, b, fb = b, a, fa
            a = high - golden * (high - low)
            fa = log_loss(gap_N * np.exp(a), share_N, weight_N)
        else:
            low, a, fa = a, b, fb
            b = low + golden * (high - low)
            fb = log_loss(gap_N * np.exp(b), share_N, weight_N)
    return float(np.exp(-(low + high) / 2.0))


@dataclass(frozen=True)
class Bin:
    """A bar of a reliability plot."""

    predicted: float
    observed: float
    weight: float


def reliability_bins(p_N: np.ndarray, share_N: np.ndarray, weight_N: np.ndarray, bins: int = BINS) -> list[Bin]:
    """Equally heavy bins of confidence: p is turned round so that it is at least a half, and the label with it.

    Which side an image stood on carries no information, so both sides fill one bin.
    """
    p, y = towards_half(p_N, p_N), towards_half(share_N, p_N)
    results = []
    for m in bin_members(p_N, weight_N, bins):
        total = float(weight_N[m].sum())
        w = weight_N[m]
        results.append(Bin(float((w * p[m]).sum() / total), float((w * y[m]).sum() / total), total))
    return results


def towards_half(value_N: np.ndarray, p_N: np.ndarray) -> np.ndarray:
    """[N]: the probabilities or shares of the images that p prefers."""
    return np.where(p_N < 0.5, 1.0 - value_N, value_N)


def bin_members(p_N: np.ndarray, weight_N: np.ndarray, bins: int = BINS) -> list[np.ndarray]:
    """The places of every bin's pairs. Equal predictions stay in one bin, so that a constant reward has one."""
    used = np.flatnonzero(weight_N > 0)
    p = towards_half(p_N, p_N)[used]
    order = np.argsort(p, kind="stable")
    used, p = used[order], p[order]
    if not len(p):
        return []
    w = weight_N[used]
    index = np.minimum((bins * (np.cumsum(w) - w / 2) / w.sum()).astype(int), bins - 1)
    first = np.concatenate([[True], p[1:] != p[:-1]])
    index = index[np.flatnonzero(first)[np.cumsum(first) - 1]]
    return [used[index == k] for k in np.unique(index)]


def expected_calibration_error(bins: list[Bin]) -> float:
    """Mean distance of predicted from observed over the bins, by weight (ECE, Naeini et al. 2015); NaN without bins."""
    total = sum(b.weight for b in bins)
    return sum(b.weight * abs(b.predicted - b.observed) for b in bins) / total if total else float("nan")


def brier(p_N: np.ndarray, share_N: np.ndarray, weight_N: np.ndarray) -> float:
    """Mean squared distance of p from what was answered, 0 or 1; NaN without weight."""
    each = squared_distance(p_N, share_N)
    return float((weight_N * each).sum() / weight_N.sum()) if weight_N.sum() else float("nan")


def squared_distance(p_N: np.ndarray, share_N: np.ndarray) -> np.ndarray:
    """[N]: what each pair adds to the Brier score. By hand, because libraries know no answer that is shared.

    A shared answer counts as its parts, so it is never free: p = share = 0.5 adds 0.25.
    """
    return share_N * (1.0 - p_N) ** 2 + (1.0 - share_N) * p_N**2


def accuracy(gap_N: np.ndarray, share_N: np.ndarray, weight_N: np.ndarray) -> float:
    """Share of decided answers that agree with the sign of the gap; a gap of 0 is half right."""
    right = np.where(gap_N > 0, share_N, np.where(gap_N < 0, 1.0 - share_N, 0.5))
    return float((weight_N * right).sum() / weight_N.sum()) if weight_N.sum() else float("nan")


def by_chance(
    p_N: np.ndarray, answers_N: np.ndarray, weight_N: np.ndarray, random: np.random.Generator
) -> float:  # fmt: skip
    """The mean ECE when answers come true exactly as often as predicted, with as many answers a pair as there were."""
    results = []
    for _ in range(DRAWS):
        share_N = random.binomial(answers_N, p_N) / answers_N
        results.append(expected_calibration_error(reliability_bins(p_N, share_N, weight_N)))
    return float(np.mean(results))


def summary(gap_N: np.ndarray, share_N: np.ndarray, weight_N: np.ndarray) -> dict[str, float]:
    """Everything about calibrated gaps (T applied) in one go, for a card or a table."""
    p = sigmoid(gap_N)
    bins = reliability_bins(p, share_N, weight_N)
    return {
        "answers": float((weight_N > 0).sum()),
        "accuracy": accuracy(gap_N, share_N, weight_N),
        "ece": expected_calibration_error(bins),
        "ece_by_chance": by_chance(p, np.ones(len(p), dtype=int), weight_N, np.random.default_rng(0)),
        "brier": brier(p, share_N, weight_N),
        "log_loss": log_loss(gap_N, share_N, weight_N) if weight_N.sum() else float("nan"),
    }
