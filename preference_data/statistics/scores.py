"""Means of scores from 0 to 1, one a prompt: intervals that keep a width where few prompts came out alike.

    (1)  a mean m of n scores is as sure as a share of n' = n m (1 - m) / v right answers, at least n, and has their
         interval (Clopper & Pearson 1934): for scores that are 0 or 1, n' is n
    (2)  v is the variance of the scores with one further prompt that is wholly right or wrong, because few prompts that
         came out alike do not show that the next one will
    (3)  a mean difference is the mean gain minus the mean loss, each with (1), added as in Newcombe (1998)

Shapes: P prompts.
"""

from __future__ import annotations

import math

import numpy as np

from preference_data.statistics.shares import LEVEL, exact


def bounded_mean(value_P: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """(low, high) of the mean of scores from 0 to 1, by (1)."""
    mean, low, high, _ = _interval(value_P, level)
    return min(low, mean), max(high, mean)


def bounded_difference(value_P: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """(low, high) of the mean of differences from -1 to 1, by (3)."""
    won, won_low, won_high, won_spread = _interval(np.maximum(value_P, 0.0), level)
    lost, lost_low, lost_high, lost_spread = _interval(np.maximum(-value_P, 0.0), level)
    related = max(-won * lost / (won_spread * lost_spread), -1.0)
    low = won - lost - _added(won - won_low, lost_high - lost, related)
    high = won - lost + _added(won_high - won, lost - lost_low, related)
    return max(low, -1.0), min(high, 1.0)


def _interval(value_P: np.ndarray, level: float) -> tuple[float, float, float, float]:
    """(mean, low, high, spread of a prompt) by (1) and (2); at least one score."""
    count, mean = len(value_P), float(value_P.mean())
    smooth = (count * mean + 0.5) / (count + 1.0)
    variance = (float(((value_P - mean) ** 2).sum()) + smooth * (1.0 - smooth)) / count
    worth = max(count * mean * (1.0 - mean) / variance, float(count))
    low, high = exact(mean * worth, worth, level)
    return mean, low, high, math.sqrt(variance)


def _added(a: float, b: float, related: float) -> float:
    return math.sqrt(max(a * a + b * b - 2.0 * related * a * b, 0.0))
