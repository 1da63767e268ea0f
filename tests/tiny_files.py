"""Files as HPSv3 and ImageReward release them, of tiny random models, and the same as modules of transformers."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from tests.tiny_judges import scatter
from tests.tiny_vlm import qwen_folder


def hpsv3_files(folder: Path) -> tuple[Path, Any, Any]:
    """A tiny HPSv3: the base model's folder beside one file of all tensors by transformers 4.45's names."""
    from safetensors.torch import save_file
    from transformers import AutoTokenizer, Qwen2VLForConditionalGeneration

    base = qwen_folder(folder / "base", "qwen2_vl")
    model = Qwen2VLForConditionalGeneration.from_pretrained(base)
    model.resize_token_embeddings(len(AutoTokenizer.from_pretrained(base)) + 1)
    scatter(model, seed=5, scale=0.3)
    head = scatter(
        torch.nn.Sequential(
            torch.nn.Linear(32, 1024), torch.nn.ReLU(), torch.nn.Dropout(0.05), torch.nn.Linear(1024, 16),
            torch.nn.ReLU(), torch.nn.Linear(16, 2),
        ), seed=6,
    )  # fmt: skip
    old = {"model.language_model.": "model.", "model.visual.": "visual."}
    state = {}
    for name, tensor in model.state_dict().items():
        for new, before in old.items():
            name = before + name.removeprefix(new) if name.startswith(new) else name
        state[name] = tensor.clone()
    save_file({**state, **{f"rm_head.{n}": t for n, t in head.state_dict().items()}}, folder / "HPSv3.safetensors")
    return base, model.eval(), head


def imagereward_files(folder: Path) -> tuple[Any, Any, Any]:
    """A tiny ImageReward by the authors' names, with a tokenizer of letters; and transformers' modules of it."""
    from transformers import BertTokenizer, BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel

    letters = list("abcdefghijklmnopqrstuvwxyz")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", *letters, *("##" + c for c in letters)]
    BertTokenizer(vocab={word: i for i, word in enumerate(words)}).save_pretrained(folder / "bert")
    vision = BlipVisionModel(
        BlipVisionConfig(hidden_size=128, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
                         image_size=32, patch_size=16, layer_norm_eps=1e-6, hidden_act="gelu")
    )  # fmt: skip
    text = BlipTextModel(
        BlipTextConfig(vocab_size=len(words) + 2, hidden_size=64, encoder_hidden_size=128, intermediate_size=96,
                       num_hidden_layers=2, num_attention_heads=1, max_position_embeddings=40, is_decoder=True),
        add_pooling_layer=False,
    )  # fmt: skip
    sizes = (64, 1024, 128, 64, 16, 1)
    linears = [torch.nn.Linear(a, b) for a, b in pairwise(sizes)]
    head = torch.nn.Sequential(*linears)
    for seed, module in enumerate((vision, text, head)):
        scatter(module, seed=seed, scale=0.15)
    names = {
        "embeddings.class_embedding": "cls_token", "embeddings.position_embedding": "pos_embed",
        "embeddings.patch_embedding": "patch_embed.proj", "encoder.layers": "blocks", "layer_norm": "norm",
        "self_attn.qkv": "attn.qkv", "self_attn.projection": "attn.proj", "post_layernorm": "norm",
    }  # fmt: skip
    state = {}
    for name, tensor in vision.state_dict().items():
        for new, theirs in names.items():
            name = name.replace(new, theirs) if new != "layer_norm" or "post" not in name else name
        state[f"blip.visual_encoder.{name}"] = tensor
    state |= {f"blip.text_encoder.{name}": tensor for name, tensor in text.state_dict().items()}
    state["blip.text_encoder.embeddings.position_ids"] = torch.arange(40)[None]  # as in files of 2023
    for place, linear in zip((0, 2, 4, 6, 7), linears, strict=True):
        state |= {
            f"mlp.layers.{place}.weight": linear.weight.detach(),
            f"mlp.layers.{place}.bias": linear.bias.detach(),
        }
    torch.save(state, folder / "ImageReward.pt")
    return vision, text, head
