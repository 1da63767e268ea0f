"""Z-Image and Z-Image-Turbo: Qwen3's last layer but one, ragged text, time runs backwards and so does the velocity.

The pipeline's guidance is 0 for none and ours is 1, so that ours is the pipeline's plus 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from base_model.families.family import Family, Pipe, Row
from base_model.interface import ConditionImages, Conditioning
from base_model.sample import Sampler


class ZImage(Family):
    """Says what is particular to `ZImagePipeline`."""

    pipeline = "ZImagePipeline"
    sampler = Sampler(steps=50, guidance=5.0)
    distilled_sampler = Sampler(steps=8, guidance=1.0)
    longest_text, text_width = 512, "cap_feat_dim"
    reads_padding = False
    lora_targets = ("attention.to_q", "attention.to_k", "attention.to_v", "attention.to_out.0")

    def encode(self, pipe: Pipe, texts: Sequence[str], images: ConditionImages = ()) -> list[Row]:
        rows, _ = pipe.encode_prompt(list(texts), do_classifier_free_guidance=False)
        return [{"text": row} for row in rows]

    def velocity(self, network: nn.Module, x_BSC: Tensor, sigma_B: Tensor, cond: Conditioning) -> Tensor:
        images = list(self.latent_image(x_BSC, cond).unsqueeze(2))
        lengths = cond.lengths or cond.mask_BL.sum(1).tolist()
        texts = [row[:length] for row, length in zip(cond.text_BLD, lengths, strict=True)]
        v = network(images, 1.0 - sigma_B, texts, return_dict=False)[0]
        return -self.tokens(torch.stack(list(v)).squeeze(2))
