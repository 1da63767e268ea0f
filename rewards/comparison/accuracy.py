"""How often a reward prefers what people prefer: overall, against each other, by slice, and against people themselves.

    (1)  accuracy = share of decided pairs whose preferred picture has the greater score; an equal score is half right
    (2)  the human ceiling: each annotator against the plurality of the others, over pairs where the others decided; a
         reward is held to the same targets

A picture without a score is in no pair of (1); how many pairs that leaves out stands beside it, with the accuracy that
counts them as half right, so that a reward gains nothing by judging only what is easy.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict
from typing import Any

import numpy as np

from rewards.comparison.resample import Clusters, Estimate, holm, interval, p_value
from rewards.comparison.table import Table, slices

FEW_PAIRS, FEW_PROMPTS = 30, 10
"""A cell of the slices below either is shown grey: its interval is wide, and its bootstrap not to be trusted."""


def right(gap_N: np.ndarray, label_N: np.ndarray) -> np.ndarray:
    """1 right, 0 wrong, 0.5 an equal score; NaN where there is no score or nothing was decided."""
    found = (np.sign(gap_N) * label_N + 1.0) / 2.0
    return np.where((label_N != 0) & ~np.isnan(gap_N), found, np.nan)


def overall(table: Table, clusters: Clusters) -> dict[str, Any]:
    """(1) of every reward, paired differences with Holm's correction, and how often each is the best in a resample."""
    label_N = table.label_N
    right_RN = np.array([right(gap_N, label_N) for gap_N in table.gap_RN])
    decided = label_N != 0
    judged_RN = ~np.isnan(right_RN)
    common_N = judged_RN.all(0).astype(float)
    draws_RB, rows = [], []
    for r, name in enumerate(table.rewards):
        value, draws_B, n, count = clusters.ratio(right_RN[r], common_N)
        draws_RB.append(draws_B)
        gap = table.gap_RN[r]
        rows.append({
            "reward": name,
            "accuracy": asdict(clusters.estimate(right_RN[r])),
            "judged": float(judged_RN[r, decided].mean()) if decided.any() else float("nan"),
            "accuracy_counting_unjudged": asdict(
                clusters.estimate(np.where(decided & ~judged_RN[r], 0.5, right_RN[r]))
            ),
            "equal_scores": float((gap[~np.isnan(gap)] == 0).mean()) if (~np.isnan(gap)).any() else float("nan"),
            "on_common_pairs": asdict(interval(value, draws_B, n, count)),
        })  # fmt: skip
    best_B = np.argmax(np.nan_to_num(np.array(draws_RB), nan=-1.0), axis=0)
    for r, row in enumerate(rows):
        row["best_share"] = float((best_B == r).mean()) if common_N.any() else float("nan")
    return {
        "rewards": rows, "differences": differences(table, right_RN, clusters),
        "decided_pairs": int(decided.sum()), "common_pairs": int(common_N.sum()),
    }  # fmt: skip


def differences(table: Table, right_RN: np.ndarray, clusters: Clusters) -> list[dict[str, Any]]:
    """Every two rewards over the pairs that both judged; p is corrected over all of these comparisons."""
    found: list[dict[str, Any]] = []
    for a, b in itertools.combinations(range(len(table.rewards)), 2):
        delta_N = right_RN[a] - right_RN[b]
        value, draws_B, n, count = clusters.ratio(delta_N, (~np.isnan(delta_N)).astype(float))
        if value < 0 or (value == 0 and table.rewards[a] > table.rewards[b]):
            a, b, value, draws_B = b, a, -value, -draws_B
        found.append({
            "better": table.rewards[a], "worse": table.rewards[b],
            "difference": asdict(interval(value, draws_B, n, count)), "p": p_value(value, draws_B, count),
        })  # fmt: skip
    for row, adjusted in zip(found, holm([row["p"] for row in found]), strict=True):
        row["p_holm"] = adjusted
    return found


def by_slice(table: Table, clusters: Clusters) -> list[dict[str, Any]]:
    """(1) of every reward on every slice, with the pairs and prompts of the cell and whether they are too few."""
    label_N = table.label_N
    right_RN = [right(gap_N, label_N) for gap_N in table.gap_RN]
    found = []
    for name, rows_N in slices(table).items():
        cells = [asdict(clusters.estimate(np.where(rows_N, right_N, np.nan))) for right_N in right_RN]
        used = rows_N & (label_N != 0)
        if not used.any():
            continue
        prompts = len(np.unique(table.prompt_N[used]))
        few = bool(used.sum() < FEW_PAIRS or prompts < FEW_PROMPTS)
        found.append({"slice": name, "pairs": int(used.sum()), "prompts": prompts, "few": few, "accuracy": cells})
    return found


def ceiling(table: Table, clusters: Clusters) -> dict[str, Any]:
    """(2): how well one person agrees with the others, each person, and the rewards on the same targets.

    {} when no pair was answered by two people.
    """
    others_A3 = table.vote_N3[table.answer_pair_A] - table.answer_A3
    left, tie, right_votes = others_A3.T
    target_A = np.where(
        (left > right_votes) & (left > tie), 1, np.where((right_votes > left) & (right_votes > tie), -1, 0)
    )
    own_A = np.sign(table.answer_A3[:, 0] - table.answer_A3[:, 2])
    used_A = target_A != 0
    if not used_A.any():
        return {}
    agrees_A = np.where(used_A, (own_A * target_A + 1.0) / 2.0, np.nan)
    band = _over_answers(table, clusters, agrees_A)
    people = []
    for k, name in enumerate(table.annotators):
        mine = np.where(table.answer_who_A == k, agrees_A, np.nan)
        people.append({"annotator": name, **asdict(_over_answers(table, clusters, mine))})
    rewards = []
    for r, name in enumerate(table.rewards):
        gap_A = table.gap_RN[r][table.answer_pair_A]
        same = np.where(used_A & ~np.isnan(gap_A), (np.sign(gap_A) * target_A + 1.0) / 2.0, np.nan)
        found = _over_answers(table, clusters, same)
        both = same - agrees_A
        rewards.append({"reward": name, **asdict(found), "minus_person": asdict(_over_answers(table, clusters, both))})
    return {"person": asdict(band), "people": people, "rewards": rewards}


def _over_answers(table: Table, clusters: Clusters, value_A: np.ndarray) -> Estimate:
    """The mean over answers with the interval over prompts."""
    used = ~np.isnan(value_A)
    pair = table.answer_pair_A
    top_N = np.bincount(pair, weights=np.where(used, value_A, 0.0), minlength=len(table.left_N))
    weight_N = np.bincount(pair, weights=used.astype(float), minlength=len(table.left_N))
    estimate = clusters.estimate(top_N / np.maximum(weight_N, 1e-12), weight_N)
    return Estimate(estimate.value, estimate.low, estimate.high, int(used.sum()), estimate.clusters)
