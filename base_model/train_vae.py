"""Training the autoencoder: reconstruction and edges, no adversary.

    (V1)  x^ = D(z),  z = mean + std * noise,  (mean, std) = E(x)
    (V2)  L_rec  = mean |x^ - x|                                   on the *unclamped* decoder output
    (V3)  L_edge = sum_j mean |Lap_j(x^) - Lap_j(x)|           Laplacian pyramid, Bojanowski et al., arXiv:1707.05776
    (V4)  L_kl   = 1/2 mean (mean^2 + std^2 - 1 - log std^2)       Kingma & Welling, arXiv:1312.6114
    (V5)  L = L_rec + edge_s * L_edge + square * L_sq + kl * L_kl
    (V6)  edge_s: from `edge` at the first update in a straight line to `edge_end` at the last
    (V7)  x^ - x  <-  (x^ - x) w,  w ~ (range of lightness in x)^-contrast, of mean 1 over the batch      in V2, V3, V8
    (V8)  L_sq   = mean (x^ - x)^2

The perceptual-style term is the Laplacian pyramid, not a pretrained network: what a reader loses first in a blurred
letter is its edges, and the pyramid's fine bands are those edges, while a network trained on photographs is nearly
blind to ten-pixel letters and would be a download. The ratio of
the two is a schedule (V6), as in Qwen-Image, which publishes no numbers: means first, edges later, or the other way.
There is no discriminator: Qwen-Image (arXiv:2508.02324, section
2.3) found its signal useless once reconstruction is good. Whether a reader knows a letter depends on errors relative to
the contrast of ink and ground, which (V7) divides by.

With `frozen_encoder` only the decoder learns, which is how the released image decoder was made from a video
autoencoder: latents stay what the diffusion model knows, and small text becomes sharper. The autoencoder is ours, or
that of a released checkpoint of another family.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from base_model.engine.bounds import require_at_least
from base_model.engine.engine import Engine
from base_model.engine.step import Step
from base_model.files.family_vae import FamilyVae
from base_model.qwen.vae import QwenImageVAE
from base_model.seeding import generator

LUMA = (0.299, 0.587, 0.114)
"""shares of red, green and blue in the lightness of a pixel (ITU-R BT.601)"""
LEAST_CONTRAST = 0.2
"""of [-1, 1]: what is left of an image with less is weighed as if it had so much"""

Autoencoder = QwenImageVAE | FamilyVae


class ImageStream(Protocol):
    """An endless stream of images."""

    def images(self, step: int, size: int, rank: int = 0, ranks: int = 1) -> Tensor:
        """uint8 [size, 3, H, W], a pure function of its arguments."""
        ...


@dataclass(frozen=True)
class TrainVAE:
    """Settings of autoencoder training."""

    learns_from: ClassVar[Literal["images", "pairs", "rollouts"]] = "images"
    trains: ClassVar[Literal["transformer", "autoencoder"]] = "autoencoder"

    steps: int
    """updates"""
    batch: int = 32
    """images an update and rank"""
    edge: float = 1.0
    """weight of the Laplacian pyramid (V3) at the first update"""
    edge_end: float | None = None
    """and at the last (V6); None = as at the first"""
    square: float = 0.0
    """weight of the squared error (V8), which minds a stroke that is missing more than many that are soft"""
    contrast: float = 0.0
    """power of (V7): 0 = errors weigh alike on all images, 1 = by what they are of an image's contrast"""
    kl: float = 1e-3
    """weight of the KL to a unit Gaussian (V4); its noise makes the decoder forgive errors of a generated latent"""
    frozen_encoder: bool = False
    """train the decoder alone, from that of the base, the parent or the project"""
    fine_tune: bool = False
    """train encoder and decoder from there as well, and not from random weights"""
    seed: int = 0
    """of the latent noise"""

    def __post_init__(self) -> None:
        require_at_least(self, 1, "batch")
        for name in ("edge", "edge_end", "square", "contrast", "kl"):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value < math.inf:
                raise ValueError(f"{name}={value} must be at least 0 and finite: it weighs errors")

    def edge_at(self, step: int) -> float:
        """(V6)"""
        if self.edge_end is None:
            return self.edge
        return self.edge + (self.edge_end - self.edge) * min(1.0, step / max(1, self.steps - 1))


