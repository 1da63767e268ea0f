"""The reward-model comparison: every section over one table of scores and answers, as plain numbers and words.

The result is what a page, a spreadsheet and a dashboard read; it holds lists, texts and floats only, NaN for unknown.
Everything is a pure function of the arguments; the same seed gives the same intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from preference_data.comparisons import Comparison
from rewards.comparison import accuracy, ties
from rewards.comparison.advice import advice
from rewards.comparison.best_of_n_choice import best_of_n
from rewards.comparison.checks.bias import bias
from rewards.comparison.checks.hygiene import Seen, gallery, hygiene, win_rates
from rewards.comparison.correlation import PEOPLE, correlation
from rewards.comparison.probability import calibration
from rewards.comparison.resample import Clusters
from rewards.comparison.score_table import Table
from rewards.comparison.sufficiency import sufficiency


@dataclass(frozen=True)
class Measured:
    """What was measured on loaded rewards; each list has a row {"reward": name, ...} for those that were."""

    probes: Sequence[Mapping[str, Any]] = ()
    sight: Sequence[Mapping[str, Any]] = ()
    legibility: Sequence[Mapping[str, Any]] = ()
    cost: Sequence[Mapping[str, Any]] = ()
    facts: Mapping[str, np.ndarray] = field(default_factory=dict)
    """covariate -> [P]"""
    seen: Mapping[str, tuple[frozenset[str], frozenset[str]] | Seen] = field(default_factory=dict)
    """reward -> (prompt ids, image hashes) of its training"""
    perceptual_hashes: Mapping[str, np.ndarray] = field(default_factory=dict)
    """image hash -> its look, of those that were opened"""
    judges: frozenset[str] = frozenset()
    """rewards that nothing may be trained on, because they judge what was trained"""


def compare(
    comparisons: Sequence[Comparison], table: Table, measured: Measured, gold: str = PEOPLE, seed: int = 0,
    resamples: int = 2000,
) -> dict[str, Any]:  # fmt: skip
    """Every section. `gold`: the held-out judge of best-of-N, "people" or a reward. ValueError when nothing decides."""
    if not (table.label_N != 0).any():
        raise ValueError(f"none of the {len(table.left_N)} pairs has a preferred image; there is nothing to compare by")
    clusters = Clusters(table.prompt_N, seed, resamples)
    report: dict[str, Any] = {
        "rewards": list(table.rewards),
        "accuracy": accuracy.overall(table, clusters),
        "ceiling": accuracy.ceiling(table, clusters),
        "slices": accuracy.by_slice(table, clusters),
        "ties": ties.ties(table, clusters, seed),
        "order": ties.order(table, clusters),
        "calibration": calibration(table, clusters, seed),
        "correlation": correlation(table),
        "probes": list(measured.probes),
        "sight": list(measured.sight),
        "legibility": list(measured.legibility),
        "bias": bias(table, dict(measured.facts), clusters),
        "best_of_n": best_of_n(table, gold),
        "cost": list(measured.cost),
        "gallery": gallery(table),
        "win_rates": win_rates(table),
        "hygiene": hygiene(comparisons, table, measured.seen, measured.perceptual_hashes),
        "seed": seed, "resamples": resamples,
    }  # fmt: skip
    report["answers"] = sufficiency(report)
    report["judges"] = sorted(measured.judges)
    return {"advice": advice(report), **report}
