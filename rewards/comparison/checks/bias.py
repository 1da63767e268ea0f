"""What a reward goes for that people do not: brightness, colour, sharpness, size of the file, the side, the prompt.

(1)  excess = share of pairs in which the reward prefers the image with more of a covariate
              - share in which people do, over the same decided pairs
(2)  contextual Bradley-Terry: logit P(people prefer left) = a gap / T + sum_k b_k x_k, x_k the standardised difference
     of covariate k; b_k < 0 = with the reward's verdict known, people still like less of it: it over-pays for it.
     Errors are clustered by prompt (sandwich, Liang & Zeger 1986); fewer prompts than `FEW_PROMPTS` have no interval.
(3)  between prompts: Spearman's rho of a prompt's mean score with the length of its text. Within a prompt it cannot
     matter, but a filter or a mean over a data set then rewards long prompts.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import asdict
from typing import Any

import numpy as np

from preference_data.statistics.score_intervals import rho_interval
from preference_data.statistics.shares import adjusted, quantile_t
from rewards.comparison.calibration import fit_temperature, sigmoid
from rewards.comparison.correlation import spearman
from rewards.comparison.resample import Clusters, Estimate
from rewards.comparison.score_table import Table
from rewards.comparison.sufficiency import MIN_PROMPTS

EXCESS = 0.10
"""Share of pairs by which a preference for a covariate has to exceed people's before it is a bias worth a word."""
RIDGE = 1e-3


def covariates(image_3HW: np.ndarray) -> dict[str, float]:
    """Facts about uint8 pixels: means of luma and saturation, spread of luma, mean step between neighbours (sharpness),
    compressed size in bits a pixel (detail: what a file's size says about its content), share of the outermost rows and
    columns that are a flat colour (border), width over height, and pixels."""
    red, green, blue = (channel.astype(np.float32) / 255.0 for channel in image_3HW)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    height, width = luma.shape
    high = np.maximum(np.maximum(red, green), blue)
    low = np.minimum(np.minimum(red, green), blue)
    steps = [np.abs(np.diff(luma, axis=axis)).mean() for axis in (0, 1) if luma.shape[axis] > 1]
    step = max(int(math.sqrt(height * width / 65536)), 1)  # of large images every few pixels, so that it stays quick
    some = np.ascontiguousarray(image_3HW[:, ::step, ::step])
    packed = len(zlib.compress(some.tobytes(), 1)) * 8 / (some.shape[1] * some.shape[2])
    edges = (luma[0], luma[-1], luma[:, 0], luma[:, -1])
    return {
        "brightness": float(luma.mean()), "saturation": float((high - low).mean()), "contrast": float(luma.std()),
        "sharpness": float(np.mean(steps)) if steps else 0.0, "detail": packed,
        "border": float(np.mean([edge.max() - edge.min() < 0.02 for edge in edges])),
        "aspect": width / height, "area": float(height * width),
    }  # fmt: skip


def bias(table: Table, fact_KP: dict[str, np.ndarray], clusters: Clusters) -> dict[str, Any]:
    """(1) and (2) of every reward and covariate [P], NaN where unknown; (3) of every reward."""
    label_N = table.label_N
    names = [k for k, value_P in fact_KP.items() if len(np.unique(value_P[~np.isnan(value_P)])) > 1]
    delta_KN = {k: fact_KP[k][table.left_N] - fact_KP[k][table.right_N] for k in names}
    delta_KN["left side"] = np.ones(len(label_N))
    rows: list[dict[str, Any]] = []
    for r, name in enumerate(table.rewards):
        gap_N = table.gap_RN[r]
        fitted = contextual(gap_N, {k: delta_KN[k] for k in names}, table)
        for k, delta_N in delta_KN.items():
            used = (label_N != 0) & ~np.isnan(gap_N) & ~np.isnan(delta_N) & (delta_N != 0)
            if not used.any():
                continue
            sign = np.sign(delta_N)
            reward_N = np.where(used, (np.sign(gap_N) * sign + 1) / 2, np.nan)
            person_N = np.where(used, (label_N * sign + 1) / 2, np.nan)
            excess, p = clusters.difference(reward_N - person_N)
            rows.append({
                "reward": name, "covariate": k, "reward_share": asdict(clusters.estimate(reward_N)),
                "people_share": asdict(clusters.estimate(person_N)),
                "excess": asdict(excess), "p": p,
                **({"coefficient": fitted[k]} if k in fitted else {}),
            })  # fmt: skip
    for row, p in zip(rows, adjusted([row["p"] for row in rows]), strict=True):
        row["p_holm"], excess, own = p, row["excess"]["value"], row["reward_share"]["value"] - 0.5
        # A coin's half is less than people's two thirds, and no bias: the reward itself must lean that way.
        row["leans"] = bool(p < 0.05 and abs(excess) >= EXCESS and own * excess > 0 and abs(own) > 0.05)
    return {"rows": rows, "between_prompts": between_prompts(table)}


