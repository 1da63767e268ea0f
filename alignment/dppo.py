"""Flow-DPPO: Flow-GRPO that stops by how far the distribution moved, not by the ratio of one action.

The ratio says how the likelihood of one drawn action changed: by chance it can be far from 1 after a small move, and
near 1 after a large one. The divergence of the two Gaussians is known exactly and is the same for every action:

    (O1)  d_i,t = mean (mu_theta - mu_old)^2 / (2 std^2)                                   KL(old || theta), a mean
    (O2)  m_i,t = 0 where d >= e and the step would go on in the same direction,
          (rho > 1 and A > 0) or (rho < 1 and A < 0); else 1
    (O3)  L = - mean_i,t m rho A + beta K                                                  rho as (G2), K as (G5)

Flow-DPPO, arXiv:2606.11025. A step back towards the old policy is never masked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from alignment import grpo
from alignment.groups import Prompts
from alignment.grpo import Grpo, Micro, policy_now, with_kl
from base_model.engine.engine import Engine
from base_model.engine.step import Step
from base_model.flow import Gaussian
from base_model.interface import FlowModel
from rewards.scores import ScoringPool


@dataclass(frozen=True)
class Dppo(Grpo):
    """Settings of Flow-DPPO."""

    clip: float = 1e-5
    """e of (O2), a divergence (mean over latent dimensions)"""


def open_terms(ratio_B: Tensor, advantage_B: Tensor, divergence_B: Tensor, most: float) -> Tensor:
    """(O2) [B]: 1 where a term still counts."""
    further = ((ratio_B > 1.0) & (advantage_B > 0.0)) | ((ratio_B < 1.0) & (advantage_B < 0.0))
    return 1.0 - (further & (divergence_B >= most)).float()


def loss(model: FlowModel, m: Micro, cfg: Grpo) -> tuple[Tensor, dict[str, Tensor]]:
    """(O3) for one stochastic step of some samples."""
    now = policy_now(model, m, cfg)
    ratio = torch.exp(now.log_prob(m.transition.next_BSC) - m.transition.log_prob_B)  # (G2)
    with torch.no_grad():
        divergence = now.kl(Gaussian(m.transition.mean_BSC, now.std))  # (O1)
        counts = open_terms(ratio, m.advantage_B, divergence, cfg.clip)
    total = -(m.weight_B * counts * ratio * m.advantage_B).mean()  # (O3)
    metrics = {
        "ratio": ratio.detach().mean(),
        "ratio_gap": (ratio.detach() - 1.0).abs().max(),
        "clip_share": 1.0 - counts.mean(),
        "divergence": divergence.mean(),
    }
    return with_kl(model, m, cfg, now, total, metrics)


def train(
    model: FlowModel, engine: Engine, prompts: Prompts, scorer: ScoringPool, cfg: Dppo, start: int = 0
) -> Iterator[Step]:
    """Yields after every rollout and its updates: those of Flow-GRPO with (O3)."""
    yield from grpo.train(model, engine, prompts, scorer, cfg, start, loss)
