"""What anyone may ask of a base model.

Training loops and alignment know a model only through `FlowModel`. Adding one is one file and a row in its contract
test. Shapes: B samples, S latent tokens, C channels of a latent token, L text tokens, D width of the text encoder,
3HW pixels in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Conditioning:
    """Everything the network reads besides the noisy latent and its noise level."""

    text_BLD: Tensor
    """encoded text, zeros where the mask is False"""
    mask_BL: Tensor
    """bool, True for a real token"""
    grid: tuple[int, int]
    """rows and columns of latent tokens; S is their product"""

    def __len__(self) -> int:
        return self.text_BLD.shape[0]

    def take(self, rows: slice | Sequence[int] | Tensor) -> Conditioning:
        """The chosen samples."""
        return Conditioning(self.text_BLD[rows], self.mask_BL[rows], self.grid)

    def repeat(self, copies: int) -> Conditioning:
        """Every sample `copies` times, copies side by side."""
        return Conditioning(
            self.text_BLD.repeat_interleave(copies, 0), self.mask_BL.repeat_interleave(copies, 0), self.grid
        )

    @staticmethod
    def stack(parts: Sequence[Conditioning]) -> Conditioning:
        """Samples of several conditionings of one grid, padded to the longest text.

        Raises ValueError when the grids differ.
        """
        if len({part.grid for part in parts}) != 1:
            raise ValueError(f"cannot stack conditionings of different grids {[part.grid for part in parts]}")
        length = max(part.mask_BL.shape[1] for part in parts)
        pad = [length - part.mask_BL.shape[1] for part in parts]
        text = [nn.functional.pad(part.text_BLD, (0, 0, 0, n)) for part, n in zip(parts, pad, strict=True)]
        mask = [nn.functional.pad(part.mask_BL, (0, n)) for part, n in zip(parts, pad, strict=True)]
        return Conditioning(torch.cat(text), torch.cat(mask), parts[0].grid)


class FlowModel(Protocol):
    """A flow-matching text-to-image model: v = eps - x0 at x = (1 - sigma) x0 + sigma eps."""

    trainable: nn.Module
    """what an engine wraps; after wrapping, set it to `engine.module` so that `velocity` calls through the wrapper"""

    def encode_text(self, texts: Sequence[str]) -> Conditioning:
        """Prompts to conditioning. Raises ValueError naming the characters that the model cannot know."""
        ...

    def unconditional(self, size: int) -> Conditioning:
        """The conditioning of no prompt, for guidance and for its training dropout."""
        ...

    def encode_pixels(self, images_B3HW: Tensor) -> Tensor:
        """Pictures in [0, 1] to clean latents x0 [B, S, C]."""
        ...

    def decode(self, x_BSC: Tensor) -> Tensor:
        """Clean latents to pictures [B, 3, H, W] in [0, 1]."""
        ...

    def velocity(self, x_BSC: Tensor, sigma_B: Tensor, cond: Conditioning) -> Tensor:
        """v [B, S, C]; `sigma_B` is float32 in [0, 1]."""
        ...

    def noise(self, size: int, generator: torch.Generator) -> Tensor:
        """Standard normal latents [size, S, C]."""
        ...

    def reference(self) -> AbstractContextManager[FlowModel]:
        """The model as it was when alignment began; nothing in it learns."""
        ...
