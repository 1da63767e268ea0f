"""Can a reward tell that two images are equally good, or both bad? And is a judge of pairs the same both ways round?

(1)  three-way accuracy: "tie" when |gap| <= threshold; the threshold is tuned on one half of the prompts and applied
     to the other, and the other way round, so every pair is judged by a threshold that never saw it (NaN in the result:
     in a half, calling nothing a tie is best)
(2)  tie AUC: how often a decided pair has a larger |gap| than a tied one (0.5 = the size of the gap says nothing)
(3)  both-bad AUC: how often the mean score of a pair that people called both bad is below that of another pair
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from preference_data.statistics.score_intervals import auc as area
from rewards.comparison.resample import Clusters, Estimate, counted
from rewards.comparison.score_table import Table


def ties(table: Table, clusters: Clusters, seed: int) -> dict[str, Any]:
    """(1) to (3) of every reward; {} when nobody answered with a tie."""
    label_N = table.label_N
    tied_N = (label_N == 0) & (table.vote_N3[:, 1] > 0)
    if not tied_N.any():
        return {}
    half_N = np.random.default_rng(seed).permutation(int(table.prompt_N.max()) + 1)[table.prompt_N] % 2
    used_N = tied_N | (label_N != 0)
    bad_N = table.both_bad_N * 2 > table.vote_N3.sum(1)
    rows = []
    for r, name in enumerate(table.rewards):
        gap_N = table.gap_RN[r]
        known_N = used_N & ~np.isnan(gap_N)
        right_N, thresholds = np.full(len(gap_N), np.nan), []
        for half in (0, 1):
            fit, judge = known_N & (half_N != half), known_N & (half_N == half)
            limit = tie_threshold(gap_N[fit], label_N[fit])
            thresholds.append(limit)
            verdict_N = np.where(np.abs(gap_N) <= limit, 0, np.sign(gap_N))
            right_N[judge] = verdict_N[judge] == label_N[judge]
        mean_N = (table.score_RP[r][table.left_N] + table.score_RP[r][table.right_N]) / 2
        rows.append({
            "reward": name, "three_way": asdict(clusters.estimate(right_N)),
            "threshold": float(np.mean(thresholds)) if min(thresholds) >= 0 else float("nan"),
            "tie_auc": asdict(auc(np.abs(gap_N), label_N != 0, tied_N, table.prompt_N)),
            "both_bad_auc": asdict(auc(mean_N, ~bad_N, bad_N, table.prompt_N)),
        })  # fmt: skip
    shares = [float((used_N & (label_N == k)).sum() / used_N.sum()) for k in (-1, 0, 1)]
    most_frequent = max(shares)
    return {
        "rewards": rows, "ties": int(tied_N.sum()), "both_bad": int(bad_N.sum()), "pairs": int(used_N.sum()),
        "always_the_same_answer": most_frequent,
    }  # fmt: skip


def tie_threshold(gap_N: np.ndarray, label_N: np.ndarray) -> float:
    """The |gap| up to which "tie" gives the most right answers; -1 when calling nothing a tie is best."""
    if not len(gap_N):
        return -1.0
    order = np.argsort(np.abs(gap_N), kind="stable")
    size, label, sign = np.abs(gap_N)[order], label_N[order], np.sign(gap_N)[order]
    gained = np.cumsum((label == 0).astype(int) - (sign == label).astype(int))
    last = np.append(size[1:] != size[:-1], True)  # equal gaps share a side of the threshold
    best = int(np.argmax(np.where(last, gained, -len(gap_N))))
    if gained[best] <= 0:
        return -1.0
    return float((size[best] + size[best + 1]) / 2) if best + 1 < len(size) else float(size[best])


def auc(value_N: np.ndarray, positive_N: np.ndarray, negative_N: np.ndarray, prompt_N: np.ndarray) -> Estimate:
    """P(a positive is above a negative) + half P(equal), with an interval over prompts; NaN without both kinds."""
    known = ~np.isnan(value_N) & (positive_N | negative_N)
    return counted(area(value_N[known], positive_N[known], prompt_N[known]), prompt_N[known])


def order(table: Table, clusters: Clusters) -> list[dict[str, Any]]:
    """Judges of pairs, asked both ways round: the same answer? and do they prefer the one that came first?"""
    label_N = table.label_N
    rows = []
    for name, judge in table.pairwise.items():
        first = np.sign(judge.left_first_N - 0.5)
        second = np.sign(judge.left_second_N - 0.5)
        both = ~np.isnan(first) & ~np.isnan(second)
        if not both.any():
            continue
        same = both & (first == second)
        decided = same & (label_N != 0) & (first != 0)
        # Chosen because it came first: left when left stood first, right when right did.
        chose_first = (first == 1).astype(float) + (second == -1) - (first == -1) - (second == 1)
        chose = np.where(both, (first != 0).astype(float) + (second != 0), 0.0)
        lead = clusters.difference(chose_first / np.maximum(chose, 1.0), chose)[0]
        rows.append({
            "reward": name, "pairs": int(both.sum()),
            "consistent": asdict(clusters.estimate(same.astype(float), both.astype(float))),
            "accuracy_when_consistent": asdict(
                clusters.estimate((first == label_N).astype(float), decided.astype(float))
            ),
            "prefers_first": {**asdict(lead), **{k: 0.5 + getattr(lead, k) / 2 for k in ("value", "low", "high")}},
        })  # fmt: skip
    return rows
