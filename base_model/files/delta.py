"""A trained model that keeps what it learned; the rest stays in the released checkpoint that it began from.

base.json               the checkpoint's name, the size of what is made, how its layers were stored beside an adapter
adapter.safetensors     what an adapter learned, or else
diffusion_pytorch_model*.safetensors      the whole network
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch

from base_model.families.family import Family
from base_model.families.open_checkpoint import open_checkpoint
from base_model.files.hub import read_json
from base_model.files.open_base import open_base, read_any
from base_model.files.released import Base, Released, explain, load_vae
from base_model.files.shards import load_into, write_shards
from base_model.frozen_linear import BaseStorage
from base_model.lora import has_adapter, load_adapter, save_adapter
from base_model.policy_model import PolicyModel
from base_model.qwen.language_encoder import VisionLanguageEncoder
from base_model.qwen.mmdit import MMDiT

BASE, ADAPTER = "base.json", "adapter.safetensors"


def is_derived(folder: Path) -> bool:
    """Whether the folder was written by `save_derived`."""
    return (folder / BASE).is_file()


def save_derived(model: PolicyModel, folder: Path) -> None:
    """Write what the model learned."""
    folder.mkdir(parents=True, exist_ok=True)
    # An absolute path, because the run may be read from another folder than it was started in.
    name = str(Path(model.checkpoint).resolve()) if Path(model.checkpoint).is_dir() else model.checkpoint
    if has_adapter(model.network):
        save_adapter(model.network, folder / ADAPTER)
    else:
        write_shards(model.network.state_dict(), folder)
    saved = {"base": name, "picture": model.native, "storage": dataclasses.asdict(model.base_storage)}
    (folder / BASE).write_text(json.dumps(saved, indent=1) + "\n", encoding="utf-8")


def base_of(folder: Path) -> Base | Family:
    """The checkpoint that a derived model began from. Raises ValueError when it is gone."""
    name = read_json(folder / BASE).get("base", "")
    try:
        return read_any(name)
    except ValueError as error:
        raise ValueError(f"{folder} holds only what was learned on top of {name!r}: {error}") from error


def trained_size(folder: Path) -> tuple[int, int]:
    """The (height, width) that a derived model is for."""
    height, width = read_json(folder / BASE)["picture"]
    return height, width


def load_derived(
    folder: Path, device: str = "cpu", cache: Path | None = None, storage: BaseStorage | None = None
) -> PolicyModel:
    """The model as it was saved, its base stored as it was beside the adapter (`storage`: otherwise).

    Raises ValueError when it, or its base, is missing or damaged.
    """
    base = base_of(folder)
    saved = read_json(folder / BASE)
    height, width = trained_size(folder)
    if (folder / ADAPTER).exists():
        storage = BaseStorage(**saved.get("storage", {})) if storage is None else storage
        model = open_base(saved["base"], (height, width), device, cache=cache, storage=storage)
        load_adapter(model.network, folder / ADAPTER)
        return model
    if isinstance(base, Family):
        return open_checkpoint(saved["base"], (height, width), device, cache=cache, weights=folder)
    text = VisionLanguageEncoder(base.folder, base.task, device, None, cache)
    with torch.device("meta"):
        network = MMDiT(base.transformer)
    load_into(network, folder, device, explain=explain)
    return Released(network, base, (height, width), device, text, load_vae(base))
