"""What choosing by a reward buys, and when it stops buying: best-of-N against a gold judge that it never saw.

    (1)  the expected gold value of the best of n out of the M images of a prompt, sorted by the proxy:
             E_n = sum_i [C(i, n) - C(i - 1, n)] / C(M, n) gold_(i)          i = 1 ... M, worst first
         unbiased, no drawing needed; images that the proxy finds equal share their weights
    (2)  the distance travelled: KL(best of n || all) <= ln n - (n - 1) / n     (Stiennon et al. 2020; Gao et al. 2022)
    (3)  over-optimisation: gold(d) = d (a - b d), d = sqrt(KL) (Gao et al. 2022); b > 0 bends it down, peak at a / 2b

Values are z scores over all images. With people as gold the curve holds as far as groups go: with two images a
prompt, n = 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from preference_data.spelling import unknown
from rewards.comparison.correlation import PEOPLE, people_P
from rewards.comparison.resample import Estimate, of_prompts
from rewards.comparison.score_table import Table

LEAST = 0.05
"""Standard deviations of gold that a curve must gain somewhere before it can be said to bend."""
SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)


def weights(proxy_CM: np.ndarray, n: int) -> np.ndarray:
    """[C, M]: P(image i is the best of n drawn without replacement) for C prompts of M images each, by (1)."""
    prompts, count = proxy_CM.shape
    log_total = _log_choose(count, n)
    at_most = [0.0] + [math.exp(_log_choose(i, n) - log_total) if i >= n else 0.0 for i in range(1, count + 1)]
    order_CM = np.argsort(proxy_CM, axis=1, kind="stable")
    sorted_CM = np.take_along_axis(proxy_CM, order_CM, 1)
    new_CM = np.concatenate([np.ones((prompts, 1), bool), sorted_CM[:, 1:] != sorted_CM[:, :-1]], 1)
    run = np.cumsum(new_CM.ravel()) - 1  # equal values of a prompt are one run and share its weight
    flat = np.tile(np.diff(at_most), prompts)
    share_CM = (np.bincount(run, weights=flat) / np.bincount(run))[run].reshape(prompts, count)
    result = np.empty_like(share_CM)
    np.put_along_axis(result, order_CM, share_CM, 1)
    return result


def _log_choose(a: int, b: int) -> float:
    return math.lgamma(a + 1) - math.lgamma(b + 1) - math.lgamma(a - b + 1)


def distance(n: int) -> float:
    """sqrt(KL) of (2)."""
    return math.sqrt(max(math.log(n) - (n - 1) / n, 0.0))


def best_of_n(table: Table, gold: str) -> dict[str, Any]:
    """(1) to (3) of every reward that scores single images; {} when no prompt has two images with a gold value.

    `gold` is "people" or a reward; it is not compared with itself.
    """
    if gold != PEOPLE and gold not in table.rewards:
        raise ValueError(unknown("gold judge", gold, (PEOPLE, *table.rewards)))
    gold_P = people_P(table) if gold == PEOPLE else table.score_RP[table.rewards.index(gold)]
    proxies = [r for r in table.rewards if r != gold and r not in table.pairwise]
    score = {r: _standard(table.score_RP[table.rewards.index(r)]) for r in proxies}
    gold_P = _standard(gold_P)
    prompts = np.array([p.prompt.id for p in table.images])
    groups = _groups(prompts)
    rows = []
    for name in proxies:
        known = ~np.isnan(score[name]) & ~np.isnan(gold_P)
        members = [m for g in groups if len(m := g[known[g]]) > 1]
        if not members:
            continue
        sizes = _common(members)
        # The same prompts carry every point: those with as many images as the largest n asks for.
        members = [m for m in members if len(m) >= sizes[-1]]
        rows.append({"reward": name, "prompts": len(members), "pictures": int(sum(map(len, members))),
                     **_curves(name, members, score, gold_P, sizes)})  # fmt: skip
    return {"gold": gold, "rewards": rows} if rows else {}


def _groups(prompts: np.ndarray) -> list[np.ndarray]:
    """The places of the images of every prompt."""
    _, index = np.unique(prompts, return_inverse=True)
    order = np.argsort(index, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(index[order])) + 1)


def _standard(value_P: np.ndarray) -> np.ndarray:
    known = value_P[~np.isnan(value_P)]
    spread = float(known.std()) if len(known) else 0.0
    return (value_P - (known.mean() if len(known) else 0.0)) / (spread or 1.0)


def _common(members: list[np.ndarray]) -> list[int]:
    """Sizes up to the number of images that at least half of the prompts have."""
    most = int(np.median([len(m) for m in members]))
    return [n for n in SIZES if n <= most]


def _curves(
    name: str, members: list[np.ndarray], score: dict[str, np.ndarray], gold_P: np.ndarray, sizes: list[int]
) -> dict[str, Any]:
    counts = np.array([len(m) for m in members])
    alike = [(np.flatnonzero(counts == k), np.stack([m for m in members if len(m) == k])) for k in np.unique(counts)]

    def chosen(by: np.ndarray, n: int, value_P: np.ndarray) -> np.ndarray:
        """[C]: the expected value of the best of n by `by`."""
        values = np.zeros(len(members))
        for index, m_CM in alike:
            values[index] = (weights(by[m_CM], n) * value_P[m_CM]).sum(1)
        return values

    base_C, proxy_C = chosen(gold_P, 1, gold_P), chosen(gold_P, 1, score[name])
    others = [score[r] for r in score if r != name]
    points, gains = [], []
    for n in sizes:
        gains.append(chosen(score[name], n, gold_P) - base_C)
        means = [_known_mean(chosen, score[name], n, other) for other in others]
        gold = of_prompts(gains[-1]) if n > 1 else Estimate(0.0, 0.0, 0.0, len(members), len(members))
        points.append({
            "n": n, "distance": distance(n), "gold": asdict(gold),
            "proxy": float((chosen(score[name], n, score[name]) - proxy_C).mean()),
            "spread_of_others": float(np.nanstd(means)) if np.isfinite(means).sum() > 1 else float("nan"),
        })  # fmt: skip
    oracle = float((chosen(gold_P, sizes[-1], gold_P) - base_C).mean())
    return {"points": points, "oracle": oracle, **_bend([distance(n) for n in sizes], np.array(gains))}  # fmt: skip


def _known_mean(
    chosen: Callable[[np.ndarray, int, np.ndarray], np.ndarray], by: np.ndarray, n: int, other_P: np.ndarray
) -> float:
    """What another reward gives the best of n, over the images that it judged; NaN when it judged none of them."""
    known_P = ~np.isnan(other_P)
    weight = float(chosen(by, n, known_P.astype(float)).sum())
    return float(chosen(by, n, np.where(known_P, other_P, 0.0)).sum()) / weight if weight > 0 else math.nan


def _bend(d: list[float], gain_SC: np.ndarray) -> dict[str, Any]:
    """(3), with the interval of b, and the distance of the peak where b is above 0; {} with fewer than four sizes.

    The fit is linear in the gains, so that the mean of every prompt's own a and b is that of the curve.
    """
    if len(d) < 4:
        return {}
    x = np.array([[v, -v * v] for v in d[1:]])
    slope_C, bend_C = np.linalg.lstsq(x, gain_SC[1:], rcond=None)[0]
    a, result = float(slope_C.mean()), of_prompts(bend_C)
    peaks = result.value > 0 and result.low > 0 and gain_SC.mean(axis=1).max() > LEAST
    return {"slope": a, "bend": asdict(result), "peak_distance": a / (2 * result.value) if peaks else None}