def contextual(gap_N: np.ndarray, delta_KN: dict[str, np.ndarray], table: Table) -> dict[str, dict[str, float]]:
    """(2): the coefficient of every covariate with its interval; {} with too few pairs for the covariates.

    Fitted by hand: statsmodels' regularised models give no covariance, and this one needs the sandwich of a ridge.
    """
    known = ~np.isnan(gap_N) & (table.decided_N > 0)
    for delta_N in delta_KN.values():
        known &= ~np.isnan(delta_N)
    if not delta_KN or known.sum() < 20 * (len(delta_KN) + 1):
        return {}
    gap, share = gap_N[known], table.share_N[known]
    weight, prompt = table.decided_N[known], table.prompt_N[known]
    columns = [gap / fit_temperature(gap, share, weight)]
    columns += [d[known] / (d[known].std() or 1.0) for d in delta_KN.values()]
    x = np.stack(columns, 1)
    beta = np.zeros(x.shape[1])
    for _ in range(50):
        p = sigmoid(x @ beta)
        curvature = (x * (weight * p * (1 - p))[:, None]).T @ x + RIDGE * len(x) * np.eye(len(beta)) / 100
        step = np.linalg.solve(curvature, x.T @ (weight * (share - p)) - RIDGE * len(x) / 100 * beta)
        beta = beta + np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-8:
            break
    score = x * (weight * (share - sigmoid(x @ beta)))[:, None]
    ids, index = np.unique(prompt, return_inverse=True)
    sums = np.zeros((len(ids), len(beta)))
    np.add.at(sums, index, score)
    inverse = np.linalg.inv(curvature)
    # A sandwich of few prompts is too sure by itself, and below `FEW_PROMPTS` however it is widened.
    freedom = len(ids) - len(beta) if len(ids) >= MIN_PROMPTS else 0
    error = np.sqrt(np.diag(inverse @ (sums.T @ sums) @ inverse) * len(ids) / max(freedom, 1))
    z = quantile_t(0.975, freedom) if freedom > 0 else float("nan")
    return {
        k: {"value": float(beta[i]), "low": float(beta[i] - z * error[i]), "high": float(beta[i] + z * error[i])}
        for i, k in enumerate(delta_KN, 1)
    }


def between_prompts(table: Table) -> list[dict[str, Any]]:
    """(3), with an interval over prompts."""
    length: dict[str, int] = {p.prompt.id: len(p.prompt.text) for p in table.images}
    ids = list(length)
    where = {prompt: i for i, prompt in enumerate(ids)}
    index_P = np.array([where[p.prompt.id] for p in table.images])
    length_C = np.array([length[i] for i in ids], dtype=float)
    rows = []
    for r, name in enumerate(table.rewards):
        score_P = table.score_RP[r]
        known = ~np.isnan(score_P)
        if not known.any() or len(set(length_C)) < 2:
            continue
        top = np.bincount(index_P[known], weights=score_P[known], minlength=len(ids))
        count = np.bincount(index_P[known], minlength=len(ids))
        mean_C = np.where(count > 0, top / np.maximum(count, 1), np.nan)
        value, prompts = spearman(mean_C, length_C), int((count > 0).sum())
        estimate = Estimate(value, *rho_interval(value, prompts), int(known.sum()), prompts)
        rows.append({"reward": name, "prompt_length": asdict(estimate)})
    return rows
