"""ImageReward v1.0: a BLIP whose text encoder reads the prompt while looking at the image, and a linear head.

Xu et al., "ImageReward: Learning and Evaluating Human Preferences for Text-to-Image Generation", NeurIPS 2023:

    (1)  t = the text encoder's state at [CLS], attending to the tokens of the image (ViT-L/16, 224 pixels, cropped)
    (2)  value = (w5 (... (w1 t + b1) ...) + b5 - 0.16717) / 1.03334      about -2 to 2

The head has no activations, as in ``rewards.published.aesthetic``. The prompt is cut after 35 BERT tokens (part
``text_share``), and Chinese is mostly unknown to that tokenizer (part ``text_known``): such prompts are judged by what
is left of them.

The released file is run by transformers' BLIP, whose modules are renamed copies of the authors'.

Shapes: V squares, 3SS pixels, L tokens, D width.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from preference_data.records import Prompt
from rewards.image_scorer import ImageScorer, one_by_one
from rewards.published.clip_models import pixels
from rewards.published.framing import CENTRE_CROP, choose
from rewards.published.open_clip_import import declare_operators
from rewards.published.published_weights import existing_file, existing_or_hub, read_state
from rewards.scores import View

TOKENS = 35
MEAN, DEVIATION = 0.16717362830052426, 1.0333394966054072  # of the scores of the training set
HEAD_WIDTH = 64  # of ViT-L and of BERT-base alike
_VISION = (  # the authors' names, transformers' names
    (r"^cls_token$", "embeddings.class_embedding"),
    (r"^pos_embed$", "embeddings.position_embedding"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embedding."),
    (r"^blocks\.(\d+)\.norm(\d)\.", r"encoder.layers.\1.layer_norm\2."),
    (r"^blocks\.(\d+)\.attn\.qkv\.", r"encoder.layers.\1.self_attn.qkv."),
    (r"^blocks\.(\d+)\.attn\.proj\.", r"encoder.layers.\1.self_attn.projection."),
    (r"^blocks\.(\d+)\.mlp\.", r"encoder.layers.\1.mlp."),
    (r"^norm\.", "post_layernorm."),
)


@dataclass(frozen=True)
class ImageReward:
    """ImageReward v1.0: a BLIP trained on people's rankings, eq. (2); range [-inf, inf], in practice -2 to 2.

    ``weights``: the file ImageReward.pt of hub repository THUDM/ImageReward. ``tokenizer``: folder or hub name of
    bert-base-uncased (google-bert/bert-base-uncased). size: pixels of the model's input. ``view``: as
    ``rewards.published.clip``.
    """

    version: ClassVar[int] = 1
    range: ClassVar[tuple[float, float]] = (float("-inf"), float("inf"))
    needs: ClassVar[tuple[str, ...]] = ("text",)

    weights: str = ""
    tokenizer: str = ""
    size: int = 224
    view: str = "published"

    def sees(self, height: int, width: int) -> View:
        return choose(self.view, CENTRE_CROP).sees(height, width, self.size)

    def load(self, device: str = "cpu") -> ImageScorer:
        """Open the model. FileNotFoundError for missing weights, ValueError when the file is not ImageReward's."""
        declare_operators()
        from transformers import AutoTokenizer

        framing = choose(self.view, CENTRE_CROP)
        advice = (
            "imagereward needs the file ImageReward.pt, from hub repository THUDM/ImageReward: imagereward:weights=FILE"
        )
        file = existing_file(self.weights, "weights", advice)
        words = existing_or_hub(
            self.tokenizer, "tokenizer", "imagereward also needs the tokenizer of bert-base-uncased"
        )
        tokenizer: Any = AutoTokenizer.from_pretrained(words, local_files_only=isinstance(words, Path))
        model = _Model(read_state(file), file, self.size, device)

        def scorer(prompt: Prompt, image: np.ndarray) -> Mapping[str, float]:
            tokens = tokenizer(
                prompt.text, padding="max_length", truncation=True, max_length=TOKENS, return_tensors="pt"
            )
            whole = tokenizer(prompt.text, verbose=False).input_ids
            unknown = sum(token == tokenizer.unk_token_id for token in whole)
            return {
                "value": model.score(framing.frame(image, self.size), tokens),
                "text_share": min(1.0, TOKENS / len(whole)),
                "text_known": 1.0 - unknown / max(len(whole) - 2, 1),
            }

        parts = ("value", "text_share", "text_known")
        return ImageScorer(f"imagereward:transformers/{file.name}", one_by_one(scorer), parts, needs=self.needs)


