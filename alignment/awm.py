"""Advantage-weighted matching: policy gradient with the flow-matching error as the likelihood.

    (W1)  log p_theta(x0) := - sigma^k mean || v_theta(x, sigma, text) - (eps - x0) ||^2          x as (X1)
    (W2)  rho_i = exp(log p_theta(x0_i) - log p_old(x0_i)),  with one eps and sigma for both
    (W3)  L = - mean_i min(rho A, clip(rho, 1 - e, 1 + e) A) + g mean || v_theta - v_slow ||^2

Xue et al., arXiv:2509.25050. Its gradient is that of pretraining, weighed by the advantage: what was good is fitted
more, what was bad is fitted less. Old is the model they were sampled from, so rho is exactly 1 before the first update.
Slow is the engine's weight average (OptimConfig.ema_decay): the pull is towards where the policy has been of late.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from alignment.forward_process import FinishedImages, Forward, Point, error, noised, velocities, velocity_distance
from alignment.groups import Passes, Prompts, over_updates, sample_groups
from base_model.engine.bounds import require_at_least
from base_model.engine.engine import Engine
from base_model.engine.step import Step
from base_model.interface import FlowModel
from rewards.scores import ScoringPool


@dataclass(frozen=True)
class Awm(Forward):
    """Settings of advantage-weighted matching."""

    power: float = 0.0
    """k of (W1): 0 weighs all noise levels alike, 1 and 2 lean to noise"""
    clip: float = 1e-2
    """e of (W3); plays no part when there is one update a rollout"""
    beta: float = 0.0
    """g of (W3), weight of the squared distance to the weight average's velocity"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 0.0, "clip", "beta")

    def passes(self) -> Passes:
        """See `Groups.passes`."""
        return Passes(self.group, 2, False)


class Micro(NamedTuple):
    """Images at one noise level each, their likelihood where they were sampled, and the weight average's velocity."""

    point: Point
    log_prob_B: Tensor
    slow_BSC: Tensor


def log_prob(v_BSC: Tensor, point: Point, power: float) -> Tensor:
    """(W1) [B]"""
    return -point.sigma_B.pow(power) * error(v_BSC, point)


def loss(model: FlowModel, m: Micro, cfg: Awm) -> tuple[Tensor, dict[str, Tensor]]:
    """(W3)"""
    p = m.point
    v = model.velocity(p.x_BSC, p.sigma_B, p.cond)
    ratio = torch.exp(log_prob(v, p, cfg.power) - m.log_prob_B)  # (W2)
    clipped = ratio.clamp(1.0 - cfg.clip, 1.0 + cfg.clip)
    objective = torch.minimum(ratio * p.advantage_B, clipped * p.advantage_B)
    distance = velocity_distance(v, m.slow_BSC, p)
    total = -(p.weight_B * objective).mean() + cfg.beta * distance  # (W3)
    gap = (ratio.detach() - 1.0).abs()
    return total, {
        "ratio": ratio.detach().mean(),
        "ratio_gap": gap.max(),
        "clip_share": (gap > cfg.clip).float().mean(),
        "flow_error": error(v.detach(), p).mean(),
        "moved": distance.detach(),
    }


def train(
    model: FlowModel, engine: Engine, prompts: Prompts, scorer: ScoringPool, cfg: Awm, start: int = 0
) -> Iterator[Step]:
    """Yields after every rollout and its updates."""
    for step in range(start, cfg.steps):
        rollouts = sample_groups(model, engine, prompts, scorer, cfg, step)
        metrics = dict(rollouts.metrics)
        if rollouts.teaches:
            images = [FinishedImages(one.x0_BSC, one.cond, advantage, w) for one, advantage, w, _ in rollouts.parts]
            points = noised(images, cfg, step, engine.rank)
            old = [log_prob(v, p, cfg.power) for v, p in zip(velocities(model, points), points, strict=True)]
            with engine.averaged():
                slow = velocities(model, points)
            micros = [Micro(*all_of_it) for all_of_it in zip(points, old, slow, strict=True)]
            metrics |= over_updates([engine.update(micros, partial(loss, model, cfg=cfg)) for _ in range(cfg.updates)])
        yield Step(step, metrics)
