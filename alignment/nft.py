"""DiffusionNFT: learn from good and bad images at once, on the forward process.

    (N1)  r_i = 1/2 + 1/2 clip(A_i / A_max, -1, 1)                                       how good, in [0, 1]
    (N2)  v+ = v_old + b (v_theta - v_old),   v- = v_old - b (v_theta - v_old)           towards, and the mirror image
    (N3)  x0^(v) = x - sigma v,   w(v) = mean |x0^(v) - x0|, without gradient            error in the image
    (N4)  L = mean [ r mean (x0^(v+) - x0)^2 / w(v+) + (1 - r) mean (x0^(v-) - x0)^2 / w(v-) ] / b
              + g mean || v_theta - v_ref ||^2                 v_ref guided, where `reference_guidance` is above 1
    (N5)  old <- d old + (1 - d) theta after every update: the engine's weight average (OptimConfig.ema_decay)

Zheng et al., arXiv:2509.16117. At v_theta = v_old the gradient of (N4) is (2 r - 1) times that of the image's error
over w. An image with A = 0 has r = 1/2: the old policy is then stationary: a step across the error is pulled back. A
step along the error is not, because w divides by the error's size.

The old policy samples the images. It is the average that the engine keeps, saves and shards, so a run that goes on has
the same one; without an average the old policy is the present one. The published loss is A_max times (N4).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from alignment.forward_process import FinishedImages, Forward, Point, noised, velocities, velocity_distance
from alignment.groups import Passes, Prompts, over_updates, sample_groups
from base_model.engine.bounds import require_at_least
from base_model.engine.engine import Engine
from base_model.engine.step import Step
from base_model.interface import FlowModel, without_prompt
from rewards.scores import ScoringPool


@dataclass(frozen=True)
class Nft(Forward):
    """Settings of DiffusionNFT."""

    mix: float = 1.0
    """b of (N2), in (0, 1]: smaller ones take larger steps away from the old policy"""
    beta: float = 0.0
    """g of (N4), weight of the squared distance to the reference's velocity; 0 needs no reference"""
    reference_guidance: float = 1.0
    """guidance of the reference: above 1 what guidance adds to the start becomes the policy's own meanwhile"""

    def passes(self) -> Passes:
        """See `Groups.passes`."""
        asks = 0 if self.beta == 0.0 else 1 if self.reference_guidance == 1.0 else 2
        return Passes(self.group, 1 + asks, self.beta > 0.0)

    @property
    def needs_reference(self) -> bool:
        """See `Groups.needs_reference`."""
        return self.beta > 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 0.0, "beta")
        if not 0.0 < self.mix <= 1.0:
            raise ValueError(f"mix={self.mix} must be in (0, 1]; at 0 the new velocity plays no part")
        if self.reference_guidance != 1.0 and self.beta == 0.0:
            raise ValueError(
                f"reference_guidance={self.reference_guidance} does nothing while beta=0 keeps no reference: set beta"
            )


class Micro(NamedTuple):
    """Images at one noise level each, and the old policy's velocity there."""

    point: Point
    old_BSC: Tensor


def goodness(advantage_B: Tensor, most: float) -> Tensor:
    """(N1) [B]"""
    return 0.5 + 0.5 * (advantage_B / most).clamp(-1.0, 1.0)


def image_error(v_BSC: Tensor, point: Point) -> Tensor:
    """(N3), one term of (N4) [B]. x - sigma v - x0 is sigma times the velocity's error."""
    missed = point.sigma_B.view(-1, 1, 1) * (point.target_BSC - v_BSC)
    scale = missed.detach().double().abs().mean((1, 2)).clamp_min(1e-5).float()
    return missed.square().mean((1, 2)) / scale


@torch.no_grad()
def reference_velocity(model: FlowModel, point: Point, guidance: float) -> Tensor:
    """v_ref of (N4) at a point. Raises ValueError for guidance with source images, which a point does not keep."""
    if guidance != 1.0 and point.cond.images_BRC is not None:
        raise ValueError(f"reference_guidance={guidance} is for prompts without source images; set it to 1")
    with model.reference() as reference:
        uncond = without_prompt(reference, point.cond, guidance)
        return reference.guided(point.x_BSC, point.sigma_B, point.cond, uncond, guidance)


def loss(model: FlowModel, m: Micro, cfg: Nft) -> tuple[Tensor, dict[str, Tensor]]:
    """(N4)"""
    p = m.point
    v = model.velocity(p.x_BSC, p.sigma_B, p.cond)
    moved = cfg.mix * (v - m.old_BSC)
    r = goodness(p.advantage_B, cfg.advantage_clip)
    towards, mirrored = image_error(m.old_BSC + moved, p), image_error(m.old_BSC - moved, p)  # (N2)
    total = (p.weight_B * (r * towards + (1.0 - r) * mirrored)).mean() / cfg.mix  # (N4)
    metrics = {
        "towards": (p.weight_B * r * towards).detach().mean(),
        "mirrored": (p.weight_B * (1.0 - r) * mirrored).detach().mean(),
        "moved": velocity_distance(v.detach(), m.old_BSC, p),
    }
    if cfg.beta > 0.0:
        distance = velocity_distance(v, reference_velocity(model, p, cfg.reference_guidance), p)
        total = total + cfg.beta * distance
        metrics["drift"] = distance.detach()
    return total, metrics


def train(
    model: FlowModel, engine: Engine, prompts: Prompts, scorer: ScoringPool, cfg: Nft, start: int = 0
) -> Iterator[Step]:
    """Yields after every rollout and its updates."""
    for step in range(start, cfg.steps):
        with engine.averaged():  # the old policy (N5)
            rollouts = sample_groups(model, engine, prompts, scorer, cfg, step)
            images = [FinishedImages(one.x0_BSC, one.cond, advantage, w) for one, advantage, w, _ in rollouts.parts]
            points = noised(images, cfg, step, engine.rank)
            micros = [Micro(*both) for both in zip(points, velocities(model, points), strict=True)]
        metrics = dict(rollouts.metrics)
        if rollouts.teaches:
            metrics |= over_updates([engine.update(micros, partial(loss, model, cfg=cfg)) for _ in range(cfg.updates)])
        yield Step(step, metrics)
