"""Wan 2.1 and 2.2 5B (arXiv:2503.20314) as image models: one frame, UMT5 cut at its real length and filled with zeros,
which the network reads.

Released pipelines sample with UniPC; here its levels are followed by Euler steps, which have a density.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from base_model.families.family import OneFrame, Pipe, Row, scheduled_levels
from base_model.interface import ConditionImages, Conditioning, Grid
from base_model.qwen.tokens import unpatchify
from base_model.sample import Sampler


class Wan(OneFrame):
    """Says what is particular to `WanPipeline`. Raises ValueError for a checkpoint that has two networks."""

    pipeline = "WanPipeline"
    sampler = Sampler(steps=50, guidance=5.0)
    longest_text, text_width = 512, "text_dim"
    lora_targets = tuple(f"attn{i}.to_{part}" for i in (1, 2) for part in ("q", "k", "v", "out.0"))

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        if (self.index.get("transformer_2") or [None])[0]:
            raise ValueError(
                f"{folder} has two networks, one for noisy and one for clean images (transformer_2 in "
                "model_index.json), and training takes one: use Wan 2.1 or Wan 2.2 5B"
            )

    def encode(self, pipe: Pipe, texts: Sequence[str], images: ConditionImages = ()) -> list[Row]:
        text, _ = pipe.encode_prompt(list(texts), do_classifier_free_guidance=False, max_sequence_length=512)
        return [{"text": row} for row in text]

    def velocity(self, network: nn.Module, x_BSC: Tensor, sigma_B: Tensor, cond: Conditioning) -> Tensor:
        time = 1000.0 * sigma_B
        if self.index.get("expand_timesteps", False):
            time = time[:, None].expand(x_BSC.shape[:2])
        v = network(
            hidden_states=self.latent_image(x_BSC, cond).unsqueeze(2), timestep=time,
            encoder_hidden_states=cond.text_BLD, return_dict=False,
        )[0]  # fmt: skip
        return self.tokens(v[:, :, 0])

    @property
    def factor(self) -> int:
        return int(self.vae_config.get("scale_factor_spatial", 8))

    @property
    def channels(self) -> int:
        return int(self.vae_config["z_dim"]) * self.patch**2

    def set_levels(self, scheduler: Any, steps: int, tokens: int) -> None:
        scheduled_levels(scheduler, steps)

    def pixels(self, vae: Any, x_BSC: Tensor, grid: Grid) -> Tensor:
        latent = self.raw(vae, unpatchify(x_BSC, grid, self.patch))
        return vae.decode(latent.unsqueeze(2), return_dict=False)[0][:, :, 0]
