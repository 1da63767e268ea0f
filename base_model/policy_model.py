"""What every `FlowModel` shares: guidance by two answers, a reference that is the network as alignment found it, and
what a run asks of whatever it trains."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from base_model import flow
from base_model.condition_images import Readers, ReadWhenIndexed, fitted
from base_model.frozen_linear import AS_IT_IS, BaseStorage
from base_model.interface import ConditionImages, Conditioning, Grid
from base_model.lora import (
    ATTENTION,
    adapter_off,
    adapter_weights,
    block_lists,
    has_adapter,
    has_reference_adapter,
    keep_adapter,
    with_reference_adapter,
)
from base_model.sample import Sampler

ENCODES = ("vae", "family", "device", "side")
"""what a model of any family encodes pixels with"""


class PolicyModel:
    """A base class. `network` is the module itself, `trainable` what an engine made of it."""

    network: Any
    trainable: nn.Module
    vae: Any
    device: torch.device
    channels: int
    """of a latent token"""
    side: int
    """pixels that a latent token covers on each side"""
    grid: Grid
    """of the images that are made"""
    picture: tuple[int, int]
    """(height, width) in pixels of what is made"""
    native: tuple[int, int]
    """size of what the model is for; `picture` may be another"""
    checkpoint = ""
    """the released checkpoint that it began from, its folder or its name on the hub; empty for our own presets"""
    one_size_a_call = False
    """whether the network takes samples of one size a call, also of condition images"""
    keeps_base = False
    """whether its weights stay in that checkpoint, and an adapter is saved alone"""
    base_storage: BaseStorage = AS_IT_IS
    """how that checkpoint's layers are stored while an adapter learns beside them"""
    needs_images = False
    """whether the model edits only: nothing can be sampled from a prompt alone"""
    most_images = 3
    """condition images that a prompt may have"""
    sampler = Sampler()
    """how it samples when nobody says otherwise: at checkpoints, under monitors, for people to compare"""
    lora_targets: tuple[str, ...] = ATTENTION
    """ends of the names of the layers that an adapter goes to when nobody says otherwise"""
    _frozen: nn.Module | None = None

    @property
    def multiple(self) -> int:
        """Height and width of an image are multiples of so many pixels."""
        return self.side

    def encode_text(self, texts: Sequence[str], images: ConditionImages = ()) -> Conditioning:
        """Encode prompts: see `FlowModel.encode_text`."""
        raise NotImplementedError

    def check_text(self, text: str, images: int = 0) -> None:
        """Raises ValueError for a prompt, with so many images, that `encode_text` would refuse; loads nothing heavy.

        Most text encoders read any text, and cut off what is too long.
        """

    def unconditional(self, size: int, images: ConditionImages = ()) -> Conditioning:
        """Encode no prompt: see `FlowModel.unconditional`."""
        raise NotImplementedError

    def encode_pixels(self, images_B3HW: Tensor) -> Tensor:
        """Encode images: see `FlowModel.encode_pixels`."""
        raise NotImplementedError

    def pixel_encoder(self) -> Self:
        """A copy that encodes pixels and nothing else, light enough to be sent to another process."""
        other = copy.copy(self)
        other.__dict__ = {name: value for name, value in vars(self).items() if name in ENCODES}
        return other

    def decode(self, x_BSC: Tensor) -> Tensor:
        """Decode latents: see `FlowModel.decode`."""
        raise NotImplementedError

    def velocity(self, x_BSC: Tensor, sigma_B: Tensor, cond: Conditioning) -> Tensor:
        """Ask the network: see `FlowModel.velocity`."""
        raise NotImplementedError

    def guided(self, x_BSC: Tensor, sigma_B: Tensor, cond: Conditioning, uncond: Conditioning, scale: float) -> Tensor:
        """Ask for the prompt and for none in one batch, and combine both answers: see `FlowModel.guided`."""
        if scale == 1.0:
            return self.velocity(x_BSC, sigma_B, cond)
        B = x_BSC.shape[0]
        both = self.velocity(torch.cat([x_BSC, x_BSC]), sigma_B.repeat(2), Conditioning.stack([cond, uncond]))
        return self.combine(both[:B], both[B:], scale, cond)

    def combine(self, v_cond: Tensor, v_uncond: Tensor, scale: float, cond: Conditioning) -> Tensor:
        """Combine two answers to a guided one, rescaled token by token as Qwen-Image's pipeline does."""
        return flow.guided(v_cond, v_uncond, scale)

    def levels(self, sampler: Sampler) -> list[float]:
        """Return the noise levels that the sampler asks for: see `FlowModel.levels`."""
        return sampler.levels()

    def shift(self, tokens: int) -> float:
        """Return how far the schedule moves a noise level's logit: Qwen-Image's line, which our presets share."""
        return flow.dynamic_mu(tokens)

    def noise(self, size: int, generator: torch.Generator) -> Tensor:
        """Draw standard normal latents [size, S, C]: on the CPU, so that a seed is the same noise on every device."""
        shape = (size, self.grid[0] * self.grid[1], self.channels)
        return torch.randn(shape, generator=generator).to(self.device)

    def sized(self, image: tuple[int, int]) -> Self:
        """Return the same model, same weights, for images of another (height, width)."""
        raise NotImplementedError

    def sized_for_run(self, image: tuple[int, int]) -> Self:
        """Return `sized`, with condition images no larger than what is made."""
        return self.sized(image)

    def recompute(self, on: bool) -> None:
        """Keep only what enters each block and compute the rest again in the backward pass, or stop doing so."""
        raise NotImplementedError

    def hollow_network(self) -> nn.Module:
        """Build the network without adapters and without values, on the meta device."""
        raise NotImplementedError

    def read_images(self, readers: Readers) -> ConditionImages:
        """Return what condition images are read from: see `FlowModel.read_images`."""
        return ReadWhenIndexed(readers, self.fit_images) if any(readers) else ()

    def fit_images(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Scale condition images down to the area of what is made, in whole tokens."""
        return [fitted(image, self.picture, self.side) for image in images]

    def encode_ahead(self, texts: Sequence[str], images: ConditionImages = ()) -> None:
        """Encode prompts into the run's cache before they are needed; nothing where encoding costs nothing."""

    def release_encoders(self) -> None:
        """Let the text encoders go: from now on every prompt must be in the cache."""

    def compile_blocks(self) -> None:
        """Compile the network's blocks with torch.compile."""
        for beginning in block_lists(self.network):
            for block in self.network.get_submodule(beginning[:-1]):
                block.compile()

    def freeze_reference(self) -> None:
        """Keep the network as it is now; `reference` returns to it.

        With a new adapter that is the base, and needs no copy; of an adapter that has learned, it alone is copied.
        """
        if has_adapter(self.network):
            if any(value.any() for name, value in adapter_weights(self.network).items() if ".lora_B." in name):
                keep_adapter(self.network)
            return
        self._frozen = copy.deepcopy(self.network).eval().requires_grad_(False)

    def match_reference(self) -> None:
        """Give a frozen copy the types that an engine gave the network.

        With others it would differ from what learns by rounding alone, already before the first update.
        """
        if self._frozen is None or has_adapter(self.network):
            return
        types = {name: x.dtype for name, x in (*self.network.named_parameters(), *self.network.named_buffers())}
        for name, x in (*self._frozen.named_parameters(), *self._frozen.named_buffers()):
            x.data = x.data.to(types[name])

    @contextlib.contextmanager
    def reference(self) -> Iterator[Self]:
        """Inside, `velocity` is the frozen copy's, or the network's with its adapter as it was, or without.

        Raises ValueError when there is no adapter and `freeze_reference` was never called.
        """
        if has_adapter(self.network):
            with (
                with_reference_adapter(self.network)
                if has_reference_adapter(self.network)
                else adapter_off(self.network)
            ):
                yield self
            return
        if self._frozen is None:
            raise ValueError("no reference was frozen: call freeze_reference() before alignment begins")
        learning, self.trainable = self.trainable, self._frozen
        try:
            yield self
        finally:
            self.trainable = learning
