"""FLUX.2 dev and klein: three layers of a language model side by side, a batch norm's statistics as the scale of
latents, condition images behind the image to be made, on frames 10, 20, ...

dev reads its guidance as a number (`guidance_embeds` of the network's config.json); klein answers twice, or, where
`is_distilled` in model_index.json is true, once. Padding is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from base_model.families.family import Family, Pipe, Row, one_grid, one_layout, positions
from base_model.interface import ConditionImages, Conditioning, Grid
from base_model.lora import ATTENTION
from base_model.qwen.tokens import patchify, unpatchify
from base_model.sample import Sampler


class Flux2(Family):
    """Says what is particular to `Flux2Pipeline`, whose language model is Mistral."""

    pipeline = "Flux2Pipeline"
    sampler = Sampler(steps=50, guidance=4.0)
    lora_targets = (*ATTENTION, "attn.to_qkv_mlp_proj", "attn.to_out")
    longest_text = 512
    most_images = 10
    layers = (10, 20, 30)
    """of the language model, whose states are read"""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        if self.network_config.get("guidance_embeds", True):
            self.guidance_embedded = self.sampler.guidance
        if self.index.get("is_distilled", False):
            self.is_distilled, self.sampler = True, self.distilled_sampler

    def encode(self, pipe: Pipe, texts: Sequence[str], images: ConditionImages = ()) -> list[Row]:
        text, _ = pipe.encode_prompt(list(texts), text_encoder_out_layers=self.layers)
        return [{"text": row} for row in text]

    def velocity(self, network: nn.Module, x_BSC: Tensor, sigma_B: Tensor, cond: Conditioning) -> Tensor:
        indices, latents = [positions(*one_grid(cond), axes=4)], x_BSC
        if cond.images_BRC is not None:
            grids = enumerate(one_layout(cond), 1)
            indices += [positions(*grid, first=10 * number, axes=4) for number, grid in grids]
            latents = torch.cat([x_BSC, cond.images_BRC.to(x_BSC.dtype)], 1)
        text = torch.zeros(cond.text_BLD.shape[1], 4)
        text[:, 3] = torch.arange(len(text))
        v = network(
            hidden_states=latents, timestep=sigma_B, guidance=cond.more_B.get("scale"),
            encoder_hidden_states=cond.text_BLD, txt_ids=text.to(x_BSC.device),
            img_ids=torch.cat(indices).to(x_BSC.device), return_dict=False,
        )[0]  # fmt: skip
        return v[:, : x_BSC.shape[1]]

    def set_levels(self, scheduler: Any, steps: int, tokens: int) -> None:
        from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu

        scheduler.set_timesteps(sigmas=np.linspace(1.0, 1.0 / steps, steps), mu=compute_empirical_mu(tokens, steps))

    def latent_tokens(self, vae: Any, latent_BChw: Tensor) -> Tensor:
        mean, std = statistics(vae)
        return (patchify(latent_BChw) - mean) / std

    def pixels(self, vae: Any, x_BSC: Tensor, grid: Grid) -> Tensor:
        mean, std = statistics(vae)
        return vae.decode(unpatchify(x_BSC * std + mean, grid), return_dict=False)[0]


class Flux2Klein(Flux2):
    """Says what is particular to `Flux2KleinPipeline`, whose language model is Qwen3."""

    pipeline = "Flux2KleinPipeline"
    most_images = 4
    layers = (9, 18, 27)

    def combine(self, v_cond: Tensor, v_uncond: Tensor, scale: float, cond: Conditioning) -> Tensor:
        return v_cond if self.is_distilled else super().combine(v_cond, v_uncond, scale, cond)


def statistics(vae: Any) -> tuple[Tensor, Tensor]:
    """Return mean and spread of a token's channels."""
    return vae.bn.running_mean, (vae.bn.running_var + vae.config.batch_norm_eps).sqrt()
