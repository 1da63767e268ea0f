"""A pipeline of diffusers on the card, made of a checkpoint's configurations alone, without a weight.

Network and text encoders are in bfloat16, the autoencoder in float32, as a run has them. Tokenizers know bytes alone:
a prompt has as many tokens as letters.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from base_model.families.family import Family, class_of_diffusers
from base_model.files.hub import read_json
from base_model.qwen.text_processor import text_processor
from experiments.planning.dry_run import storing

SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>"]
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LONGEST = 512
"""tokens that a tokenizer reads at most, where its encoder has positions for so many"""


def depth_of(settings: Mapping[str, Any]) -> int:
    """Blocks of a network of diffusers, of the first kind where it has two, by its config.json."""
    return int(settings["n_layers"] if "n_layers" in settings else settings["num_layers"])


def with_depth(settings: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """The settings of a network with so many blocks, and as many of the second kind in proportion."""
    name = "n_layers" if "n_layers" in settings else "num_layers"
    changed = {**settings, name: depth}
    if "num_single_layers" in settings:
        changed["num_single_layers"] = settings["num_single_layers"] * depth // settings[name]
    if "dual_attention_layers" in settings:
        changed["dual_attention_layers"] = [i for i in settings["dual_attention_layers"] if i < depth]
    return changed


def make_pipeline(family: Family, dtype: torch.dtype | None, parts: Mapping[str, Any]) -> Any:
    """`open_checkpoint.open_pipeline` without weights."""
    components = {
        name: parts[name] if name in parts else part_of(family, name, part)
        for name, part in family.index.items()
        if isinstance(part, list)
    }
    more = {n: v for n, v in family.index.items() if not isinstance(v, list) and not n.startswith("_")}
    return class_of_diffusers(family.pipeline)(**components, **more)


def part_of(family: Family, name: str, part: list[str]) -> Any:
    """A component of a pipeline, made of the folder's own configuration of it."""
    if part[0] is None:  # which this checkpoint does without
        return None
    if name == "transformer":
        with storing(torch.bfloat16):
            return nn.Module.to(hollow_network(family), dtype=torch.bfloat16)
    if name.startswith("tokenizer"):
        encoder = read_json(family.folder / name.replace("tokenizer", "text_encoder") / "config.json")
        return byte_tokenizer(min(LONGEST, encoder.get("max_position_embeddings", LONGEST)))
    if name == "processor":
        return text_processor_of_bytes()
    if part[0] == "diffusers":
        file = "scheduler_config.json" if name == "scheduler" else "config.json"
        with torch.device("meta"):
            return class_of_diffusers(part[1]).from_config(read_json(family.folder / name / file))
    import transformers

    kind = getattr(transformers, part[1])
    settings = kind.config_class.from_pretrained(family.folder / name, local_files_only=True)
    with torch.device("meta"), storing(torch.bfloat16):
        return kind(settings).eval().requires_grad_(False)


hollow_network = Family.hollow_network
"""as it is: on the card it stands for nothing elsewhere"""


def text_processor_of_bytes() -> Any:
    """Qwen3-VL's processor of text alone."""
    words = byte_tokenizer(LONGEST)
    words.chat_template = CHAT.replace("m.content", "m.content[0].text")
    with tempfile.TemporaryDirectory() as folder:
        words.save_pretrained(folder)
        return text_processor(Path(folder))


def byte_tokenizer(longest: int) -> Any:
    """Reads bytes, and has a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {token: i for i, token in enumerate([*SPECIAL, *letters])}
    raw = Tokenizer(models.BPE(vocab=words, merges=[], unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw, model_max_length=longest, pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        additional_special_tokens=SPECIAL[4:], padding_side="right",
    )  # fmt: skip
    made.chat_template = CHAT
    return made
