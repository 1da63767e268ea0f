"""Learning from images that were called good or bad, each for itself: what "both bad" says and no pair can.

With r = -beta/2 (e_theta - e_ref), e as (D2) in alignment/dpo.py:

    (K1)  z = max(0, mean over the update's images of r), without gradient        what an image gains by itself
    (K2)  good: u = sigmoid(r - z),   bad: u = sigmoid(z - r)
    (K3)  L = mean_i l_i (1 - u_i),   l = `good_weight` or `bad_weight`

Ethayarajh et al., arXiv:2402.01306; for diffusion Li et al., arXiv:2404.04465. At the reference r = z = 0, u = 1/2 and
L is half the mean of l. A sigmoid saturates: what is clearly good or bad already teaches little more.

z is that of the whole update, over all ranks and micro-batches, so that how it is split changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from alignment import dpo
from alignment.dpo import Dpo, errors, shuffled_rows
from base_model.engine.engine import Engine
from base_model.engine.step import Step
from base_model.flow import logit_normal
from base_model.interface import ConditionImages, FlowModel, Grid
from base_model.micro_batches import split, weighed
from base_model.seeding import generator


@dataclass(frozen=True)
class Kto(Dpo):
    """Settings of learning from unpaired verdicts; `batch` and `micro` count images."""

    reads: ClassVar[Literal["pairs", "answers", "verdicts"]] = "verdicts"

    good_weight: float = 1.0
    """weight of images called good"""
    bad_weight: float = 1.0
    """weight of images called bad"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not min(self.good_weight, self.bad_weight) >= 0.0 or self.good_weight + self.bad_weight == 0.0:
            raise ValueError(
                f"good_weight={self.good_weight} and bad_weight={self.bad_weight} must be at least 0, and not both 0"
            )


@dataclass(frozen=True)
class Verdicts:
    """Images in latent space and whether they were called good."""

    x0_NSC: Tensor
    good_N: Tensor
    texts: tuple[str, ...]
    images: ConditionImages = ()
    """what each text asks to edit; () when none does"""
    grids: tuple[Grid, ...] = ()
    """of the latents, zeros behind the shorter ones; () when all are of the model's own size"""

    def __post_init__(self) -> None:
        if not len(self.x0_NSC) == len(self.good_N) == len(self.texts) > 0:
            raise ValueError(
                f"{len(self.x0_NSC)} latents, {len(self.good_N)} verdicts and {len(self.texts)} texts: one of each "
                "for at least one image"
            )


class Micro(NamedTuple):
    """What one backward pass reads."""

    images: dpo.Micro
    before_B: Tensor
    """errors of the reference"""
    good_B: Tensor
    baseline: Tensor
    """(K1)"""


def loss(model: FlowModel, m: Micro, cfg: Kto) -> tuple[Tensor, dict[str, Tensor]]:
    """(K3)"""
    gain_B = errors(model, m.images) - m.before_B
    reward_B = -0.5 * cfg.beta * gain_B
    side_B = torch.where(m.good_B, 1.0, -1.0)
    weight_B = torch.where(m.good_B, cfg.good_weight, cfg.bad_weight)
    total = (weight_B * (1.0 - torch.sigmoid(side_B * (reward_B - m.baseline)))).mean()  # (K2), (K3)
    r, good = reward_B.detach(), m.good_B.float()
    metrics = {
        "implicit_accuracy": ((r - m.baseline) * side_B > 0.0).float().mean(),
        "good_reward": (r * good).sum() / good.sum().clamp_min(1.0),
        "bad_reward": (r * (1.0 - good)).sum() / (1.0 - good).sum().clamp_min(1.0),
        "baseline": m.baseline,
        "drift": gain_B.detach().mean(),
    }
    return weighed(total, metrics, m.images.share)


@torch.no_grad()
def prepared(model: FlowModel, engine: Engine, batches: Sequence[tuple[dpo.Micro, Tensor]], cfg: Kto) -> list[Micro]:
    """The micro-batches with what the reference makes of them, and (K1)."""
    now = [errors(model, images) for images, _ in batches]
    with model.reference() as reference:
        before = [errors(reference, images) for images, _ in batches]
    gained = engine.gather(torch.cat(now) - torch.cat(before))
    baseline = (-0.5 * cfg.beta * gained).mean().clamp_min(0.0)
    return [Micro(x, then, good, baseline) for (x, good), then in zip(batches, before, strict=True)]


def train(model: FlowModel, engine: Engine, verdicts: Verdicts, cfg: Kto, start: int = 0) -> Iterator[Step]:
    """Yields after every update. The model's reference must be frozen where training begins."""
    for step in range(start, cfg.steps):
        rows = shuffled_rows(len(verdicts.texts), step * engine.world_size + engine.rank, cfg.batch, cfg.seed)
        random = generator(cfg.seed, step, engine.rank, "kto")
        x0 = verdicts.x0_NSC[rows].to(engine.device)
        eps = torch.randn(x0.shape, generator=random)
        sigma = logit_normal(cfg.batch, cfg.sigma_mean, cfg.sigma_std, random).to(engine.device)
        cond = dpo.conditioned(model, verdicts.texts, verdicts.images, verdicts.grids, rows)
        eps, good = dpo.without_padding(eps, cond).to(engine.device), verdicts.good_N[rows].to(engine.device)
        batches = [
            (dpo.micro_batch([x0], eps, sigma, cond, part), good[part.rows])
            for part in split(model, engine, cond, cfg.micro)
        ]
        yield Step(step, engine.update(prepared(model, engine, batches, cfg), lambda m: loss(model, m, cfg)))
