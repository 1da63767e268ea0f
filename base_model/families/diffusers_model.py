"""A `FlowModel` made of a diffusers pipeline and a `Family`.

The pipeline supplies network, autoencoder, encoders and scheduler; its own sampling loop is never run.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any, Self

import torch
from torch import Tensor, nn

from base_model.families.encoded_prompts import EncodedPrompts, conditioning, in_dtype
from base_model.families.family import Family
from base_model.generate import at_once
from base_model.interface import ConditionImages, Conditioning, Grid, padded_together
from base_model.lora import mark_dead
from base_model.policy_model import PolicyModel
from base_model.qwen.model import token_grid
from base_model.qwen.prompt_templates import check_text
from base_model.sample import Sampler

MOST = 64
"""images that the autoencoder sees at once at most, however small they are"""


class DiffusersModel(PolicyModel):
    """Text, and images where the family takes them, to image. `image` is the (height, width) of what is made.

    Raises ValueError when the image does not divide into latent tokens.
    """

    keeps_base = True
    one_size_a_call = True

    def __init__(
        self, family: Family, network: Any, vae: Any, scheduler: Any, prompts: EncodedPrompts, image: tuple[int, int],
        device: str = "cpu", checkpoint: str = "",
    ) -> None:  # fmt: skip
        """`checkpoint` is its folder or its name on the hub, by which it is opened again."""
        self.family, self.scheduler, self.prompts, self.checkpoint = family, scheduler, prompts, checkpoint
        self.side = family.factor * family.patch
        """pixels that a latent token covers on each side"""
        family.require_size(image)
        self.grid = token_grid(image, self.side)
        self.channels = family.channels
        self.picture = self.native = image
        self.device = torch.device(device)
        self.network = network.to(device)
        self.trainable: nn.Module = self.network
        self.vae = vae.to(device).eval().requires_grad_(False)
        if hasattr(self.vae, "enable_slicing"):
            self.vae.enable_slicing()  # a group is decoded image by image, or it would need gigabytes
        self.sampler, self.lora_targets, self.most_images = family.sampler, family.lora_targets, family.most_images
        self.guidance_embedded = family.guidance_embedded
        """what a network that reads its guidance as a number is given where nothing is sampled; None: it reads none"""
        mark_dead(self.network, family.dead)

    @property
    def multiple(self) -> int:
        return self.family.multiple

    # --- prompts

    def check_text(self, text: str, images: int = 0) -> None:
        """See `PolicyModel.check_text`."""
        check_text(text, self.family.own_tokens)

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str], images: ConditionImages = ()) -> Conditioning:
        self._check_texts(texts)
        self._check_images(images)
        shown = [tuple(own) for own in images] if any(images) else [()] * len(texts)
        return self._conditioning(list(zip(texts, shown, strict=True)), images)

    @torch.no_grad()
    def unconditional(self, size: int, images: ConditionImages = ()) -> Conditioning:
        self._check_images(images)
        shown = [tuple(own) for own in images] if any(images) else [()] * size
        return self._conditioning([(None, own) for own in shown], images)

    def _conditioning(
        self, requests: list[tuple[str | None, tuple[Tensor, ...]]], images: ConditionImages
    ) -> Conditioning:
        rows = self.prompts.rows(requests)
        cond = conditioning(rows, self.grid, self.dtype, self.device, *self.encode_images(images))
        return cond if self.guidance_embedded is None else cond.telling(self.guidance_embedded)

    @torch.no_grad()
    def encode_ahead(self, texts: Sequence[str], images: ConditionImages = ()) -> None:
        self._check_texts(texts)
        self._check_images(images)
        shown = [tuple(own) for own in images] if any(images) else [()] * len(texts)
        of_none = [(None, own) for own in shown if not own or self.guidance_embedded is None]
        self.prompts.encode_ahead([*zip(texts, shown, strict=True), *(of_none or [(None, ())])])

    def release_encoders(self) -> None:
        self.prompts.release()

    # --- pixels and latents

    @torch.no_grad()
    def encode_pixels(self, images_B3HW: Tensor) -> Tensor:
        batch = images_B3HW.split(at_once(images_B3HW.shape[2] * images_B3HW.shape[3] // self.side**2 or 1, MOST))
        in_range = (part.to(self.device, self.vae.dtype) * 2.0 - 1.0 for part in batch)
        return torch.cat([self.family.latents(self.vae, part).float() for part in in_range])

    @torch.no_grad()
    def decode(self, x_BSC: Tensor) -> Tensor:
        batch = x_BSC.to(self.vae.dtype).split(at_once(x_BSC.shape[1], MOST))
        pixels = torch.cat([self.family.pixels(self.vae, part, self.grid).float() for part in batch])
        return (pixels * 0.5 + 0.5).clamp(0.0, 1.0)

    def encode_images(self, images: ConditionImages) -> tuple[Tensor | None, tuple[tuple[Grid, ...], ...]]:
        """Return `Conditioning.images_BRC` and `.image_grids`: every image in its own size."""
        if not any(images):
            return None, ()
        grids = tuple(tuple(token_grid((p.shape[1], p.shape[2]), self.side) for p in own) for own in images)
        empty = torch.zeros(1, 0, self.channels, device=self.device)
        rows = [torch.cat([empty, *(self.encode_pixels(image[None]) for image in own)], 1) for own in images]
        return padded_together(rows), grids

    def _check_texts(self, texts: Sequence[str]) -> None:
        for text in texts:
            self.check_text(text)

    def _check_images(self, images: ConditionImages) -> None:
        if any(len(own) > (most := self.family.most_images) for own in images):
            raise ValueError(f"a {self.family.pipeline} checkpoint takes at most {most} condition images")

    # --- the flow

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in, or its frozen copy inside `reference`, which may have another type.

        diffusers keeps some weights of a network in float32 where the others have 16 bits, as Wan's first.
        """
        first: torch.dtype | None = None
        for name, p in self.trainable.named_parameters():
            if p.is_floating_point() and ".lora_" not in name:
                if p.dtype.itemsize == 2:
                    return p.dtype
                first = first or p.dtype
        assert first is not None
        return first

    def velocity(self, x_BSC: Tensor, sigma_B: Tensor, cond: Conditioning) -> Tensor:
        layouts: dict[Any, list[int]] = {}
        for row, layout in enumerate(self._layouts(cond)):
            layouts.setdefault(layout, []).append(row)
        if len(layouts) == 1:
            return self._velocity_of_one_layout(x_BSC, sigma_B, cond)
        parts = [self._velocity_of_one_layout(x_BSC[rows], sigma_B[rows], cond.take(rows)) for rows in layouts.values()]
        order = torch.tensor([row for rows in layouts.values() for row in rows])
        return torch.cat(parts)[order.argsort()]

    def _layouts(self, cond: Conditioning) -> list[Any]:
        """What samples of one call have in common: number and sizes of condition images, and the length of the text
        where the network reads padding."""
        lengths = cond.lengths or cond.mask_BL.sum(1).tolist() if self.family.calls_depend_on_prompts else ()
        return list(zip_longest(cond.image_grids, lengths, fillvalue=())) or [()] * len(cond)

    def _velocity_of_one_layout(self, x_BSC: Tensor, sigma_B: Tensor, cond: Conditioning) -> Tensor:
        dtype = self.dtype
        if self.family.calls_depend_on_prompts:
            length = int(cond.lengths[0] if cond.lengths else cond.mask_BL[0].sum())
            cond = replace(cond, text_BLD=cond.text_BLD[:, :length].contiguous(), mask_BL=cond.mask_BL[:, :length])
        return self.family.velocity(self.trainable, x_BSC.to(dtype), sigma_B, in_dtype(cond, dtype)).to(x_BSC.dtype)

    def guided(self, x_BSC: Tensor, sigma_B: Tensor, cond: Conditioning, uncond: Conditioning, scale: float) -> Tensor:
        if self.guidance_embedded is None:
            return super().guided(x_BSC, sigma_B, cond, uncond, scale)
        return self.velocity(x_BSC, sigma_B, cond.telling(scale))

    def combine(self, v_cond: Tensor, v_uncond: Tensor, scale: float, cond: Conditioning) -> Tensor:
        return self.family.combine(v_cond, v_uncond, scale, cond)

    def levels(self, sampler: Sampler) -> list[float]:
        """Return the pipeline's noise levels for the image's size; the sampler's own shift plays no part."""
        return self.family.levels(self.scheduler, sampler.steps, self.grid[0] * self.grid[1])

    def shift(self, tokens: int) -> float:
        """Return how far the pipeline's schedule moves the logit of the middle one of 50 steps."""
        middle = self.family.levels(self.scheduler, 50, tokens)[25]
        return math.log(middle / (1.0 - middle))

    def sized(self, image: tuple[int, int]) -> Self:
        self.family.require_size(image)
        other = copy.copy(self)
        other.picture, other.grid = image, token_grid(image, self.side)
        return other

    def recompute(self, on: bool) -> None:
        if on:
            self.network.enable_gradient_checkpointing()
        else:
            self.network.disable_gradient_checkpointing()

    def hollow_network(self) -> nn.Module:
        return self.family.hollow_network()
