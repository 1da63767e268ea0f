"""How often a reward prefers what people prefer: overall, against each other, by slice, and against people themselves.

    (1)  accuracy = share of decided pairs whose preferred image has the greater score; an equal score is half right
    (2)  the human ceiling: each annotator against the plurality of the others, over pairs where the others decided; a
         reward is held to the same targets. A second answer of one person, or the same line twice, is no other person

An image without a score is in no pair of (1); how many pairs that leaves out stands beside it, with the accuracy that
counts them as half right, so that a reward gains nothing by judging only what is easy.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict
from typing import Any

import numpy as np

from preference_data.comparisons import EVERYBODY, by_machine
from preference_data.statistics.shares import adjusted
from rewards.comparison.resample import Clusters
from rewards.comparison.score_table import Table, slices
from rewards.comparison.sufficiency import MIN_PAIRS, MIN_PROMPTS


def right(gap_N: np.ndarray, label_N: np.ndarray) -> np.ndarray:
    """1 right, 0 wrong, 0.5 an equal score; NaN where there is no score or nothing was decided."""
    share = (np.sign(gap_N) * label_N + 1.0) / 2.0
    return np.where((label_N != 0) & ~np.isnan(gap_N), share, np.nan)


def overall(table: Table, clusters: Clusters) -> dict[str, Any]:
    """(1) of every reward, paired differences with Holm's correction, and how often each is the best in a resample."""
    label_N = table.label_N
    right_RN = np.array([right(gap_N, label_N) for gap_N in table.gap_RN])
    decided = label_N != 0
    judged_RN = ~np.isnan(right_RN)
    common_N = judged_RN.all(0).astype(float)
    draws_RB: list[np.ndarray] = []
    rows: list[dict[str, Any]] = []
    for r, name in enumerate(table.rewards):
        draws_RB.append(clusters.ratio(right_RN[r], common_N)[1])
        gap = table.gap_RN[r]
        rows.append({
            "reward": name,
            "accuracy": asdict(clusters.estimate(right_RN[r])),
            "judged": float(judged_RN[r, decided].mean()) if decided.any() else float("nan"),
            "accuracy_counting_unjudged": asdict(
                clusters.estimate(np.where(decided & ~judged_RN[r], 0.5, right_RN[r]))
            ),
            "equal_scores": float((gap[~np.isnan(gap)] == 0).mean()) if (~np.isnan(gap)).any() else float("nan"),
            "on_common_pairs": asdict(clusters.estimate(right_RN[r], common_N)),
            "p_coin": clusters.difference(right_RN[r] - 0.5)[1],
        })  # fmt: skip
    share_R = first_rank_shares(np.array(draws_RB))
    for row, share, p in zip(rows, share_R, adjusted([row["p_coin"] for row in rows]), strict=True):
        row["best_share"] = float(share) if common_N.any() else float("nan")
        row["p_coin_holm"] = p
    return {
        "rewards": rows, "differences": differences(table, right_RN, clusters),
        "decided_pairs": int(decided.sum()), "common_pairs": int(common_N.sum()),
    }  # fmt: skip


def first_rank_shares(draws_RB: np.ndarray) -> np.ndarray:
    """[R]: the share of resamples in which each reward comes first; those that come first together share the place."""
    value_RB = np.nan_to_num(draws_RB, nan=-1.0)
    first_RB = value_RB >= value_RB.max(0) - 1e-12
    share_R: np.ndarray = (first_RB / first_RB.sum(0)).mean(1)
    return share_R


