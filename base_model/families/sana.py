"""Sana (arXiv:2410.10629): linear attention over tokens of 32 x 32 pixels, Gemma, and an instruction in front of every
prompt, which the empty prompt of guidance does not have.

Released pipelines sample with DPM-Solver; here its levels are followed by Euler steps, which have a density.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from base_model.families.family import Family, Pipe, Row, scheduled_levels
from base_model.interface import ConditionImages, Conditioning
from base_model.sample import Sampler


class Sana(Family):
    """Says what is particular to `SanaPipeline`."""

    pipeline = "SanaPipeline"
    patch = 1
    sampler = Sampler(steps=20, guidance=4.5)
    longest_text, text_width = 300, "caption_channels"
    reads_padding = False
    has_posterior = False
    lora_targets = tuple(f"attn{i}.to_{part}" for i in (1, 2) for part in ("q", "k", "v", "out.0"))

    def encode(self, pipe: Pipe, texts: Sequence[str], images: ConditionImages = ()) -> list[Row]:
        instruction = inspect.signature(type(pipe).__call__).parameters["complex_human_instruction"].default
        return self._encode(pipe, list(texts), instruction)

    def encode_nothing(self, pipe: Pipe, images: ConditionImages = ()) -> Row:
        return self._encode(pipe, [self.nothing], None)[0]

    def _encode(self, pipe: Pipe, texts: list[str], instruction: list[str] | None) -> list[Row]:
        text, mask, _, _ = pipe.encode_prompt(texts, False, complex_human_instruction=instruction)
        return [{"text": row[: int(real.sum())]} for row, real in zip(text, mask, strict=True)]

    def velocity(self, network: nn.Module, x_BSC: Tensor, sigma_B: Tensor, cond: Conditioning) -> Tensor:
        scale = 1000.0 * self.network_config.get("timestep_scale", 1.0)
        v = network(
            hidden_states=self.latent_image(x_BSC, cond), timestep=scale * sigma_B,
            encoder_hidden_states=cond.text_BLD, encoder_attention_mask=cond.mask_BL.int(), return_dict=False,
        )[0]  # fmt: skip
        return self.tokens(v)

    @property
    def factor(self) -> int:
        return int(2 ** (len(self.vae_config["encoder_block_out_channels"]) - 1))

    def set_levels(self, scheduler: Any, steps: int, tokens: int) -> None:
        scheduled_levels(scheduler, steps)

    def posterior(self, vae: Any, images_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        latent = vae.encode(images_B3HW).latent
        return latent, torch.full_like(latent, -30.0)

    def normal(self, vae: Any, latent_BChw: Tensor) -> Tensor:
        return latent_BChw * vae.config.scaling_factor

    def raw(self, vae: Any, latent_BChw: Tensor) -> Tensor:
        return latent_BChw / vae.config.scaling_factor
