"""From rewards to advantages: what was better than the rest of its group, by how much, and what can be compared at all.

    (V1)  A_i = (r_i - mean_group r) / (std + 1e-4), clamped to +-`clip`                    Liu et al., arXiv:2505.05470
          std  of r - mean_group r over all groups of the update,
               with `group_spread` of r over the sample's own group,
               with `raw_spread` of r over all groups of the update, as the published code divides
    (V2)  r_i = sum_k w_k (r_i,k - mean_group r_k) / (std_group r_k + 1e-4)                        several rewards
          (V2) then goes through (V1): normalise in the group, mix, normalise over the update (arXiv:2601.05242)
    (V3)  of all groups drawn the ones that teach are kept, as many as an update takes                arXiv:2503.14476

Some prompts are harder than others. The spread of raw rewards counts that as well, so advantages are smaller the more
prompts differ: 3 times for prompt means uniform in [0, 1] and a spread of 0.1 within groups. The default does not count
it, so that a clip range and the weight of a KL mean the same whatever prompts are mixed; with weights of a KL from
publications belongs `raw_spread`.

A raw sum of rewards is decided by the one with the widest scale. Under (V2) every reward speaks with its weight,
whatever its unit, and one that does not tell the members of a group apart says nothing about that group.

A sample that was not judged (NaN), by any of the rewards, and a group without spread teach nothing.
Shapes: B = P groups x G samples, K rewards, W ranks, M micro-batches of a rank.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from rewards.scores import Scores

EQUAL = 1e-8
"""Rewards of a group that differ from their mean by no more than this are equal."""

FLOOR = 1e-4
"""Added to a spread, so that a spread of almost 0 does not shout."""


def reward_table(scores: Scores, parts: Sequence[tuple[str, float]]) -> Tensor:
    """[B, K] float32: the value alone, or the named parts of it. Raises ValueError for a part there is not."""
    if not parts:
        return torch.from_numpy(scores.value_B[:, None]).float()
    if missing := [name for name, _ in parts if name not in scores.parts]:
        raise ValueError(
            f"the reward has no part {', '.join(missing)}; its parts are {', '.join(sorted(scores.parts)) or 'none'}. "
            "Name some of those in `parts`, or train on a mixture such as 1.0*ocr+0.1*aesthetic"
        )
    return torch.from_numpy(np.stack([scores.parts[name] for name, _ in parts], 1)).float()


def centred(reward_PG: Tensor) -> tuple[Tensor, Tensor]:
    """(distance from the group's mean [P G] in float64, judged [P G]); 0 where not judged."""
    judged = ~reward_PG.isnan()
    # float64 holds sums of float32 exactly, so that equal rewards differ from their mean by 0 and not by rounding.
    r = torch.where(judged, reward_PG, torch.zeros_like(reward_PG)).double()
    count = judged.sum(1, keepdim=True).clamp_min(1)
    return torch.where(judged, r - r.sum(1, keepdim=True) / count, torch.zeros_like(r)), judged


def spread(centred_PG: Tensor, judged_PG: Tensor, axes: int | tuple[int, int]) -> Tensor:
    """Standard deviation over the judged samples of `axes`, which stay with length 1."""
    return (centred_PG.square().sum(axes, keepdim=True) / judged_PG.sum(axes, keepdim=True).clamp_min(1)).sqrt()


def mixed(reward_BK: Tensor, weights: Sequence[float], group: int) -> Tensor:
    """(V2) [P, G]; NaN where any of the rewards is. One reward without a weight is itself."""
    if not weights:
        return reward_BK[:, 0].view(-1, group)
    total = torch.zeros(len(reward_BK) // group, group, dtype=torch.float64, device=reward_BK.device)
    for k, weight in enumerate(weights):
        r, judged = centred(reward_BK[:, k].reshape(-1, group))
        own = torch.where(r.abs().amax(1, keepdim=True) > EQUAL, r, torch.zeros_like(r))
        total += weight * torch.where(judged, own / (spread(own, judged, 1) + FLOOR), math.nan)
    return total.float()


def advantages(reward_PG: Tensor, group_spread: bool, clip: float, raw_spread: bool = False) -> tuple[Tensor, Tensor]:
    """(V1) -> (advantage_PG, teaches_PG). NaN rewards and groups without spread get 0 and False."""
    r, judged = centred(reward_PG)
    teaches = judged & (r.abs().amax(1, keepdim=True) > EQUAL)
    distance = centred(reward_PG.reshape(1, -1))[0].view_as(r) if raw_spread else r
    advantage = (r / (spread(distance, judged, 1 if group_spread else (0, 1)) + FLOOR)).clamp(-clip, clip)
    return torch.where(teaches, advantage, torch.zeros_like(r)).float(), teaches


def fullest(teaching_WN: Tensor, keep: int) -> Tensor:
    """(V3) [W, keep]: of N micro-batches of every rank, places of those in which most groups teach, in their order.

    The earlier one wins where two teach as much. Every rank keeps equally many, so that an update is the same mean.
    """
    order = teaching_WN.sort(dim=1, descending=True, stable=True).indices
    return order[:, :keep].sort(1).values
