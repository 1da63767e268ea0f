"""Plain sampling: follow the ordinary differential equation from noise to an image.

Shapes: B samples, S latent tokens, C channels, 3HW pixels.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from base_model import flow
from base_model.interface import Conditioning, FlowModel


@dataclass(frozen=True)
class Sampler:
    """Settings of sampling."""

    steps: int = 10
    """network evaluations (twice that with guidance)"""
    guidance: float = 1.0
    """classifier-free guidance; 1 = none"""
    mu: float = 0.5
    """schedule shift (F4)"""

    def levels(self) -> list[float]:
        """The `steps` + 1 noise levels."""
        return flow.schedule(self.steps, self.mu)


def velocity(
    model: FlowModel, x_BSC: Tensor, sigma: float, cond: Conditioning, uncond: Conditioning, scale: float
) -> Tensor:
    """Velocity with guidance, in the way that the model takes it (`FlowModel.guided`)."""
    sigma_B = torch.full((x_BSC.shape[0],), sigma, dtype=torch.float32, device=x_BSC.device)
    return model.guided(x_BSC, sigma_B, cond, uncond, scale)


@torch.no_grad()
def sample(
    model: FlowModel, x_BSC: Tensor, cond: Conditioning, uncond: Conditioning, sampler: Sampler,
    levels: Sequence[float], second_order: bool = False,
) -> Tensor:  # fmt: skip
    """Follow the ODE from `x_BSC` through `levels`, e.g. `sampler.levels()`, by (F5) or in second order by (F10)."""
    before = None
    for sigma, sigma_next in itertools.pairwise(levels):
        v = velocity(model, x_BSC, sigma, cond, uncond, sampler.guidance)
        if second_order:
            x0, _ = flow.ends(x_BSC, v, sigma)
            v, before = flow.second_order(v, x0, sigma, sigma_next, before), (x0, sigma)
        x_BSC = flow.euler(x_BSC, v, sigma, sigma_next).mean_BSC
    return x_BSC


def pixels(model: FlowModel, x0_BSC: Tensor) -> np.ndarray:
    """Decode clean latents to uint8 images [B, 3, H, W] on the host."""
    images: np.ndarray = (model.decode(x0_BSC) * 255.0).round().byte().cpu().numpy()
    return images
