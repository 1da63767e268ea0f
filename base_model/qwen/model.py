"""The `FlowModel` made of the MMDiT, the autoencoder and a text encoder."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Protocol, Self

import torch
from torch import Tensor, nn

from base_model.generate import at_once
from base_model.interface import ConditionImages, Conditioning, Grid, padded_together
from base_model.policy_model import PolicyModel
from base_model.qwen.coarse_encoder import CoarseEncoder
from base_model.qwen.mmdit import MMDiT, MMDiTConfig
from base_model.qwen.tokens import patchify, unpatchify
from base_model.qwen.vae import QwenImageVAE
from base_model.sample import Sampler

MOST = 1024
"""images that the autoencoder sees at once at most, however small they are"""


class TextEncoder(Protocol):
    """Frozen; turns prompts, and what it sees in the images that they are about, into vectors."""

    nothing: str
    """the prompt that says nothing"""

    def encode(self, texts: Sequence[str], images: ConditionImages = ()) -> tuple[Tensor, Tensor]:
        """(text_BLD, mask_BL bool), right-padded with zeros."""
        ...

    def check(self, text: str, images: int = 0) -> None:
        """Raises ValueError for a prompt, with so many images, that `encode` would refuse."""
        ...

    def fitted(self, images: ConditionImages) -> ConditionImages:
        """Condition images in the sizes that the autoencoder should see them in."""
        ...


class QwenImage(PolicyModel):
    """Text, and images, to image. `picture` is the (height, width) in pixels of what is made.

    Raises ValueError when the image does not divide into latent tokens or the network's widths do not fit.
    """

    sampler = Sampler(steps=10, guidance=2.0)

    def __init__(
        self,
        network: MMDiT,
        vae: QwenImageVAE,
        image: tuple[int, int],
        device: str = "cpu",
        text: TextEncoder | None = None,
    ) -> None:
        """`text` is the byte-level encoder with its coarse sight when not given."""
        cfg = network.cfg
        self.side = vae.cfg.factor * cfg.patch_size
        """pixels that a latent token covers on each side"""
        self.grid = token_grid(image, self.side)
        if cfg.in_channels != vae.cfg.z_dim * cfg.patch_size**2:
            raise ValueError(
                f"the network reads tokens of {cfg.in_channels} channels, the autoencoder makes "
                f"{vae.cfg.z_dim} x {cfg.patch_size}^2 = {vae.cfg.z_dim * cfg.patch_size**2}"
            )
        self.trainable: nn.Module = network.to(device)
        self.vae = vae.to(device).eval().requires_grad_(False)
        self.device = torch.device(device)
        self.channels = cfg.in_channels
        self.network, self.picture = network, image
        self.native = image
        """size of what the model is for, which its folder tells; `picture` may be another"""
        self.text: TextEncoder = text or CoarseEncoder(self.vae)

    def check_text(self, text: str, images: int = 0) -> None:
        """See `PolicyModel.check_text`."""
        self.text.check(text, images)

    def encode_text(self, texts: Sequence[str], images: ConditionImages = ()) -> Conditioning:
        text, mask = self.text.encode(texts, images)
        grids, shown = (self.grid,) * len(texts), self.encode_images(self.text.fitted(images))
        lengths = tuple(mask.sum(1).tolist())  # asked once here, and not in every pass
        return Conditioning(text.to(self.device), mask.to(self.device), grids, *shown, lengths)

    def unconditional(self, size: int, images: ConditionImages = ()) -> Conditioning:
        return self.encode_text([self.text.nothing] * size, images)

    def sized(self, image: tuple[int, int]) -> Self:
        """The same model, same weights, for images of another (height, width)."""
        other = copy.copy(self)
        other.picture, other.grid = image, token_grid(image, self.side)
        return other

    def encode_images(self, images: ConditionImages) -> tuple[Tensor | None, tuple[tuple[Grid, ...], ...]]:
        """`Conditioning.images_BRC` and `.image_grids`: every image in its own size."""
        if not any(images):
            return None, ()
        grids = tuple(tuple(token_grid((p.shape[1], p.shape[2]), self.side) for p in own) for own in images)
        flat = [image for own in images for image in own]
        encoded: dict[int, Tensor] = {}
        for shape in dict.fromkeys(image.shape for image in flat):  # those of one size together
            chosen = [i for i, image in enumerate(flat) if image.shape == shape]
            tokens = self.encode_pixels(torch.stack([flat[i] for i in chosen]))
            encoded |= zip(chosen, tokens.split(1), strict=True)
        empty, in_order = torch.zeros(1, 0, self.channels, device=self.device), iter(range(len(flat)))
        rows = [torch.cat([empty, *(encoded[next(in_order)] for _ in own)], 1) for own in images]
        return padded_together(rows), grids

    @torch.no_grad()
    def encode_pixels(self, images_B3HW: Tensor) -> Tensor:
        batch = images_B3HW.split(at_once(images_B3HW.shape[2] * images_B3HW.shape[3] // self.side**2 or 1, MOST))
        return torch.cat([patchify(self.vae.encode(part.to(self.device) * 2.0 - 1.0)) for part in batch])

    @torch.no_grad()
    def decode(self, x_BSC: Tensor) -> Tensor:
        batch = x_BSC.split(at_once(x_BSC.shape[1], MOST))
        return torch.cat([self.vae.decode(unpatchify(part, self.grid)) * 0.5 + 0.5 for part in batch])

    def velocity(self, x_BSC: Tensor, sigma_B: Tensor, cond: Conditioning) -> Tensor:
        return self.trainable(
            x_BSC, sigma_B, cond.text_BLD, cond.mask_BL, cond.grids, cond.images_BRC, cond.image_grids, cond.lengths
        )

    def recompute(self, on: bool) -> None:
        self.network.recompute = on

    def hollow_network(self) -> MMDiT:
        with torch.device("meta"):
            return MMDiT(self.network.cfg)


def token_grid(image: tuple[int, int], side: int) -> Grid:
    """Rows and columns of tokens of a (height, width). Raises ValueError when it does not divide into tokens."""
    require_multiple(image, side)
    return image[0] // side, image[1] // side


def require_multiple(image: tuple[int, int], side: int) -> None:
    """Raises ValueError, naming the nearest sizes, for an image that does not divide into squares of `side` pixels."""
    if not (image[0] % side or image[1] % side) and min(image) > 0:
        return
    smaller, larger = ([max(side, (x + more) // side * side) for x in image] for more in (0, side - 1))
    nearest = dict.fromkeys(f"{height} x {width}" for height, width in (smaller, larger))
    raise ValueError(
        f"an image of {image[0]}x{image[1]} does not divide into tokens of {side} pixels a side; the nearest sizes are "
        + " and ".join(nearest)
    )


def build(cfg: MMDiTConfig, vae: QwenImageVAE, image: tuple[int, int], seed: int, device: str = "cpu") -> QwenImage:
    """A model with freshly drawn weights, the same for the same seed."""
    return QwenImage(fresh_network(cfg, seed), vae, image, device)


def fresh_network(cfg: MMDiTConfig, seed: int) -> MMDiT:
    """Freshly drawn weights, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MMDiT(cfg)
