"""LoRA files of any trainer: which layers they change, with what weights, how strongly.

    W' = W + strength B A,    strength = alpha / rank,  or alpha / sqrt(rank) where the settings say use_rslora

Names come in several layouts: a layer's name behind the prefixes of `OUTER`, or with underscores (kohya, musubi);
lora_A and lora_B, or lora_down and lora_up. The alpha stands beside the weights, a tensor for each layer, or in peft's
settings: as JSON in the header (diffusers), or in adapter_config.json beside the file (peft). Without either it is the
rank. Whatever else a file holds, and whatever setting would change the answer otherwise, is refused by name: a part
that is left out makes another model in silence.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from base_model.files.shards import is_finite

PREFIX = "transformer."
HEADER = "lora_adapter_metadata"
CONFIG = "adapter_config.json"
PEFT = "base_model.model."
OUTER = (PEFT, "pipe.dit.", "model.diffusion_model.", "diffusion_model.", PREFIX, "lora_unet_", "lora_transformer_")
"""What trainers put in front of a layer's name, one or several of them."""
LAYERS = (
    "attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0",
    "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out",
    "img_mlp.net.0.proj", "img_mlp.net.2", "txt_mlp.net.0.proj", "txt_mlp.net.2", "img_mod.1", "txt_mod.1",
)  # fmt: skip
"""Every linear layer of a block."""
_UNDERSCORED = {layer.replace(".", "_"): layer for layer in LAYERS}
_WEIGHT = re.compile(
    r"(?P<layer>.+?)\.(?P<part>lora_A|lora_B|lora_down|lora_up|lora\.down|lora\.up|lora_linear_layer\.down|"
    r"lora_linear_layer\.up)(\.\w+)?\.weight"
)
_OUTSIDE_BLOCKS = re.compile(r"(img_in|txt_in|txt_norm|proj_out|norm_out|time_text_embed)\b")
_FLOAT8 = tuple(getattr(torch, n) for n in ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"))
FACTOR_TYPES = (torch.float32, torch.bfloat16, torch.float16)
HARMLESS = frozenset({
    "target_modules", "exclude_modules", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path",
    "revision", "inference_mode", "lora_dropout", "layers_to_transform", "layers_pattern", "megatron_core",
    "loftq_config", "eva_config", "corda_config", "lora_ga_config", "runtime_config", "qalora_group_size",
})  # fmt: skip
"""Settings of peft that say what was trained and how, and do not change the answer."""
COMPUTED = ("r", "lora_alpha", "use_rslora", "alpha_pattern", "rank_pattern")
PLAIN_STARTS = (None, True, False, "gaussian", "orthogonal", "eva")
"""Values of init_lora_weights that leave the base as it was; the others move a part of it into the adapter."""
MEANINGS = {
    "dora_scale": "this is a DoRA, whose magnitudes change the answer", "magnitude_vector": "this is a DoRA, whose "
    "magnitudes change the answer", "lokr_": "this is a LoKr", "hada_": "this is a LoHa", "oft_": "this is an OFT",
    "lora_mid": "this is a LoRA of convolutions", "diff": "whole differences of weights are not a LoRA",
    ".bias": "biases beside the factors are not supported", "scale_weight": "these are quantised weights",
    "weight_scale": "these are quantised weights", "absmax": "these are quantised weights",
    "text_encoder": "adapters of the text encoder are not supported", "lora_te": "adapters of the text encoder are not "
    "supported",
}  # fmt: skip
"""What a part of a name that is not understood means."""


Translate = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Factors:
    """What a file says of one layer: A [rank, in], B [out, rank], and alpha in the sense of strength = alpha / rank."""

    A: Tensor
    B: Tensor
    alpha: float

    @property
    def rank(self) -> int:
        return self.A.shape[0]


def as_they_are(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return tensors by the names that a file gives them."""
    return tensors


def read_factors(path: Path, translate: Translate = as_they_are) -> dict[str, Factors]:
    """The factors of every layer by its name in the network, such as transformer_blocks.0.attn.to_q or layers.0.to_q.

    `path` is a file, or a folder that holds one, as peft and diffusers save it. `translate` turns a file's tensors by
    other names into those by the network's. Raises ValueError when the file cannot be read, is no LoRA of this
    transformer, or holds anything that is not understood: names, settings, types, numbers that are not finite.
    """
    path = _file_in(path) if path.is_dir() else path
    header, stored = _opened(path)
    raw = translate(stored)
    names_of = _sorted(path, raw)
    settings = _settings(path, header, peft=any(name.startswith(PEFT) for name in raw), alphas="alpha" in names_of)
    downs, ups, alphas = (names_of.get(part, {}) for part in ("A", "B", "alpha"))
    if lonely := sorted((downs.keys() ^ ups.keys()) | (alphas.keys() - downs.keys())):
        raise ValueError(f"{path}: {', '.join(lonely[:3])} lacks one of its two factors; export the adapter again")
    ranks = {layer: _rank(path, downs[layer], ups[layer], raw) for layer in downs}
    factors = {}
    for layer, rank in ranks.items():
        own = None if layer not in alphas else _alpha(path, alphas[layer], raw[alphas[layer]])
        factors[layer] = Factors(raw[downs[layer]], raw[ups[layer]], _effective_alpha(path, settings, layer, rank, own))
    return factors


def _file_in(folder: Path) -> Path:
    """The one file of weights in a folder. Raises ValueError when there is none, or several."""
    files = sorted(folder.glob("*.safetensors"))
    if len(files) != 1:
        names = ", ".join(file.name for file in files) or "none"
        raise ValueError(f"{folder} should hold one LoRA file (*.safetensors) and holds {names}; name the file itself")
    return files[0]


def _opened(path: Path) -> tuple[str, dict[str, Tensor]]:
    """The settings in the header as they stand ("" without) and every tensor, in a type one can compute with."""
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(HEADER, "")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, TypeError, RuntimeError, KeyError, AttributeError) as error:
        raise ValueError(f"cannot read {path}: {error}; restore it, or export it again") from error
    for name, value in tensors.items():
        whole = name.endswith(".alpha") and value.dtype in (torch.int64, torch.int32)  # some trainers count in integers
        if not whole and value.dtype not in (*FACTOR_TYPES, *_FLOAT8, torch.float64):
            raise ValueError(f"{path}: {name} is of the type {value.dtype}: quantised weights are not supported")
    kinds = {value.dtype for name, value in tensors.items() if not name.endswith(".alpha")}
    exact = len(kinds) == 1 and kinds <= set(FACTOR_TYPES)
    tensors = {n: value if exact and not n.endswith(".alpha") else value.float() for n, value in tensors.items()}
    for name, value in tensors.items():
        if not is_finite(value):
            raise ValueError(f"{path}: {name} holds numbers that are not finite; its training had failed")
    return header, tensors


def _sorted(path: Path, names: Iterable[str]) -> dict[str, dict[str, str]]:
    """The file's name of every part ("A", "B", "alpha") and layer. Raises ValueError for names that are neither."""
    table: dict[str, dict[str, str]] = {}
    odd: list[str] = []
    outside: list[str] = []
    for name in names:
        part, layer = part_of(name), layer_of(name)
        if not part:
            odd.append(name)
            continue
        if not re.fullmatch(r"[a-z_]+\.\d+\..+", layer):
            (outside if _OUTSIDE_BLOCKS.match(layer) else odd).append(name)
            continue
        if (other := table.setdefault(part, {}).setdefault(layer, name)) != name:
            raise ValueError(f"{path}: {other} and {name} are of one layer; a file with one adapter is needed")
    if odd or not (table or outside):
        meaning = next((f": {message}" for mark, message in MEANINGS.items() if any(mark in name for name in odd)), "")
        raise ValueError(
            f"{path} is not a LoRA of the transformer ({PREFIX}transformer_blocks.0.attn.to_q.lora_A.weight, ...): "
            f"{len(odd)} other names, first {sorted(odd)[:3]}{meaning}"
        )
    if outside:
        raise ValueError(
            f"{path} has a LoRA beside the blocks, first {sorted(outside)[:3]}; only layers inside blocks can have "
            "one here"
        )
    return table


def part_of(name: str) -> str:
    """What a tensor of this name is of its layer: "A", "B", "alpha", or "" = something else."""
    if match := _WEIGHT.fullmatch(name):
        return "A" if match["part"].endswith(("A", "down")) else "B"
    return "alpha" if name.endswith(".alpha") else ""


def layer_of(name: str) -> str:
    """The layer that a tensor of this name belongs to, without the prefixes of trainers."""
    match = _WEIGHT.fullmatch(name)
    layer = match["layer"] if match else name.removesuffix(".alpha")
    while outer := next((p for p in OUTER if layer.startswith(p)), ""):
        layer = layer.removeprefix(outer)
    match = re.fullmatch(r"transformer_blocks_(\d+)_(\w+)", layer)
    if match and match[2] in _UNDERSCORED:
        return f"transformer_blocks.{match[1]}.{_UNDERSCORED[match[2]]}"
    return layer.replace("norm_out_linear", "norm_out.linear").replace("time_text_embed_", "time_text_embed.")


def _rank(path: Path, down: str, up: str, raw: Mapping[str, Tensor]) -> int:
    a, b = raw[down].shape, raw[up].shape
    if len(a) != 2 or len(b) != 2 or a[0] != b[1] or not a[0]:
        raise ValueError(f"{path}: {down} has shape {tuple(a)} and {up} {tuple(b)}; they are not factors of one matrix")
    return a[0]


def _alpha(path: Path, name: str, value: Tensor) -> float:
    if value.numel() != 1 or not float(value):
        raise ValueError(f"{path}: {name} is {value.flatten()[:3].tolist()}; it must be one number other than 0")
    return float(value)


# --- peft's settings ----------------------------------------------------------------------------------------------


def _settings(path: Path, header: str, peft: bool, alphas: bool) -> dict[str, Any]:
    """peft's settings, checked; {} when there are none and none are needed."""
    where, text, sidecar = f"the header of {path}", header, path.with_name(CONFIG)
    if not header and peft and sidecar.is_file():
        where = str(sidecar)
        try:
            text = sidecar.read_text(encoding="utf-8-sig")
        except (OSError, ValueError) as error:
            raise ValueError(f"cannot read {sidecar}: {error}") from error
    if not text:
        if peft and not alphas:
            raise ValueError(f"{path} is of peft, which keeps the strength in {CONFIG}: put that file beside it")
        return {}
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the settings in {where} are not JSON: {error}; fetch the file again") from error
    if not isinstance(content, dict):
        raise ValueError(
            f"the settings in {where} are {text[:40]}, not an object with named values; fetch the file again"
        )
    settings = {name.removeprefix(PREFIX): value for name, value in content.items() if not name.startswith("text_")}
    _check(settings, where, alphas)
    return settings


def _check(settings: Mapping[str, Any], where: str, alphas: bool) -> None:
    """Raises ValueError naming the first setting that is not understood, or changes the answer in an unknown way."""
    for name, value in settings.items():
        if name == "init_lora_weights":
            if isinstance(value, dict | list) or value not in PLAIN_STARTS:
                raise ValueError(f"{where} says {name}={value!r}: a part of the base was moved into the adapter")
        elif name == "peft_type":
            if str(value).rsplit(".", 1)[-1] not in ("LORA", "None"):
                raise ValueError(f"{where} says {name}={value!r}; only LORA is supported")
        elif name == "use_rslora":
            if not isinstance(value, bool | None):
                raise ValueError(f"{where} says {name}={value!r}; it must be true or false")
        elif name in ("alpha_pattern", "rank_pattern"):
            if not isinstance(value, dict | None):
                raise ValueError(f"{where} says {name}={value!r}; it must name layers and their numbers")
        elif name not in HARMLESS and name not in COMPUTED and value not in (None, False, 0, "", "none", {}, []):
            raise ValueError(f"{where} says {name}={value!r}, which changes what the adapter does and is not supported")
    for name in ("r", "lora_alpha"):
        if name in settings:
            _number(settings[name], name, where)
    if settings and "lora_alpha" not in settings and not alphas:
        raise ValueError(f"{where} has settings but no lora_alpha; the strength cannot be known")


def _number(value: Any, name: str, where: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < abs(value) < 1e30:
        raise ValueError(f"{where} says {name}={value!r}; it must be a finite number other than 0")
    return float(value)


def _effective_alpha(path: Path, settings: Mapping[str, Any], layer: str, rank: int, own: float | None) -> float:
    """alpha in the sense of strength = alpha / rank; `own` is what stands beside the layer's weights."""
    metrics = _matched(path, settings, "rank_pattern", layer, settings.get("r"))
    if metrics is not None and metrics != rank:
        raise ValueError(
            f"{path}: {layer} has rank {rank}, and its settings say {metrics:g}; they are of another adapter"
        )
    alpha = _matched(path, settings, "alpha_pattern", layer, settings.get("lora_alpha"))
    if own is not None:
        if settings.get("use_rslora") or (alpha is not None and alpha != own):
            raise ValueError(f"{path}: {layer} has alpha {own:g} beside its weights, and its settings say {alpha}")
        return own
    if alpha is None:
        return float(rank)
    return alpha * math.sqrt(rank) if settings.get("use_rslora") else alpha


def _matched(path: Path, settings: Mapping[str, Any], pattern: str, layer: str, otherwise: Any) -> float | None:
    """The value of the first pattern that fits the end of a layer's name, as peft looks it up."""
    for key, value in (settings.get(pattern) or {}).items():
        try:
            fits = re.match(rf"(.*\.)?({key.removeprefix(PREFIX)})$", layer)
        except re.error as error:
            raise ValueError(f"{path}: {pattern} names layers by {key!r}, which is not a pattern: {error}") from error
        if fits:
            return _number(value, f"{pattern} of {key}", path)
    return None if otherwise is None else float(otherwise)
