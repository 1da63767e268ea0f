"""Do rewards order pictures alike? Within a prompt, where training uses them, and pooled, where filters do.

    (1)  within: Kendall's tau-b over the pictures of each prompt, averaged over prompts with at least two pictures that
         both order (Kendall 1945); tau-b is undefined, and left out, where one side finds all equal
    (2)  pooled: Spearman's rho over all pictures
    (3)  partial: (2) with a third reward held fixed, r_ab.c = (r_ab - r_ac r_bc) / sqrt((1 - r_ac^2)(1 - r_bc^2))

"people" is each picture's share of wins, a tie counting half.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rewards.comparison.resample import interval
from rewards.comparison.score_table import Table

PEOPLE = "people"
RESAMPLES = 200


def people_P(table: Table) -> np.ndarray:
    """[P]: share of the answers about a picture that it won, ties half; NaN for one that nobody compared."""
    left, tie, right = table.vote_N3.T
    won, seen = np.zeros(len(table.pictures)), np.zeros(len(table.pictures))
    for side_N, wins_N in ((table.left_N, left), (table.right_N, right)):
        np.add.at(won, side_N, wins_N + tie / 2)
        np.add.at(seen, side_N, left + tie + right)
    return np.where(seen > 0, won / np.maximum(seen, 1e-12), np.nan)


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, equal values sharing their mean rank."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    found: np.ndarray = (last - (count - 1) / 2.0)[place]
    return found


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """(2) over the places where both are known; NaN with fewer than three, or when one is constant."""
    known = ~np.isnan(a) & ~np.isnan(b)
    if known.sum() < 3:
        return float("nan")
    x, y = ranks(a[known]), ranks(b[known])
    x, y = x - x.mean(), y - y.mean()
    size = np.sqrt((x * x).sum() * (y * y).sum())
    return float((x * y).sum() / size) if size > 0 else float("nan")


def tau_b(a: np.ndarray, b: np.ndarray) -> float:
    """(1) of one prompt; NaN when undefined."""
    i, j = np.triu_indices(len(a), 1)
    x, y = np.sign(a[i] - a[j]), np.sign(b[i] - b[j])
    size = np.sqrt((x != 0).sum() * (y != 0).sum())
    return float((x * y).sum() / size) if size > 0 else float("nan")


def correlation(table: Table, seed: int) -> dict[str, Any]:
    """Both matrices over the rewards that score single pictures and people, ordered so that alike ones are
    neighbours."""
    names = [r for r in table.rewards if r not in table.pairwise] + [PEOPLE]
    value_KP = np.array([*(table.score_RP[table.rewards.index(r)] for r in names[:-1]), people_P(table)])
    prompts = np.array([p.prompt.id for p in table.pictures])
    ids, prompt_P = np.unique(prompts, return_inverse=True)
    members = [np.flatnonzero(prompt_P == i) for i in range(len(ids))] if len(ids) < 2 else _members(prompt_P)
    count = len(names)
    within, low, high = (np.full((count, count), np.nan) for _ in range(3))
    random = np.random.default_rng(seed)
    draws_BC = random.multinomial(len(ids), np.full(len(ids), 1 / len(ids)), size=RESAMPLES).astype(float)
    pooled = np.full((count, count), np.nan)
    for a in range(count):
        for b in range(a, count):
            known = ~np.isnan(value_KP[a]) & ~np.isnan(value_KP[b])
            tau_C = np.array([tau_b(value_KP[a][m], value_KP[b][m]) for g in members if len(m := g[known[g]]) > 1]
                             if a != b else [1.0])  # fmt: skip
            index = np.array([i for i, g in enumerate(members) if known[g].sum() > 1]) if a != b else np.array([0])
            defined = ~np.isnan(tau_C)
            pooled[a, b] = pooled[b, a] = spearman(value_KP[a], value_KP[b])
            if not defined.any():
                continue
            within[a, b] = within[b, a] = tau_C[defined].mean()
            if a != b:
                weights = draws_BC[:, index[defined]]
                with np.errstate(invalid="ignore"):  # a resample without a defined prompt says nothing, and not 0
                    spread = (weights @ tau_C[defined]) / weights.sum(1)
                found = interval(within[a, b], spread, int(defined.sum()), int(defined.sum()))
                low[a, b], high[a, b] = low[b, a], high[b, a] = found.low, found.high
    order = neighbours(pooled)
    shuffle = np.ix_(order, order)
    return {
        "names": [names[i] for i in order], "within": within[shuffle].tolist(), "within_low": low[shuffle].tolist(),
        "within_high": high[shuffle].tolist(), "pooled": pooled[shuffle].tolist(),
        "partial": partial(names, pooled), "prompts": len(ids), "pictures": len(table.pictures),
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
