"""Lumina-Image 2.0: Gemma's last layer but one, and a system prompt in front of prompts that the empty one does not
have. Time runs backwards, and so does the velocity; a guided velocity keeps the norm of every row of latents.

The network's refiner blocks are never recomputed in the backward pass, whatever is asked of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from base_model.families.family import Family, Pipe, Row, dynamic_mu
from base_model.interface import ConditionImages, Conditioning
from base_model.sample import Sampler


class Lumina2(Family):
    """Says what is particular to `Lumina2Pipeline`."""

    pipeline = "Lumina2Pipeline"
    sampler = Sampler(steps=50, guidance=4.0)
    longest_text, text_width = 256, "cap_feat_dim"
    reads_padding = False
    lora_targets = ("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0")

    def encode(self, pipe: Pipe, texts: Sequence[str], images: ConditionImages = ()) -> list[Row]:
        return self._encode(pipe, [f"{pipe.system_prompt} <Prompt Start> {text}" for text in texts])

    def encode_nothing(self, pipe: Pipe, images: ConditionImages = ()) -> Row:
        return self._encode(pipe, [self.nothing])[0]

    def _encode(self, pipe: Pipe, texts: list[str]) -> list[Row]:
        text, mask = pipe._get_gemma_prompt_embeds(texts)
        return [{"text": row[: int(real.sum())]} for row, real in zip(text, mask, strict=True)]

    def velocity(self, network: nn.Module, x_BSC: Tensor, sigma_B: Tensor, cond: Conditioning) -> Tensor:
        v = network(
            hidden_states=self.latent_image(x_BSC, cond), timestep=1.0 - sigma_B,
            encoder_hidden_states=cond.text_BLD, encoder_attention_mask=cond.mask_BL, return_dict=False,
        )[0]  # fmt: skip
        return -self.tokens(v)

    def combine(self, v_cond: Tensor, v_uncond: Tensor, scale: float, cond: Conditioning) -> Tensor:
        prompted, v = (self.latent_image(v, cond) for v in (v_cond, v_uncond + scale * (v_cond - v_uncond)))
        return self.tokens(v * (torch.norm(prompted, dim=-1, keepdim=True) / torch.norm(v, dim=-1, keepdim=True)))

    def set_levels(self, scheduler: Any, steps: int, tokens: int) -> None:
        # diffusers hands over the channels where tokens are meant, so that the shift is the same for all sizes
        mu = dynamic_mu(scheduler, self.channels // self.patch**2)
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 1.0 / steps, steps), mu=mu)
