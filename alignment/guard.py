"""GRPO-Guard: Flow-GRPO with a ratio that is centred, and equally wide at every noise level.

A step x' = mu_old + std z has the log-ratio mean(z delta) / std - mean(delta^2) / (2 std^2), delta = mu_theta - mu_old:
its mean over actions is below 0 and its width grows as std falls, so that one clip range is loose at some steps and
never reached on one side of others. Centred and scaled it is mean(z delta), whose mean over actions is 0 at every step:

    (Q1)  log rho_i,t = std_t ( log p_theta - log p_old + mean (mu_theta - mu_old)^2 / (2 std_t^2) )
    (Q2)  w_t = (1 / dt_t) / mean_window (1 / dt),  dt = sigma - sigma'      a mean moves in proportion to its step
    (Q3)  L = - mean_i,t w_t min(rho A, clip(rho, 1 - e, 1 + e) A) + beta K                       K as (G5)

Wang et al., arXiv:2510.22319. The published weights are 1 / dt; here their mean over the window is 1, so that the loss,
and with it the weight of K and the clipping of the gradient, keeps its scale when the number of steps changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from alignment import grpo
from alignment.groups import Prompts
from alignment.grpo import Grpo, Micro, policy_now, with_kl
from alignment.trajectory import Transition
from base_model.engine.engine import Engine
from base_model.engine.step import Step
from base_model.flow import Gaussian
from base_model.interface import FlowModel
from rewards.scores import ScoringPool


@dataclass(frozen=True)
class Guard(Grpo):
    """Settings of GRPO-Guard."""

    clip: float = 2e-4
    """e of (Q3), in units of std times the mean log-probability's ratio"""


def log_ratio(now: Gaussian, t: Transition) -> Tensor:
    """(Q1) [B]"""
    moved = now.kl(Gaussian(t.mean_BSC, now.std))
    return now.std * (now.log_prob(t.next_BSC) - t.log_prob_B + moved)


def step_weight(m: Micro) -> float:
    """(Q2)"""
    inverse = [1.0 / (t.sigma - t.sigma_next) for t in m.trajectory.transitions]
    return len(inverse) / sum(inverse) / (m.transition.sigma - m.transition.sigma_next)


def loss(model: FlowModel, m: Micro, cfg: Grpo) -> tuple[Tensor, dict[str, Tensor]]:
    """(Q3) for one stochastic step of some samples."""
    now = policy_now(model, m, cfg)
    log_rho = log_ratio(now, m.transition)  # (Q1)
    ratio = torch.exp(log_rho)
    clipped = ratio.clamp(1.0 - cfg.clip, 1.0 + cfg.clip)
    objective = torch.minimum(ratio * m.advantage_B, clipped * m.advantage_B)
    total = -step_weight(m) * (m.weight_B * objective).mean()  # (Q3)
    gap = (ratio.detach() - 1.0).abs()
    metrics = {
        "ratio": ratio.detach().mean(),
        "ratio_gap": gap.max(),
        "clip_share": (gap > cfg.clip).float().mean(),
        "log_ratio": log_rho.detach().mean(),
    }
    return with_kl(model, m, cfg, now, total, metrics)


def train(
    model: FlowModel, engine: Engine, prompts: Prompts, scorer: ScoringPool, cfg: Guard, start: int = 0
) -> Iterator[Step]:
    """Yields after every rollout and its updates: those of Flow-GRPO with (Q3)."""
    yield from grpo.train(model, engine, prompts, scorer, cfg, start, loss)
