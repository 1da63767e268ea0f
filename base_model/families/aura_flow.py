"""AuraFlow: T5's tokens, zeros where there is padding, which the network reads; time from 0 to 1, fixed shift."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from base_model.families.family import Family, Pipe, Row
from base_model.interface import ConditionImages, Conditioning
from base_model.sample import Sampler


class AuraFlow(Family):
    """Says what is particular to `AuraFlowPipeline`."""

    pipeline = "AuraFlowPipeline"
    sampler = Sampler(steps=50, guidance=3.5)
    longest_text = 256

    def encode(self, pipe: Pipe, texts: Sequence[str], images: ConditionImages = ()) -> list[Row]:
        text, *_ = pipe.encode_prompt(list(texts), do_classifier_free_guidance=False)
        return [{"text": row} for row in text]

    def velocity(self, network: nn.Module, x_BSC: Tensor, sigma_B: Tensor, cond: Conditioning) -> Tensor:
        v = network(
            hidden_states=self.latent_image(x_BSC, cond), timestep=sigma_B.to(x_BSC.dtype),
            encoder_hidden_states=cond.text_BLD, return_dict=False,
        )[0]  # fmt: skip
        return self.tokens(v)

    def set_levels(self, scheduler: Any, steps: int, tokens: int) -> None:
        scheduler.set_timesteps(steps)

    @property
    def longest_side(self) -> int:
        return math.isqrt(self.network_config["pos_embed_max_size"])  # it counts both sides' positions
