"""What it costs to prepare the images and captions of the 20-billion model beside its training, by resolution.

FLOPs are counted on the meta device, where nothing is computed: the network's forward and backward pass without
recomputation, the autoencoder's encoder, and the 7-billion language model that reads captions, each for one image. How
much of a card's peak each reaches is assumed (`SHARES`), so ratios are estimates and FLOPs are not.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from base_model.lora import Lora
from base_model.qwen.presets import PRESETS, VAES
from base_model.qwen.vae import QwenImageVAE
from experiments.planning.dry_run import Pass, footprint

SIDES = (256, 512, 640, 1024, 1328)
"""height and width in pixels"""
TEXTS = (100, 300, 512)
"""tokens of a caption; the network is counted with the second"""
TEMPLATE = 34
"""tokens of the question before it, which the language model reads as well"""
SHARES = {"network": 0.45, "language": 0.45, "autoencoder": 0.20}
"""of a card's peak, assumed"""
LANGUAGE = {"vocab_size": 8, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
            "num_attention_heads": 28, "num_key_value_heads": 4}  # fmt: skip
"""of Qwen2.5-VL-7B's language model, without its vocabulary, which is looked up and not multiplied"""


def training(side: int, text: int) -> float:
    """FLOPs of a forward and backward pass of the network for one image."""
    cfg, vae = PRESETS["qwen_image"], VAES["qwen_image"]
    tokens = side // (vae.factor * cfg.patch_size)
    need = footprint(cfg, Lora(), Pass(1, (tokens, tokens), text), True)
    return need.forward + need.backward


def autoencoder(side: int) -> float:
    """FLOPs of encoding one image."""
    with torch.device("meta"):
        vae, image = QwenImageVAE(VAES["qwen_image"]), torch.empty(1, 3, side, side)
        with FlopCounterMode(display=False) as counted, torch.no_grad():
            vae.encode(image)
    return float(counted.get_total_flops())


def language(tokens: int) -> float:
    """FLOPs of reading a caption of so many tokens behind the question."""
    tokens += TEMPLATE
    from transformers import Qwen2Config, Qwen2Model

    with torch.device("meta"):
        model = Qwen2Model(Qwen2Config(**LANGUAGE, attn_implementation="sdpa")).eval()
        with FlopCounterMode(display=False) as counted, torch.no_grad():
            text, mask = torch.empty(1, tokens, LANGUAGE["hidden_size"]), {"full_attention": None}
            model(inputs_embeds=text, position_ids=torch.arange(tokens)[None], attention_mask=mask, use_cache=False)
    return float(counted.get_total_flops())


def table() -> list[dict[str, Any]]:
    """A row for each resolution: 10^12 FLOPs, how much longer a step is that encodes, and megabytes of features."""
    cfg, vae = PRESETS["qwen_image"], VAES["qwen_image"]
    reading = {tokens: language(tokens) for tokens in TEXTS}
    rows = []
    for side in SIDES:
        trained, encoded = training(side, TEXTS[1]), autoencoder(side)
        extra = encoded / SHARES["autoencoder"], reading[TEXTS[1]] / SHARES["language"]
        network = trained / SHARES["network"]
        tokens = (side // (vae.factor * cfg.patch_size)) ** 2
        rows.append({
            "side": side, "train_tflop": round(trained / 1e12, 2), "autoencoder_tflop": round(encoded / 1e12, 3),
            **{f"caption_{tokens}_tflop": round(flops / 1e12, 2) for tokens, flops in reading.items()},
            "step_with_both": round(1 + sum(extra) / network, 3),
            "step_with_images": round(1 + extra[0] / network, 3),
            "trainers_a_producer": round(network / sum(extra), 1),
            "latent_mb": round(tokens * cfg.in_channels * 2 / 2**20, 3),
            "text_mb": round(TEXTS[1] * cfg.joint_attention_dim * 2 / 2**20, 2),
        })  # fmt: skip
    return rows


def measure() -> dict[str, Any]:
    """The table, printed; its numbers by resolution."""
    rows = table()
    names = list(rows[0])
    print(" | ".join(names))
    for row in rows:
        print(" | ".join(str(row[name]) for name in names), flush=True)
    return {str(row["side"]): {name: row[name] for name in names[1:]} for row in rows}
