"""Do rewards order images alike? Within a prompt, where training uses them, and pooled, where filters do.

    (1)  within: Kendall's tau-b over the images of each prompt, averaged over prompts with at least two images that
         both order (Kendall 1945); tau-b is undefined, and left out, where one side finds all equal
    (2)  pooled: Spearman's rho over all images
    (3)  partial: (2) with a third reward held fixed, r_ab.c = (r_ab - r_ac r_bc) / sqrt((1 - r_ac^2)(1 - r_bc^2))

"people" is each image's share of wins, a tie counting half.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from preference_data.statistics.score_intervals import bounded_mean
from rewards.comparison.score_table import Table

PEOPLE = "people"


def people_P(table: Table) -> np.ndarray:
    """[P]: share of the answers about an image that it won, ties half; NaN for one that nobody compared."""
    left, tie, right = table.vote_N3.T
    won, seen = np.zeros(len(table.images)), np.zeros(len(table.images))
    for side_N, wins_N in ((table.left_N, left), (table.right_N, right)):
        np.add.at(won, side_N, wins_N + tie / 2)
        np.add.at(seen, side_N, left + tie + right)
    return np.where(seen > 0, won / np.maximum(seen, 1e-12), np.nan)


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """(2) over the places where both are known; NaN with fewer than three, or when one is constant."""
    from scipy.stats import spearmanr

    known = ~np.isnan(a) & ~np.isnan(b)
    if known.sum() < 3 or np.ptp(a[known]) == 0.0 or np.ptp(b[known]) == 0.0:
        return float("nan")
    return float(spearmanr(a[known], b[known]).statistic)


def tau_b(a: np.ndarray, b: np.ndarray) -> float:
    """(1) of one prompt; NaN when undefined."""
    from scipy.stats import kendalltau

    if np.ptp(a) == 0.0 or np.ptp(b) == 0.0:
        return float("nan")
    return float(kendalltau(a, b).statistic)


def correlation(table: Table) -> dict[str, Any]:
    """Both matrices over the rewards that score single images and people, ordered so that alike ones are
    neighbours."""
    names = [r for r in table.rewards if r not in table.pairwise] + [PEOPLE]
    value_KP = np.array([*(table.score_RP[table.rewards.index(r)] for r in names[:-1]), people_P(table)])
    prompts = np.array([p.prompt.id for p in table.images])
    ids, prompt_P = np.unique(prompts, return_inverse=True)
    members = [np.flatnonzero(prompt_P == i) for i in range(len(ids))] if len(ids) < 2 else _members(prompt_P)
    count = len(names)
    within, low, high = (np.full((count, count), np.nan) for _ in range(3))
    pooled = np.full((count, count), np.nan)
    for a in range(count):
        for b in range(a, count):
            known = ~np.isnan(value_KP[a]) & ~np.isnan(value_KP[b])
            tau_C = np.array([tau_b(value_KP[a][m], value_KP[b][m]) for g in members if len(m := g[known[g]]) > 1]
                             if a != b else [1.0])  # fmt: skip
            defined = ~np.isnan(tau_C)
            pooled[a, b] = pooled[b, a] = spearman(value_KP[a], value_KP[b])
            if not defined.any():
                continue
            within[a, b] = within[b, a] = tau_C[defined].mean()
            if a != b:
                low[a, b], high[a, b] = 2.0 * np.array(bounded_mean((tau_C[defined] + 1.0) / 2.0)) - 1.0
                low[b, a], high[b, a] = low[a, b], high[a, b]
    with_people = {n: int((~np.isnan(v) & ~np.isnan(value_KP[-1])).sum()) for n, v in zip(names, value_KP, strict=True)}
    order = neighbours(pooled)
    shuffle = np.ix_(order, order)
    return {
        "names": [names[i] for i in order], "within": within[shuffle].tolist(), "within_low": low[shuffle].tolist(),
        "within_high": high[shuffle].tolist(), "pooled": pooled[shuffle].tolist(), "with_people": with_people,
        "partial": partial(names, pooled), "prompts": len(ids), "pictures": len(table.images),
    }  # fmt: skip


def _members(prompt_P: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(prompt_P, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(prompt_P[order])) + 1)


def neighbours(pooled_KK: np.ndarray) -> list[int]:
    """An order in which similar ones stand together: average-linkage clusters joined one after the other."""
    distance = 1.0 - np.nan_to_num(pooled_KK, nan=0.0)
    groups = [[i] for i in range(len(distance))]
    while len(groups) > 1:
        pairs = [(i, j) for i in range(len(groups)) for j in range(i)]
        i, j = min(pairs, key=lambda p: float(distance[np.ix_(groups[p[0]], groups[p[1]])].mean()))
        groups[j] = groups[j] + groups.pop(i)
    return groups[0]


def partial(names: list[str], pooled_KK: np.ndarray) -> list[dict[str, Any]]:
    """(3): each reward with people, with every other reward held fixed."""
    people = names.index(PEOPLE)
    rows = []
    for a in range(len(names)):
        for c in range(len(names)):
            if len({a, c, people}) < 3:
                continue
            ab, ac, bc = pooled_KK[a, people], pooled_KK[a, c], pooled_KK[people, c]
            size = np.sqrt(max((1 - ac**2) * (1 - bc**2), 0.0))
            value = float((ab - ac * bc) / size) if size > 1e-9 else float("nan")
            rows.append({"reward": names[a], "given": names[c], "with_people": value})
    return rows
