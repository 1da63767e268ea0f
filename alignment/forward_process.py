"""Learning from finished images at noise levels of one's own: what the algorithms on the forward process share.

    (X1)  x = (1 - sigma) x0 + sigma eps,  sigma = sigmoid(m + s n),  n ~ N(0, 1)      of images x0 that were sampled
    (X2)  e_theta = mean || v_theta(x, sigma, text) - (eps - x0) ||^2                  a mean over latent dimensions

How an image was sampled plays no part: any solver, any number of steps, guided or not. Guidance is for sampling alone;
what learns is the conditional velocity, so that what guidance adds becomes the model's own.
Shapes: B samples, S latent tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from alignment.groups import Groups
from base_model.engine.bounds import require_at_least
from base_model.flow import add_noise, logit_normal
from base_model.interface import Conditioning, FlowModel
from base_model.seeding import generator


@dataclass(frozen=True)
class Forward(Groups):
    """Settings of learning from finished images."""

    levels: int = 1
    """noise levels at which an image is learned from in an update"""
    sigma_mean: float = 0.0
    """m of (X1)"""
    sigma_std: float = 1.0
    """s of (X1)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 0.0, "sigma_std")
        if self.levels < 1:
            raise ValueError(f"levels={self.levels} must be at least 1: an image is learned from at a noise level")


class FinishedImages(NamedTuple):
    """Finished images with what they are worth; `weight_B` is 0 for those that teach nothing, else total / taught."""

    x0_BSC: Tensor
    cond: Conditioning
    advantage_B: Tensor
    weight_B: Tensor


class Point(NamedTuple):
    """Images at one noise level each."""

    x_BSC: Tensor
    sigma_B: Tensor
    target_BSC: Tensor
    """eps - x0"""
    cond: Conditioning
    advantage_B: Tensor
    weight_B: Tensor


def noised(images: Sequence[FinishedImages], cfg: Forward, step: int, rank: int) -> list[Point]:
    """(X1): every batch of images at `levels` noise levels, one after the other."""
    random, results = generator(cfg.seed, step, rank, "forward"), []
    for batch in images:
        for _ in range(cfg.levels):
            eps = torch.randn(batch.x0_BSC.shape, generator=random).to(batch.x0_BSC.device)
            sigma = logit_normal(len(batch.x0_BSC), cfg.sigma_mean, cfg.sigma_std, random).to(eps.device)
            x = add_noise(batch.x0_BSC, eps, sigma)
            results.append(Point(x, sigma, eps - batch.x0_BSC, batch.cond, batch.advantage_B, batch.weight_B))
    return results


@torch.no_grad()
def velocities(model: FlowModel, points: Sequence[Point]) -> list[Tensor]:
    """What the model, as it is now, answers at every point; in the same batches, so that asking again is exact."""
    return [model.velocity(point.x_BSC, point.sigma_B, point.cond) for point in points]


def error(v_BSC: Tensor, point: Point) -> Tensor:
    """(X2) [B]"""
    return (v_BSC - point.target_BSC).square().mean((1, 2))


def velocity_distance(v_BSC: Tensor, other_BSC: Tensor, point: Point) -> Tensor:
    """Mean squared distance of two velocities over the samples that teach."""
    return (point.weight_B * (v_BSC - other_BSC).square().mean((1, 2))).mean()