def contrast_weights(pixels_B3HW: Tensor, power: float) -> Tensor:
    """(V7): [B, 1, 1, 1], of mean 1 over the batch."""
    low, high = (pixels_B3HW * pixels_B3HW.new_tensor(LUMA).view(3, 1, 1)).sum(1).flatten(1).aminmax(dim=1)
    weight_B = (high - low).clamp(min=LEAST_CONTRAST) ** -power
    return (weight_B / weight_B.mean()).view(-1, 1, 1, 1)


def laplacian(x_B3HW: Tensor, levels: int = 3) -> list[Tensor]:
    """Band-pass pyramid by 2x2 means; the last entry is the low-pass remainder."""
    bands = []
    for _ in range(levels):
        low = F.avg_pool2d(x_B3HW, 2)
        bands.append(x_B3HW - F.interpolate(low, scale_factor=2.0, mode="nearest"))
        x_B3HW = low
    return [*bands, x_B3HW]


def loss(
    vae: torch.nn.Module, pixels: Tensor, noise: Tensor, cfg: TrainVAE, step: int = 0
) -> tuple[Tensor, dict[str, Tensor]]:
    """(V5) for images in [-1, 1]; `vae` is the autoencoder as the engine wraps it."""
    recon, mean, logvar = vae(pixels, noise)  # (V1)
    error = (recon - pixels) * contrast_weights(pixels, cfg.contrast)  # (V7)
    rec = error.abs().mean()  # (V2)
    edge = sum(band.abs().mean() for band in laplacian(error))  # (V3)
    kl = 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).mean()  # (V4)
    mse = (recon.detach().clamp(-1.0, 1.0) - pixels).square().mean() / 4.0
    square = error.square().mean()  # (V8)
    total = rec + cfg.edge_at(step) * edge + cfg.square * square + (0.0 if cfg.frozen_encoder else cfg.kl) * kl  # (V5)
    return total, {"reconstruction": rec, "edge": edge, "square": square, "kl": kl, "psnr": -10.0 * mse.log10()}


def freeze_encoder(vae: Autoencoder) -> None:
    """Leave only the decoder to the optimizer; call it before the engine is made."""
    for part in vae.encoder_parts:
        part.requires_grad_(False)


@torch.no_grad()
def latent_statistics(vae: QwenImageVAE, data: ImageStream, batches: int, size: int) -> tuple[list[float], list[float]]:
    """Per-channel mean and spread of the posterior mode, for `VAEConfig.latents_mean` and `latents_std`."""
    device = next(vae.parameters()).device
    modes = torch.cat([vae.moments(to_signed(data.images(i, size)).to(device))[0].cpu() for i in range(batches)])
    return modes.mean((0, 2, 3)).tolist(), modes.std((0, 2, 3)).tolist()


def standardised(vae: QwenImageVAE, data: ImageStream, batches: int = 32) -> QwenImageVAE:
    """The autoencoder with the scale of its latents measured on batches of 64 images: a new encoder has a new one."""
    mean, std = latent_statistics(vae, data, batches, size=64)
    measured = QwenImageVAE(replace(vae.cfg, latents_mean=tuple(mean), latents_std=tuple(std)))
    measured.load_state_dict(vae.state_dict())
    return measured


def to_signed(images: Tensor) -> Tensor:
    """uint8 pixels to [-1, 1]."""
    return images.float() / 127.5 - 1.0


def train(vae: Autoencoder, engine: Engine, data: ImageStream, cfg: TrainVAE, start: int = 0) -> Iterator[Step]:
    """Yields after every update. `vae` is what `engine.module` wraps."""
    for step in range(start, cfg.steps):
        pixels = to_signed(data.images(step, cfg.batch, engine.rank, engine.world_size)).to(engine.device)
        shape = (cfg.batch, *vae.latent_shape(pixels.shape[2], pixels.shape[3]))
        # A frozen encoder is used through its mode, as the diffusion model will use it.
        noise = torch.zeros(shape) if cfg.frozen_encoder else torch.randn(
            shape, generator=generator(cfg.seed, step, engine.rank, "vae")
        )  # fmt: skip
        metrics = engine.update(
            [(pixels, noise.to(engine.device))],
            lambda m, step=step: loss(engine.module, m[0], m[1], cfg, step),  # type: ignore[misc]
        )
        yield Step(step, metrics)
