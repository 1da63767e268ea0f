"""The calibration section: what a reward's gap says as a probability, on prompts that its temperature never saw.

Prompts are cut into two halves; T is fitted on either and applied to the other. The ECE of a perfectly calibrated judge
is not 0 with finitely many answers: the same bins with answers drawn from the predictions say how much it would be.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from rewards.comparison.calibration import (
    bin_members,
    brier,
    by_chance,
    expected_calibration_error,
    fit_temperature,
    log_loss,
    reliability_bins,
    sigmoid,
    squared_distance,
    towards_half,
)
from rewards.comparison.resample import Clusters
from rewards.comparison.score_table import Table, slices

LEAST = 100
"""Decided pairs that a slice needs for an ECE of its own."""


def calibration(table: Table, clusters: Clusters, seed: int) -> list[dict[str, Any]]:
    """One row a reward: T, ECE beside what chance gives, Brier beside a constant half, log loss, the bins, the
    slices."""
    random = np.random.default_rng(seed)
    half_N = random.permutation(int(table.prompt_N.max()) + 1)[table.prompt_N] % 2
    share_N = table.share_N
    answers_N = np.maximum(np.rint(table.vote_N3[:, 0] + table.vote_N3[:, 2]), 1).astype(int)
    rows = []
    for r, name in enumerate(table.rewards):
        gap_N = table.gap_RN[r]
        weight_N = np.where(np.isnan(gap_N), 0.0, table.decided_N)
        if not (weight_N[half_N == 0].any() and weight_N[half_N == 1].any()):
            continue
        gap_N = np.nan_to_num(gap_N)
        temperatures = []
        scaled_N = np.zeros(len(gap_N))
        for half in (0, 1):
            fit, judge = half_N != half, half_N == half
            temperatures.append(fit_temperature(gap_N[fit], share_N[fit], weight_N[fit]))
            scaled_N[judge] = gap_N[judge] / temperatures[-1]
        p_N = sigmoid(scaled_N)
        each_N = squared_distance(p_N, share_N)
        bins, turned_N = reliability_bins(p_N, share_N, weight_N), towards_half(share_N, p_N)
        rows.append({
            "reward": name, "temperature": float(np.sqrt(temperatures[0] * temperatures[1])),
            "ece": expected_calibration_error(bins), "ece_by_chance": by_chance(p_N, answers_N, weight_N, random),
            "brier": asdict(clusters.estimate(each_N, weight_N)),
            "brier_of_a_half": brier(p_N * 0 + 0.5, share_N, weight_N),
            "log_loss": log_loss(scaled_N, share_N, weight_N), "answers": int((weight_N > 0).sum()),
            "bins": [
                {**asdict(b), "interval": _limits(clusters, turned_N, weight_N, m)}
                for b, m in zip(bins, bin_members(p_N, weight_N), strict=True)
            ],
            "slices": [
                {"slice": label, "pairs": int(used.sum()), "ece": expected_calibration_error(reliability_bins(
                    p_N[used], share_N[used], weight_N[used]))}
                for label, rows_N in slices(table).items()
                if (used := rows_N & (weight_N > 0)).sum() >= LEAST and label != "people disagree"
            ],
        })  # fmt: skip
    return rows


def _limits(clusters: Clusters, share_N: np.ndarray, weight_N: np.ndarray, member_K: np.ndarray) -> list[float]:
    """[low, high] of the observed share of a bin's pairs, of which those of one prompt depend on each other."""
    inside_N = np.zeros(len(weight_N))
    inside_N[member_K] = weight_N[member_K]
    result = clusters.estimate(share_N, inside_N)
    return [result.low, result.high]
