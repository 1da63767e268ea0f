"""Flow-matching pretraining.

    (P1)  sigma = sigmoid(m + s n),  n ~ N(0, 1)                          logit-normal, Esser et al., arXiv:2403.03206
    (P2)  x = (1 - sigma) x0 + sigma eps
    (P3)  L = E || v_theta(x, sigma, text) - (eps - x0) ||^2              Lipman et al., arXiv:2210.02747
    (P4)  text is replaced by the unconditional template with probability `dropout`
                                                                          Ho & Salimans, arXiv:2207.12598

Noise, sigma and dropout of an update are functions of (seed, step, rank), so a resumed run is the same run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from base_model.engine import Engine
from base_model.flow import add_noise, logit_normal
from base_model.interface import Conditioning, FlowModel
from base_model.seeding import generator
from base_model.step import Step


class Latents(Protocol):
    """Clean latents with captions, addressable by (step, size)."""

    def batch(self, step: int, size: int) -> tuple[Tensor, Sequence[str]]: ...


@dataclass(frozen=True)
class Pretrain:
    """Settings of flow-matching training."""

    steps: int
    """updates"""
    batch: int = 64
    """pictures an update and rank"""
    micro: int = 64
    """pictures a backward pass"""
    sigma_mean: float = 1.0
    """m of (P1); > 0 leans to noise, where letters are decided"""
    sigma_std: float = 1.0
    """s of (P1)"""
    dropout: float = 0.1
    """share of samples trained without their text (P4)"""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch % self.micro:
            raise ValueError(f"micro={self.micro} must divide batch={self.batch}: the engine averages equal micros")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout={self.dropout} must be in [0, 1)")


class Micro(NamedTuple):
    """What one backward pass reads."""

    x0_BSC: Tensor
    eps_BSC: Tensor
    sigma_B: Tensor
    cond: Conditioning


def drop_text(cond: Conditioning, uncond: Conditioning, dropped_B: Tensor) -> Conditioning:
    """(P4): the conditioning with some samples replaced by the unconditional one."""
    both = Conditioning.stack([cond, uncond])
    B = len(cond)
    return both.take(torch.where(dropped_B, torch.full((B,), B), torch.arange(B)))


def loss(model: FlowModel, micro: Micro) -> tuple[Tensor, dict[str, Tensor]]:
    """(P3), and its two halves by noise level."""
    x = add_noise(micro.x0_BSC, micro.eps_BSC, micro.sigma_B)  # (P2)
    v = model.velocity(x, micro.sigma_B, micro.cond)
    error_B = (v - (micro.eps_BSC - micro.x0_BSC)).square().mean((1, 2))  # (P3)
    return error_B.mean(), {"flow_error": error_B.detach().mean()}


def train(model: FlowModel, engine: Engine, data: Latents, cfg: Pretrain, start: int = 0) -> Iterator[Step]:
    """Yields after every update."""
    uncond = model.unconditional(1)
    for step in range(start, cfg.steps):
        x0, captions = data.batch(step * engine.world_size + engine.rank, cfg.batch)
        random = generator(cfg.seed, step, engine.rank, "flow")
        eps = torch.randn(x0.shape, generator=random)
        sigma = logit_normal(cfg.batch, cfg.sigma_mean, cfg.sigma_std, random)  # (P1)
        dropped = torch.rand(cfg.batch, generator=random) < cfg.dropout
        cond = drop_text(model.encode_text(captions), uncond, dropped)  # (P4)
        rows = [slice(i, i + cfg.micro) for i in range(0, cfg.batch, cfg.micro)]
        x0, eps, sigma = (t.to(engine.device) for t in (x0, eps, sigma))
        micros = [Micro(x0[r], eps[r], sigma[r], cond.take(r)) for r in rows]
        yield Step(step, engine.update(micros, lambda m: loss(model, m)))