def differences(table: Table, right_RN: np.ndarray, clusters: Clusters) -> list[dict[str, Any]]:
    """Every two rewards over the pairs that both judged; p is corrected over all of these comparisons."""
    results: list[dict[str, Any]] = []
    for a, b in itertools.combinations(range(len(table.rewards)), 2):
        delta_N = right_RN[a] - right_RN[b]
        mean = np.nanmean(delta_N) if (~np.isnan(delta_N)).any() else 0.0
        if mean < 0 or (mean == 0 and table.rewards[a] > table.rewards[b]):
            a, b, delta_N = b, a, -delta_N
        estimate, p = clusters.difference(delta_N)
        known_N = ~np.isnan(delta_N)
        results.append({
            "better": table.rewards[a], "worse": table.rewards[b], "difference": asdict(estimate), "p": p,
            "pairs_apart": int((delta_N[known_N] != 0).sum()), "variance": float(delta_N[known_N].var())
            if known_N.any() else float("nan"),
        })  # fmt: skip
    for row, p in zip(results, adjusted([row["p"] for row in results]), strict=True):
        row["p_holm"] = p
    return results


def by_slice(table: Table, clusters: Clusters) -> list[dict[str, Any]]:
    """(1) of every reward on every slice, with the pairs and prompts of the cell and whether they are too few."""
    label_N = table.label_N
    right_RN = [right(gap_N, label_N) for gap_N in table.gap_RN]
    results = []
    for name, rows_N in slices(table).items():
        cells = [asdict(clusters.estimate(np.where(rows_N, right_N, np.nan))) for right_N in right_RN]
        used = rows_N & (label_N != 0)
        if not used.any():
            continue
        prompts = clusters.estimate(np.where(used, 1.0, np.nan)).clusters
        batch = bool(used.sum() < MIN_PAIRS or prompts < MIN_PROMPTS)
        results.append({"slice": name, "pairs": int(used.sum()), "prompts": prompts, "few": batch, "accuracy": cells})
    return results


def _own_votes(table: Table) -> np.ndarray:
    """[A, 3]: for every answer, all that its annotator said about the pair; of nobody named, that answer alone."""
    names = np.array([name == EVERYBODY for name in table.annotators])
    person_A = np.where(
        names[table.answer_person_A],
        len(table.annotators) + np.arange(len(table.answer_person_A)),
        table.answer_person_A,
    )
    _, index = np.unique(np.stack([table.answer_pair_A, person_A], 1), axis=0, return_inverse=True)
    own_K3 = np.zeros((int(index.max()) + 1, 3))
    np.add.at(own_K3, index.reshape(-1), table.answer_A3)
    own_A3: np.ndarray = own_K3[index.reshape(-1)]
    return own_A3


def ceiling(table: Table, clusters: Clusters) -> dict[str, Any]:
    """(2): how well one person agrees with the others, each person, and the rewards on the same targets.

    {} when no pair was answered by two people: a machine's answers are nobody's.
    """
    if all(by_machine(name) for name in table.annotators):
        return {}
    others_A3 = table.vote_N3[table.answer_pair_A] - _own_votes(table)
    left, tie, right_votes = others_A3.T
    target_A = np.where(
        (left > right_votes) & (left > tie), 1, np.where((right_votes > left) & (right_votes > tie), -1, 0)
    )
    own_A = np.sign(table.answer_A3[:, 0] - table.answer_A3[:, 2])
    used_A = target_A != 0
    if not used_A.any():
        return {}
    agrees_A = np.where(used_A, (own_A * target_A + 1.0) / 2.0, np.nan)
    answers = clusters.at(table.answer_pair_A)
    band = answers.estimate(agrees_A)
    people = []
    for k, name in enumerate(table.annotators):
        mine = np.where(table.answer_person_A == k, agrees_A, np.nan)
        people.append({"annotator": name, **asdict(answers.estimate(mine))})
    rewards = []
    for r, name in enumerate(table.rewards):
        gap_A = table.gap_RN[r][table.answer_pair_A]
        same = np.where(used_A & ~np.isnan(gap_A), (np.sign(gap_A) * target_A + 1.0) / 2.0, np.nan)
        both = answers.difference(same - agrees_A)[0]
        rewards.append({"reward": name, **asdict(answers.estimate(same)), "minus_person": asdict(both)})
    return {"person": asdict(band), "people": people, "rewards": rewards}
