"""A released folder of full size without weights: true configurations and safetensors headers, and holes for bytes.

Files are sparse, so that 41 GB take no disk, and every tensor read from one is a single zero that stands for all, so
that it takes no memory. Reading the shards, checking that they fit, and loading run for real.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from base_model.qwen.mmdit import MMDiT
from base_model.qwen.presets import PRESETS, VAES
from experiments.planning.dry_run import storing

TYPES = {"BF16": torch.bfloat16, "F32": torch.float32, "I64": torch.int64, "U8": torch.uint8, "BOOL": torch.bool,
         "F16": torch.float16, "F64": torch.float64, "I32": torch.int32}  # fmt: skip
NAMES = {dtype: name for name, dtype in TYPES.items()}
SHARD = 5 * 10**9
"""bytes of a file: torch maps a larger one only where there is as much memory"""
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
           "<|image_pad|>", "<|video_pad|>")  # fmt: skip
TEMPLATE = (
    "system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial relationships of "
    "the objects and background:", "user\n", "assistant\n",
)  # fmt: skip
"""words that are one token each, as in the released tokenizer, so that as many are dropped; all else is bytes"""
SCHEDULER = {"base_image_seq_len": 256, "base_shift": 0.5, "max_image_seq_len": 8192, "max_shift": 0.9,
             "num_train_timesteps": 1000, "shift": 1.0, "shift_terminal": 0.02, "time_shift_type": "exponential",
             "use_dynamic_shifting": True}  # fmt: skip
LANGUAGE = {"vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
            "num_attention_heads": 28, "num_key_value_heads": 4, "max_position_embeddings": 128000,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}}  # fmt: skip
VISION = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 3584,
          "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31]}  # fmt: skip
"""Qwen2.5-VL-7B"""


def write_hollow(tensors: Mapping[str, Tensor], path: Path | str, metadata: Mapping[str, str] | None = None) -> None:
    """A safetensors file whose header is true and whose bytes are a hole."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, x in sorted(tensors.items(), key=lambda item: -item[1].element_size()):
        start, end = end, end + x.nbytes
        header[name] = {"dtype": NAMES[x.dtype], "shape": list(x.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with Path(path).open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


def read_hollow(path: Path | str) -> dict[str, Tensor]:
    """Every tensor of a safetensors file as a zero that stands for all."""
    with Path(path).open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return {
        name: torch.zeros((), dtype=TYPES[one["dtype"]]).expand(one["shape"])
        for name, one in header.items()
        if name != "__metadata__"
    }


def write_sharded(folder: Path, tensors: Mapping[str, Tensor], stem: str = "diffusion_pytorch_model") -> None:
    """Files of at most `SHARD` bytes and their index, as released."""
    parts: list[dict[str, Tensor]] = [{}]
    room = SHARD
    for name, x in tensors.items():
        if x.nbytes > room:
            parts.append({})
            room = SHARD
        parts[-1][name] = x
        room -= x.nbytes
    files = [f"{stem}-{i + 1:05d}-of-{len(parts):05d}.safetensors" for i in range(len(parts))]
    for file, part in zip(files, parts, strict=True):
        write_hollow(part, folder / file)
    index = {name: file for file, part in zip(files, parts, strict=True) for name in part}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps({"weight_map": index}))


def make_release(folder: Path, preset: str, layers: int = 0, edits: bool = False) -> Path:
    """A released folder of a preset, of its own depth or with so many blocks; `edits`: one that edits images."""
    import diffusers

    cfg = replace(PRESETS[preset], num_layers=layers or PRESETS[preset].num_layers)
    with torch.device("meta"):
        network = MMDiT(cfg).bfloat16()
        vae = diffusers.AutoencoderKLQwenImage().bfloat16()
    for part in ("transformer", "vae", "scheduler", "text_encoder"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    write_sharded(folder / "transformer", dict(network.named_parameters()))
    write_hollow(vae.state_dict(), folder / "vae" / "diffusion_pytorch_model.safetensors")
    for part, kind, settings in (
        ("transformer/config.json", "QwenImageTransformer2DModel", asdict(cfg)),
        ("vae/config.json", "AutoencoderKLQwenImage", asdict(VAES[preset])),
        ("scheduler/scheduler_config.json", "FlowMatchEulerDiscreteScheduler", SCHEDULER),
        ("model_index.json", "QwenImageEditPlusPipeline" if edits else "QwenImagePipeline", {}),
    ):
        (folder / part).write_text(json.dumps({"_class_name": kind, **settings}))
    tokenizer().save_pretrained(folder / "tokenizer")
    (folder / "text_encoder" / "config.json").write_text("{}")
    return folder


@cache
def tokenizer() -> Any:
    """Qwen's tokenizer with a vocabulary of the template's words and all bytes."""
    from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers, trainers
    from transformers import Qwen2Tokenizer
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    core = Tokenizer(models.BPE())
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), "isolated"), whole])
    letters = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        TEMPLATE, trainers.BpeTrainer(vocab_size=5000, initial_alphabet=letters, show_progress=False)
    )
    model = json.loads(core.to_str())["model"]
    made = Qwen2Tokenizer(
        vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]], eos_token="<|im_end|>",
        model_max_length=131072,
    )  # fmt: skip
    made.add_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return made


def language_model() -> Any:
    """Qwen2.5-VL-7B in bfloat16, without weights, whole."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    with torch.device("meta"), storing(torch.bfloat16):
        made = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=LANGUAGE, vision_config=VISION))
    return made.eval().requires_grad_(False)
