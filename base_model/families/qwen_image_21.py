"""Qwen-Image 2.1: text and latents in one stream, no patches, Qwen3-VL before its last norm, an autoencoder of RGBA.

The network gives one layout to all samples of a call, and an image's position is behind the text's padding. So samples
are asked in groups of equal text length: an answer must not depend on other prompts. Ranks that share weights (ZeRO 3)
must make as many calls, and are refused. Instructions with condition images are not taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from base_model.families.family import OneFrame, Pipe, Row, dynamic_mu, one_grid
from base_model.interface import ConditionImages, Conditioning, Grid
from base_model.qwen.text_processor import text_processor
from base_model.qwen.tokens import unpatchify
from base_model.sample import Sampler


class QwenImage21(OneFrame):
    """Says what is particular to `QwenImage21Pipeline`."""

    pipeline = "QwenImage21Pipeline"
    nothing = " "
    patch = 1
    sampler = Sampler(steps=40, guidance=1.0)
    longest_text, text_width = 512, "context_in_dim"
    reads_padding = False
    calls_depend_on_prompts = True
    lora_targets = ("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.sigmas: list[float] = self.index.get("sample_sigmas") or []
        if self.sigmas:
            self.sampler = Sampler(len(self.sigmas), self.sampler.guidance)

    def parts(self) -> dict[str, Any]:
        return {"processor": text_processor(self.folder / "processor")}

    def encode(self, pipe: Pipe, texts: Sequence[str], images: ConditionImages = ()) -> list[Row]:
        text, mask, _ = pipe._get_qwen_prompt_embeds(list(texts))
        return [{"text": row[: int(real.sum())]} for row, real in zip(text, mask, strict=True)]

    def velocity(self, network: nn.Module, x_BSC: Tensor, sigma_B: Tensor, cond: Conditioning) -> Tensor:
        rows, columns = one_grid(cond)
        B, L = cond.mask_BL.shape
        is_image = torch.arange(L + rows * columns // 4, device=x_BSC.device) >= L
        v = network(
            hidden_states=x_BSC, timestep=sigma_B, img_shapes=[[(1, rows, columns)]] * B,
            encoder_hidden_states=cond.text_BLD, img_mask=is_image.expand(B, -1), return_dict=False,
        )[0]  # fmt: skip
        return v[:, -rows * columns :]

    @property
    def factor(self) -> int:
        return 16  # the pipeline's own, whatever the autoencoder says

    @property
    def multiple(self) -> int:
        return 2 * self.factor  # four tokens stand in for one of the encoder's

    @property
    def channels(self) -> int:
        return int(self.vae_config["z_dim"])

    def set_levels(self, scheduler: Any, steps: int, tokens: int) -> None:
        sigmas = self.sigmas if len(self.sigmas) == steps else np.linspace(1.0, 1.0 / steps, steps)
        scheduler.set_timesteps(sigmas=sigmas, mu=dynamic_mu(scheduler, tokens))

    def posterior(self, vae: Any, images_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        return super().posterior(vae, torch.cat([images_B3HW, torch.ones_like(images_B3HW[:, :1])], 1))

    def pixels(self, vae: Any, x_BSC: Tensor, grid: Grid) -> Tensor:
        latent = self.raw(vae, unpatchify(x_BSC, grid, self.patch))
        rgb, alpha = vae.decode(latent.unsqueeze(2), return_dict=False)[0][:, :, 0].split((3, 1), 1)
        return 1.0 + (rgb - 1.0) * (alpha + 1.0) / 2.0  # over white
