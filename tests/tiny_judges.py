"""Tiny random models of the classes that real judges are, written into a folder as their users would have them."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image

SIZES = ((45, 60), (61, 44), (32, 100), (33, 33), (200, 37))  # odd, wide, high, larger and smaller than the models


@cache
def photographs() -> tuple[np.ndarray, ...]:
    """Real pictures, uint8 (H, W, 3), of ``SIZES``: parts of scikit-image's photographs."""
    from skimage import data

    sources = (data.astronaut(), data.chelsea(), data.coffee(), data.rocket(), data.astronaut()[::-1])
    found = []
    for (height, width), source in zip(SIZES, sources, strict=True):
        picture = Image.fromarray(source).resize((width, height), Image.Resampling.LANCZOS)
        found.append(np.asarray(picture))
    return tuple(found)


def as_batch(picture_HW3: np.ndarray) -> np.ndarray:
    """One picture as a scorer takes it: (1, 3, H, W) float32 in [0, 1]."""
    return picture_HW3.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255.0)


def scatter(model: torch.nn.Module, seed: int = 0, scale: float = 0.2) -> torch.nn.Module:
    """Weights large enough that a random model tells pictures apart; biases and positions are not 0 either."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim and "norm" not in name.lower() and ".ln_" not in name and "layrnorm" not in name:
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def clip_tokenizer(folder: Path) -> None:
    """CLIP's tokenizer with bytes and no merges: 514 tokens, the last two the start and the end of a text."""
    from transformers import CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    characters = list(bytes_to_unicode().values())
    words = [*characters, *(c + "</w>" for c in characters), "<|startoftext|>", "<|endoftext|>"]
    CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[]).save_pretrained(folder)


def clip_folder(folder: Path, size: int = 32, context: int = 77) -> Path:
    """A CLIP of two layers with the tokenizer above, as transformers saves it."""
    from transformers import CLIPConfig, CLIPModel

    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**tower, "vocab_size": 514, "max_position_embeddings": context, "eos_token_id": 513, "bos_token_id": 512}
    vision = {**tower, "image_size": size, "patch_size": 8, "hidden_act": "quick_gelu"}
    model = scatter(CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)))
    model.logit_scale.data.fill_(4.6)
    model.save_pretrained(folder)
    clip_tokenizer(folder)
    return folder


def siglip_folder(folder: Path, size: int = 56) -> Path:
    from transformers import SiglipVisionConfig, SiglipVisionModel

    config = SiglipVisionConfig(
        hidden_size=24, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, image_size=size, patch_size=14
    )
    scatter(SiglipVisionModel(config)).save_pretrained(folder)
    return folder


def aesthetic_head(path: Path, width: int, prefix: str = "layers.") -> torch.nn.Sequential:
    """A head of the published shape and names; v2's by default. The module it is the state of is returned."""
    sizes = (width, 1024, 128, 64, 16, 1)
    modules: list[torch.nn.Module] = []
    for i, (before, after) in enumerate(pairwise(sizes)):
        modules.append(torch.nn.Linear(before, after))
        if i < 3 or (i == 3 and prefix != "layers."):
            modules.append(torch.nn.Dropout(0.2))
    head = torch.nn.Sequential(*modules)
    scatter(head, seed=1, scale=0.1)
    torch.save({prefix + name: tensor for name, tensor in head.state_dict().items()}, path)
    return head
