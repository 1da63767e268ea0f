"""Stable Diffusion 3 and 3.5 (arXiv:2403.03206): two CLIPs and T5 one behind the other, pooled CLIP, fixed shift.

Without T5 (`text_encoder_3` null in model_index.json) diffusers puts zeros in its stead, as in training's dropout.
Padding is read: there is no mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from base_model.families.family import Family, Pipe, Row
from base_model.interface import ConditionImages, Conditioning
from base_model.sample import Sampler


class StableDiffusion3(Family):
    """Says what is particular to `StableDiffusion3Pipeline`."""

    pipeline = "StableDiffusion3Pipeline"
    sampler = Sampler(steps=28, guidance=4.5)
    longest_text = 77 + 256  # of CLIP and of T5
    dead = ("attn.add_q_proj", "attn.norm_added_q")

    def encode(self, pipe: Pipe, texts: Sequence[str], images: ConditionImages = ()) -> list[Row]:
        text, _, pooled, _ = pipe.encode_prompt(list(texts), None, None, do_classifier_free_guidance=False)
        return [{"text": a, "pooled": b} for a, b in zip(text, pooled, strict=True)]

    def velocity(self, network: nn.Module, x_BSC: Tensor, sigma_B: Tensor, cond: Conditioning) -> Tensor:
        v = network(
            hidden_states=self.latent_image(x_BSC, cond), timestep=1000.0 * sigma_B,
            encoder_hidden_states=cond.text_BLD, pooled_projections=cond.more_B["pooled"], return_dict=False,
        )[0]  # fmt: skip
        return self.tokens(v)

    def hollow_row(self, tokens: int = 0) -> Row:
        pooled = torch.empty(self.network_config["pooled_projection_dim"], device="meta")
        return {**super().hollow_row(tokens), "pooled": pooled}

    def set_levels(self, scheduler: Any, steps: int, tokens: int) -> None:
        scheduler.set_timesteps(steps)  # not uniform: the scheduler shifts its own range, which is shifted already
