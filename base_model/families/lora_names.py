"""LoRA files of other trainers (kohya, musubi, ComfyUI, XLabs) for the families, by the names of diffusers' networks.

These trainers know the networks as their authors published them, where one matrix may be what are three layers here.
diffusers has a table for most families; Stable Diffusion 3's, which it lacks, is here. A table that knows only a part
of a file would make another model in silence, so the rows of all factors are counted before and after.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from base_model.families.family import Family, class_of_diffusers, without_advice
from base_model.files.lora_files import PREFIX, layer_of, part_of

SD3: dict[str, tuple[str, ...]] = {
    "x_block.attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "x_block.attn.proj": ("attn.to_out.0",),
    "x_block.attn2.qkv": ("attn2.to_q", "attn2.to_k", "attn2.to_v"),
    "x_block.attn2.proj": ("attn2.to_out.0",),
    "x_block.mlp.fc1": ("ff.net.0.proj",),
    "x_block.mlp.fc2": ("ff.net.2",),
    "x_block.adaLN_modulation.1": ("norm1.linear",),
    "context_block.attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "context_block.attn.proj": ("attn.to_add_out",),
    "context_block.mlp.fc1": ("ff_context.net.0.proj",),
    "context_block.mlp.fc2": ("ff_context.net.2",),
    "context_block.adaLN_modulation.1": ("norm1_context.linear",),
}
"""layer of a joint block as published -> layers of a transformer block of diffusers, in the order of their rows"""
_UNDERSCORED = {name.replace(".", "_"): name for name in SD3}


def translated(family: Family, layers: Collection[str], tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return a LoRA's tensors by the names of the network whose linear `layers` these are; known names stay.

    Names that no table knows are returned as they are, for `read_factors` to refuse. Raises ValueError when a table
    leaves something out.
    """
    if is_of(layers, tensors):
        return tensors
    if family.pipeline == "StableDiffusion3Pipeline":
        ours = by_sd3_names(tensors, int(family.network_config["num_layers"]) - 1)
    else:
        ours = by_diffusers(family, tensors)
        if ours is None or not is_of(layers, ours):
            again = by_diffusers(family, by_kohya_names(tensors))
            ours = again if again is not None and is_of(layers, again) else ours
    if ours is None:
        return tensors
    before, after = rows(tensors), rows(ours)
    if before != after:
        raise ValueError(
            f"diffusers' table of names for {family.pipeline} knows {after} of the {before} rows of this LoRA, and the "
            "rest would be left out: export it in diffusers' or peft's layout"
        )
    return ours


def is_of(layers: Collection[str], tensors: Mapping[str, Tensor]) -> bool:
    """Return whether there are tensors, and every one belongs to one of these layers."""
    return bool(tensors) and all(layer_of(name) in layers for name in tensors)


def by_kohya_names(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return a LoRA by the names of kohya, the layout that all tables of diffusers know; as it is where it has others.

    ComfyUI and ai-toolkit write the same layers with dots, and lora_A and lora_B.
    """
    ends = {"A": "lora_down.weight", "B": "lora_up.weight", "alpha": "alpha"}
    if not all(part_of(name) for name in tensors):
        return tensors
    return {f"lora_unet_{layer_of(n).replace('.', '_')}.{ends[part_of(n)]}": value for n, value in tensors.items()}


def rows(tensors: Mapping[str, Tensor]) -> int:
    """Return the number of outputs of all layers that a LoRA changes."""
    return sum(value.shape[0] for name, value in tensors.items() if part_of(name) == "B" and value.ndim)


def by_diffusers(family: Family, tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Translate by diffusers' table for the pipeline; None where it has none, or none for these names."""
    read: Any = getattr(class_of_diffusers(family.pipeline), "lora_state_dict", None)
    if read is None:
        return None
    try:
        with without_advice("diffusers"):
            return {str(name): value.contiguous() for name, value in read(dict(tensors)).items()}
    except (ValueError, KeyError, IndexError, AssertionError, RuntimeError, AttributeError):
        return None


def by_sd3_names(tensors: Mapping[str, Tensor], last: int) -> dict[str, Tensor] | None:
    """Translate by `SD3`; None when a name is not in it. `last` is the last block's number.

    That one's text stream has a final norm, whose shift and scale diffusers has the other way round.
    """
    ours: dict[str, Tensor] = {}
    for name, value in tensors.items():
        match = re.fullmatch(r"joint_blocks[._](\d+)[._](.+)", layer_of(name))
        published = match and _UNDERSCORED.get(match[2], match[2])
        if match is None or published not in SD3:
            return None
        ends = SD3[published]
        parts = torch.chunk(value, len(ends)) if part_of(name) == "B" else [value] * len(ends)
        if len(parts) != len(ends):
            return None
        if part_of(name) == "B" and int(match[1]) == last and ends == ("norm1_context.linear",):
            parts = [torch.cat(torch.chunk(value, 2)[::-1])]
        suffix = "alpha" if part_of(name) == "alpha" else f"lora_{part_of(name)}.weight"
        ours |= {
            f"{PREFIX}transformer_blocks.{match[1]}.{end}.{suffix}": part.contiguous()
            for end, part in zip(ends, parts, strict=True)
        }
    return ours
