"""HPSv3: a Qwen2-VL-7B that reads an image, its prompt and an instruction, and writes its judgement into one token.

Ma et al., "HPSv3: Towards Wide-Spectrum Human Preference Score", 2025:

    (1)  h  = the last hidden state at the token <|Reward|> behind the question
    (2)  mu, log sigma = W3 relu(W2 relu(W1 h + b1) + b2) + b3;      value = mu, about -5 to 15

As published: the image is scaled to 256 tokens' worth of pixels (448 x 448 for a square, whatever its size), the
question is ``hpsv3_question.txt`` word for word (of the authors' package hpsv3 1.0.0), and every token, those of the
image too, has its place in the row as its position: the authors' model passes around Qwen2-VL's three-dimensional
positions, was trained so, and gives other scores with them. ``rewards.language.qwen_vl`` makes the inputs.

Shapes: HW3 8-bit pixels, L tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from preference_data.records import Prompt
from rewards.image_scorer import ImageScorer, one_by_one
from rewards.language.qwen_vl import QwenInputs, float_kind, sees
from rewards.published.open_clip_import import declare_operators
from rewards.published.published_weights import existing_file, existing_or_hub, read_state
from rewards.scores import View

AREA = 256 * 28 * 28  # pixels
REWARD = "<|Reward|>"
QUESTION = Path(__file__).parent / "hpsv3_question.txt"
_HEAD = ("0", "3", "5")  # places of the affine layers in the head; between them ReLU and dropout


@dataclass(frozen=True)
class HpsV3:
    """HPSv3: a Qwen2-VL trained on people's preferences, eq. (2); range [-inf, inf], in practice -5 to 15.

    Part ``log_sigma``: how unsure the model is.

    ``weights``: the file HPSv3.safetensors of hub repository MizzenAI/HPSv3. ``base``: folder or hub name of the model
    it was made from, Qwen/Qwen2-VL-7B-Instruct, for its settings, tokenizer and chat template. ``dtype``: bfloat16 as
    published on a GPU; float32 is slower and a little more exact.
    """

    version: ClassVar[int] = 1
    range: ClassVar[tuple[float, float]] = (float("-inf"), float("inf"))
    needs: ClassVar[tuple[str, ...]] = ("text",)

    weights: str = ""
    base: str = ""
    dtype: str = "float32"

    def sees(self, height: int, width: int) -> View:
        return sees(height, width, AREA, AREA)

    def load(self, device: str = "cpu") -> ImageScorer:
        """Open the model. FileNotFoundError for missing weights, ValueError when the file is not HPSv3's."""
        advice = "hpsv3 needs the file HPSv3.safetensors, from hub repository MizzenAI/HPSv3"
        file = existing_file(self.weights, "weights", advice)
        base = existing_or_hub(self.base, "base", "hpsv3 also needs Qwen2-VL-7B-Instruct: a folder, or its hub name")
        inputs = QwenInputs(base, AREA, AREA)
        inputs.tokenizer.add_special_tokens({"additional_special_tokens": [REWARD]}, replace_extra_special_tokens=False)
        model, head = _load(file, base, self.dtype, device)
        reward_token = int(inputs.tokenizer.convert_tokens_to_ids(REWARD))
        rows = model.get_input_embeddings().num_embeddings
        if reward_token >= rows:
            raise ValueError(f"{file} knows {rows} tokens, {base} needs {reward_token + 1}: another base model?")
        question = QUESTION.read_text("utf-8")

        def judge(prompt: Prompt, image: np.ndarray) -> Mapping[str, float]:
            inputs.check(prompt.text, [image])
            requested = inputs(question.replace("{text_prompt}", prompt.text), [image], device)
            mu, log_sigma = head(_hidden(model, requested, reward_token))
            return {"value": float(mu), "log_sigma": float(log_sigma)}

        parts = ("value", "log_sigma")
        return ImageScorer(f"hpsv3:transformers/{file.name}", one_by_one(judge), parts, needs=self.needs)


def _hidden(model: Any, inputs: dict[str, Any], token: int) -> Any:
    """Eq. (1): (D,) float32."""
    import torch

    length = inputs["input_ids"].shape[1]
    indices_31L = torch.arange(length, device=inputs["input_ids"].device).expand(3, 1, length)
    where_L = inputs["input_ids"][0] == token
    if int(where_L.sum()) != 1:
        raise ValueError(f"the question holds {int(where_L.sum())} times {REWARD}; the tokenizer does not know it")
    with torch.inference_mode():
        out = model(**inputs, position_ids=indices_31L, use_cache=False)
        return out.last_hidden_state[0, where_L][0].float()


def _load(file: Path, base: Path | str, dtype: str, device: str) -> tuple[Any, Any]:
    """The transformer and the head, eq. (2), from the one file that holds both, strictly."""

    declare_operators()
    from transformers import AutoConfig, Qwen2VLModel

    body, layers = _split(read_state(file))
    if len(layers) != 2 * len(_HEAD):
        raise ValueError(
            f"{file} has no head rm_head.0, .3, .5: it is not HPSv3 (found {sorted(layers)}); name the safetensors "
            "file of MizzenAI/HPSv3"
        )
    config = AutoConfig.from_pretrained(base, local_files_only=isinstance(base, Path))
    config.get_text_config().vocab_size = len(body["language_model.embed_tokens.weight"])
    loaded: Any = Qwen2VLModel.from_pretrained(
        None, config=config, state_dict=body, dtype=float_kind(dtype), output_loading_info=True
    )
    model, info = loaded
    wrong = {
        kind: sorted(info[kind])[:3] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") if info[kind]
    }
    if wrong:
        raise ValueError(f"{file} does not fit {base}: {wrong}")
    layers = {name: tensor.float().to(device) for name, tensor in layers.items()}

    def head(h_D: Any) -> Any:
        for index_, n in enumerate(_HEAD):
            h_D = layers[f"{n}.weight"] @ (h_D.relu() if index_ else h_D) + layers[f"{n}.bias"]  # (2)
        return h_D

    return model.to(device).eval(), head


def _split(state: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tensors of the transformer, by transformers' present names, and those of the head.

    Names as transformers 4.45 wrote them (model.layers, visual), or later ones (model.language_model, model.visual).
    """
    body, head = {}, {}
    for name, tensor in state.items():
        if name.startswith("rm_head."):
            head[name.removeprefix("rm_head.")] = tensor
        elif name.startswith(("visual.", "model.visual.")):
            body[name.removeprefix("model.")] = tensor
        elif name.startswith("model."):
            body["language_model." + name.removeprefix("model.").removeprefix("language_model.")] = tensor
        elif not name.startswith("lm_head."):
            raise ValueError(f"tensor {name!r} is none of Qwen2-VL's nor of HPSv3's head")
    return body, head
