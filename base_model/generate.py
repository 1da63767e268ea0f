"""Images of many prompts, a chunk at a time: as many as go through a network together.

Shapes: B samples, S latent tokens, C channels, 3HW pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from base_model.interface import ConditionImages, Conditioning, FlowModel, encoded
from base_model.sample import Sampler, pixels, sample

AT_ONCE = 16 * 1024
"""latent tokens that are sampled, decoded or encoded together: 16 images of 512 x 512, 4 of 1024 x 1024"""

CHUNK = 64
"""images that are generated together at most; large ones are fewer (`at_once`)"""


def at_once(tokens: int, most: int) -> int:
    """How many images of so many latent tokens each go through a network together, 1 to `most`."""
    return max(1, min(most, AT_ONCE // tokens))


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
