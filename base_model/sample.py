"""Plain sampling: follow the ordinary differential equation from noise to an image.

Shapes: B samples, S latent tokens, C channels, 3HW pixels.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from base_model import flow
from base_model.interface import ConditionImages, Conditioning, FlowModel, encoded

AT_ONCE = 16 * 1024
"""latent tokens that are sampled, decoded or encoded together: 16 images of 512 x 512, 4 of 1024 x 1024"""

CHUNK = 64
"""images that are generated together at most; large ones are fewer (`at_once`)"""


def at_once(tokens: int, most: int) -> int:
    """How many images of so many latent tokens each go through a network together, 1 to `most`."""
    return max(1, min(most, AT_ONCE // tokens))


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


Ask = Callable[[slice], tuple[Conditioning, Conditioning]]
"""what the images of those rows are to show, and for guidance the same without the prompt"""


def prompted(model: FlowModel, texts: Sequence[str], guidance: float, images: ConditionImages = ()) -> Ask:
    """Samples images of prompts, or of instructions with the images that they are about."""
    return lambda rows: encoded(model, texts[rows], guidance, images[rows])


@torch.no_grad()
def generate_chunks(
    model: FlowModel, ask: Ask, noise_BSC: Tensor, sampler: Sampler
) -> Iterator[tuple[slice, Tensor, np.ndarray]]:
    """Yields (rows, latents, uint8 images) a chunk at a time, so that a chunk can be read while the next is made."""
    count = at_once(noise_BSC.shape[1], CHUNK)
    for first in range(0, len(noise_BSC), count):
        rows = slice(first, min(first + count, len(noise_BSC)))
        x0 = sample(model, noise_BSC[rows], *ask(rows), sampler, model.levels(sampler))
        yield rows, x0, pixels(model, x0)


def generate(
    model: FlowModel, texts: Sequence[str], noise_BSC: Tensor, sampler: Sampler, images: ConditionImages = ()
) -> np.ndarray:
    """Generate one image for each text, or an edit of its `images`, from its row of noise: uint8 [B, 3, H, W]."""
    chunks = generate_chunks(model, prompted(model, texts, sampler.guidance, images), noise_BSC, sampler)
    return np.concatenate([made for _, _, made in chunks])
