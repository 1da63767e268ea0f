"""FLUX.1 dev, schnell and Kontext: T5's tokens, pooled CLIP, packed latents, guidance embedded as a number.

schnell has dev's pipeline and reads no guidance: `guidance_embeds` of the network's config.json says which one it is.
Kontext takes one condition image, whose tokens follow those of the image to be made, on frame 1. Padding is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from base_model.families.family import Family, Pipe, Row, one_grid, one_layout, positions
from base_model.interface import ConditionImages, Conditioning
from base_model.sample import Sampler


class Flux1(Family):
    """Says what is particular to `FluxPipeline`."""

    pipeline = "FluxPipeline"
    sampler = Sampler(steps=28, guidance=3.5)
    longest_text = 512

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        if self.network_config["guidance_embeds"]:
            self.guidance_embedded = self.sampler.guidance
        else:
            self.is_distilled, self.sampler = True, self.distilled_sampler

    def encode(self, pipe: Pipe, texts: Sequence[str], images: ConditionImages = ()) -> list[Row]:
        text, pooled, _ = pipe.encode_prompt(list(texts), None)
        return [{"text": a, "pooled": b} for a, b in zip(text, pooled, strict=True)]

    def velocity(self, network: nn.Module, x_BSC: Tensor, sigma_B: Tensor, cond: Conditioning) -> Tensor:
        indices, latents = [positions(*one_grid(cond))], x_BSC
        if cond.images_BRC is not None:
            indices += [positions(*grid, first=1) for grid in one_layout(cond)]
            latents = torch.cat([x_BSC, cond.images_BRC.to(x_BSC.dtype)], 1)
        v = network(
            hidden_states=latents, timestep=sigma_B, guidance=cond.more_B.get("scale"),
            encoder_hidden_states=cond.text_BLD, pooled_projections=cond.more_B["pooled"],
            txt_ids=x_BSC.new_zeros(cond.text_BLD.shape[1], 3), img_ids=torch.cat(indices).to(x_BSC), return_dict=False,
        )[0]  # fmt: skip
        return v[:, : x_BSC.shape[1]]

    def hollow_row(self, tokens: int = 0) -> Row:
        pooled = torch.empty(self.network_config["pooled_projection_dim"], device="meta")
        return {**super().hollow_row(tokens), "pooled": pooled}


class Flux1Kontext(Flux1):
    """Says what is particular to `FluxKontextPipeline`."""

    pipeline = "FluxKontextPipeline"
    sampler = Sampler(steps=28, guidance=2.5)
    most_images = 1