class _Model:
    """The vision tower, the text encoder and the head of a file, their sizes read from its tensors."""

    def __init__(self, state: Mapping[str, Any], file: Path, size: int, device: str) -> None:
        declare_operators()
        from transformers import BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel

        vision = _renamed(_under(state, "blip.visual_encoder."), _VISION)
        text = _under(state, "blip.text_encoder.")
        self._layers = _layers(_under(state, "mlp.layers."))
        if not vision or not text or len(self._layers) != 5:
            raise ValueError(f"{file} does not hold blip.visual_encoder, blip.text_encoder and mlp: not ImageReward's")
        patch = vision["embeddings.patch_embedding.weight"]
        width, narrow = len(patch), text["embeddings.word_embeddings.weight"].shape[1]
        self._vision: Any = BlipVisionModel(
            BlipVisionConfig(
                hidden_size=width, intermediate_size=len(vision["encoder.layers.0.mlp.fc1.weight"]),
                num_hidden_layers=_count(vision, r"encoder\.layers\.(\d+)\."), num_attention_heads=width // HEAD_WIDTH,
                image_size=size, patch_size=patch.shape[-1], layer_norm_eps=1e-6, hidden_act="gelu",
            )
        )  # fmt: skip
        self._text: Any = BlipTextModel(
            BlipTextConfig(
                vocab_size=len(text["embeddings.word_embeddings.weight"]), hidden_size=narrow,
                encoder_hidden_size=width, intermediate_size=len(text["encoder.layer.0.intermediate.dense.weight"]),
                num_hidden_layers=_count(text, r"encoder\.layer\.(\d+)\."), num_attention_heads=narrow // HEAD_WIDTH,
                max_position_embeddings=len(text["embeddings.position_embeddings.weight"]), layer_norm_eps=1e-12,
                hidden_act="gelu", is_decoder=True,
            ),
            add_pooling_layer=False,
        )  # fmt: skip
        for module, tensors in ((self._vision, vision), (self._text, text)):
            try:
                missing, unexpected = module.load_state_dict(tensors, strict=False)
            except RuntimeError as error:
                raise ValueError(f"{file} does not fit images of {size} pixels: {error}") from error
            unexpected = [name for name in unexpected if not name.endswith("position_ids")]  # a constant of old files
            if missing or unexpected:
                raise ValueError(
                    f"{file} is not ImageReward's: missing {missing[:3]}, unknown {unexpected[:3]}; name ImageReward.pt"
                )
            module.float().to(device).eval()
        self._device = device

    def score(self, squares_V3SS: np.ndarray, tokens: Mapping[str, Any]) -> float:
        """Eq. (1) and (2), averaged over the squares."""
        import torch

        with torch.inference_mode():
            seen_VLD = self._vision(pixel_values=pixels(squares_V3SS, self._device)).last_hidden_state
            count = len(seen_VLD)
            text = self._text(
                input_ids=tokens["input_ids"].to(self._device).expand(count, -1),
                attention_mask=tokens["attention_mask"].to(self._device).expand(count, -1),
                encoder_hidden_states=seen_VLD,
                encoder_attention_mask=torch.ones(seen_VLD.shape[:2], dtype=torch.long, device=self._device),
                is_decoder=False,
            )
            t_VD = text.last_hidden_state[:, 0].float().cpu()
            for weight, bias in self._layers:
                t_VD = t_VD @ weight.T + bias
        return float(((t_VD[:, 0].double() - MEAN) / DEVIATION).mean())  # (2)


def _under(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _renamed(state: Mapping[str, Any], rules: Sequence[tuple[str, str]]) -> dict[str, Any]:
    table = {}
    for name, tensor in state.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        table[name] = tensor
    return table


def _count(state: Mapping[str, Any], pattern: str) -> int:
    """How many layers the names of the tensors speak of."""
    return 1 + max(int(match[1]) for name in state if (match := re.match(pattern, name)))


def _layers(head: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    order = sorted({int(name.split(".")[0]) for name in head})
    return [(head[f"{n}.weight"].float(), head[f"{n}.bias"].float()) for n in order]
