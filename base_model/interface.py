"""What anyone may ask of a base model.

Training loops and alignment know a model only through `FlowModel`. Adding one is one file and a row in its contract
test. Shapes: B samples, S latent tokens, R tokens of condition images, C channels of a latent token, L text tokens,
D width of the text encoder, 3HW pixels in [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from base_model.condition_images import Readers
    from base_model.sample import Sampler

Grid = tuple[int, int]
"""rows and columns of latent tokens"""


@dataclass(frozen=True)
class Conditioning:
    """Everything the network reads besides the noisy latent and its noise level.

    An image to be edited is known twice (dual encoding, Qwen-Image, arXiv:2508.02324): what it shows, as
    text tokens of an encoder that saw it, and how it looks, as its clean latents.
    """

    text_BLD: Tensor
    """encoded text, and what the encoder saw of the images; zeros where the mask is False"""
    mask_BL: Tensor
    """bool, True for a real token"""
    grids: tuple[Grid, ...]
    """of the image to be made, one a sample; S is the largest product"""
    images_BRC: Tensor | None = None
    """clean latents of the condition images of a sample, one behind the other, then zeros; None: no sample has any"""
    image_grids: tuple[tuple[Grid, ...], ...] = ()
    """the grid of every condition image, for every sample; () when no sample has any"""
    lengths: tuple[int, ...] = ()
    """real text tokens of every sample, which all come first in its row; () when that is not known. With them nobody
    has to ask the device, which would wait for all that it still has to do"""
    more_B: Mapping[str, Tensor] = field(default_factory=dict)
    """what only some networks read, by name, a row a sample: a pooled vector, or `scale`, the guidance"""

    def __post_init__(self) -> None:
        B = self.text_BLD.shape[0]
        if len(self.grids) != B or not all(isinstance(grid, tuple) for grid in self.grids):
            raise ValueError(f"grids must hold one (rows, columns) for each of the {B} samples, got {self.grids}")
        if self.lengths and len(self.lengths) != B:
            raise ValueError(f"lengths {self.lengths} must hold the text tokens of each of the {B} samples, or be ()")
        if (self.images_BRC is None) != (not any(self.image_grids)):
            raise ValueError("images_BRC and image_grids belong together: give both, or neither")
        if self.images_BRC is not None and (
            len(self.image_grids) != B or self.images_BRC.shape[:2] != (B, max(map(token_count, self.image_grids)))
        ):
            raise ValueError(
                f"condition images of grids {self.image_grids} do not fit latents {tuple(self.images_BRC.shape)} "
                f"of {B} samples: one row of tokens a sample, as long as the longest"
            )
        if odd := {name: tuple(value.shape) for name, value in self.more_B.items() if len(value) != B}:
            raise ValueError(f"more_B holds {odd}, and there are {B} samples: one row a sample")

    def __len__(self) -> int:
        return self.text_BLD.shape[0]

    @property
    def reads_guidance(self) -> bool:
        """Whether the network reads its guidance as a number, so that nothing without a prompt is ever asked of it."""
        return "scale" in self.more_B

    def take(self, rows: slice | Sequence[int] | Tensor) -> Conditioning:
        """Returns the chosen samples, never as a view: kernels may round strided tensors differently."""
        chosen = torch.arange(len(self))[rows.cpu() if isinstance(rows, Tensor) else rows].tolist()
        more = {name: value[rows].contiguous() for name, value in self.more_B.items()}
        return self._with(self.text_BLD[rows].contiguous(), self.mask_BL[rows].contiguous(), more, chosen)

    def repeat(self, copies: int) -> Conditioning:
        """Every sample `copies` times, copies side by side."""
        chosen = [i for i in range(len(self)) for _ in range(copies)]
        more = {name: value.repeat_interleave(copies, 0) for name, value in self.more_B.items()}
        text, mask = self.text_BLD.repeat_interleave(copies, 0), self.mask_BL.repeat_interleave(copies, 0)
        return self._with(text, mask, more, chosen)

    def telling(self, scale: float) -> Conditioning:
        """The same, for a network that reads its guidance as a number instead of being asked twice."""
        scale_B = torch.full((len(self),), scale, dtype=torch.float32, device=self.text_BLD.device)
        return replace(self, more_B={**self.more_B, "scale": scale_B})

    def _with(
        self, text_BLD: Tensor, mask_BL: Tensor, more: Mapping[str, Tensor], chosen: list[int]
    ) -> Conditioning:  # fmt: skip
        """The text given, with the grids and images of the chosen samples."""
        grids = tuple(self.grids[i] for i in chosen)
        image_grids = tuple(self.image_grids[i] for i in chosen) if self.image_grids else ()
        lengths = tuple(self.lengths[i] for i in chosen) if self.lengths else ()
        if self.images_BRC is None or not any(image_grids):
            return Conditioning(text_BLD, mask_BL, grids, lengths=lengths, more_B=more)
        longest = max(map(token_count, image_grids))
        shown = self.images_BRC[chosen, :longest]
        return Conditioning(text_BLD, mask_BL, grids, shown, image_grids, lengths, more)

    @staticmethod
    def stack(parts: Sequence[Conditioning]) -> Conditioning:
        """Samples of several conditionings, padded to the longest text and the most image tokens.

        Raises ValueError when one has rows of `more_B` that another lacks.
        """
        if len({frozenset(part.more_B) for part in parts}) > 1:
            raise ValueError(f"conditionings of different models: more_B holds {[sorted(p.more_B) for p in parts]}")
        more = {name: torch.cat([part.more_B[name] for part in parts]) for name in parts[0].more_B}
        grids = tuple(grid for part in parts for grid in part.grids)
        text = padded_together([part.text_BLD for part in parts])
        mask = padded_together([part.mask_BL[..., None] for part in parts])[..., 0]
        shown = [part.images_BRC for part in parts if part.images_BRC is not None]
        lengths = tuple(n for part in parts for n in part.lengths) if all(part.lengths for part in parts) else ()
        if not shown:
            return Conditioning(text, mask, grids, lengths=lengths, more_B=more)
        images = padded_together(
            [
                shown[0].new_zeros(len(part), 0, shown[0].shape[2]) if part.images_BRC is None else part.images_BRC
                for part in parts
            ]
        )
        image_grids = tuple(own for part in parts for own in part.image_grids or ((),) * len(part))
        return Conditioning(text, mask, grids, images, image_grids, lengths, more)


def token_count(grids: Sequence[Grid]) -> int:
    """Latent tokens of several images."""
    return sum(h * w for h, w in grids)


def padded_together(parts_BND: Sequence[Tensor]) -> Tensor:
    """Rows of several batches in one, zeros behind the shorter ones."""
    longest = max(part.shape[1] for part in parts_BND)
    return torch.cat([nn.functional.pad(part, (0, 0, 0, longest - part.shape[1])) for part in parts_BND])


ConditionImages = Sequence[Sequence[Tensor]]
"""condition images [3, H, W] in [0, 1], any number for every sample; () when no sample has any"""


class FlowModel(Protocol):
    """A flow-matching model, text (and images) to image: v = eps - x0 at x = (1 - sigma) x0 + sigma eps."""

    trainable: nn.Module
    """what an engine wraps; after wrapping, set it to `engine.module` so that `velocity` calls through the wrapper"""

    def encode_text(self, texts: Sequence[str], images: ConditionImages = ()) -> Conditioning:
        """Prompts, or instructions with the images that they are about, to conditioning.

        Raises ValueError naming the characters that the model cannot know, or what it cannot do with the images.
        """
        ...

    def read_images(self, readers: Readers) -> ConditionImages:
        """Condition images of several samples, read when they are indexed, in the sizes in which a run shows them."""
        ...

    def unconditional(self, size: int, images: ConditionImages = ()) -> Conditioning:
        """The conditioning of no prompt, for guidance and for its training dropout; what the images show stays."""
        ...

    def encode_pixels(self, images_B3HW: Tensor) -> Tensor:
        """Images in [0, 1] to clean latents x0 [B, S, C]."""
        ...

    def decode(self, x_BSC: Tensor) -> Tensor:
        """Clean latents to images [B, 3, H, W] in [0, 1]."""
        ...

    def velocity(self, x_BSC: Tensor, sigma_B: Tensor, cond: Conditioning) -> Tensor:
        """v [B, S, C]; `sigma_B` is float32 in [0, 1]."""
        ...

    def guided(self, x_BSC: Tensor, sigma_B: Tensor, cond: Conditioning, uncond: Conditioning, scale: float) -> Tensor:
        """Velocity at a guidance scale, 1 = none: two answers combined, or one of a network that reads the number.

        `uncond` is not read where one answer is enough.
        """
        ...

    def levels(self, sampler: Sampler) -> list[float]:
        """Noise levels to sample through: the sampler's, or the model's own where it was released with some."""
        ...

    def shift(self, tokens: int) -> float:
        """How far its schedule moves the logit of a noise level for an image of so many latent tokens."""
        ...

    def noise(self, size: int, generator: torch.Generator) -> Tensor:
        """Standard normal latents [size, S, C]."""
        ...

    def sized_for_run(self, image: tuple[int, int]) -> FlowModel:
        """The same model, same weights, for images of another (height, width)."""
        ...

    def reference(self) -> AbstractContextManager[FlowModel]:
        """The model as it was when alignment began; nothing in it learns."""
        ...


def without_prompt(model: FlowModel, cond: Conditioning, guidance: float, images: ConditionImages = ()) -> Conditioning:
    """Encodes no prompt for every row of `cond`; where nobody reads it, nothing is encoded and `cond` stands for it."""
    return cond if guidance == 1.0 or cond.reads_guidance else model.unconditional(len(cond), images)


def encoded(
    model: FlowModel, texts: Sequence[str], guidance: float, images: ConditionImages = (), copies: int = 1
) -> tuple[Conditioning, Conditioning]:
    """Encodes prompts, and no prompt as `without_prompt` does; every sample `copies` times, copies side by side."""
    cond = model.encode_text(texts, images)
    uncond = without_prompt(model, cond, guidance, images)
    many = cond.repeat(copies)
    return many, many if uncond is cond else uncond.repeat(copies)
