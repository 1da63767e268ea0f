"""A trained model that keeps what it learned; the rest stays in the released checkpoint that it began from.

base.json               the checkpoint's name, and the size of what is made
adapter.safetensors     what an adapter learned, or else
diffusion_pytorch_model*.safetensors      the whole transformer
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from base_model.files.released import Base, Released, explain, load_base, load_vae, read_base, read_json
from base_model.files.shards import load_into, write_shards
from base_model.lora import has_adapter, load_adapter, save_adapter
from base_model.qwen.language_encoder import VisionLanguageEncoder
from base_model.qwen.mmdit import MMDiT

BASE, ADAPTER = "base.json", "adapter.safetensors"


def is_derived(folder: Path) -> bool:
    """Whether the folder was written by `save_derived`."""
    return (folder / BASE).is_file()


def save_derived(model: Released, folder: Path) -> None:
    """Write what the model learned."""
    folder.mkdir(parents=True, exist_ok=True)
    # An absolute path, because the run may be read from another folder than it was started in.
    name = str(Path(model.base.name).resolve()) if Path(model.base.name).is_dir() else model.base.name
    if has_adapter(model.network):
        save_adapter(model.network, folder / ADAPTER)
    else:
        write_shards(model.network.state_dict(), folder)
    (folder / BASE).write_text(json.dumps({"base": name, "picture": model.native}, indent=1) + "\n", encoding="utf-8")


def base_of(folder: Path) -> Base:
    """The checkpoint that a derived model began from. Raises ValueError when it is gone."""
    name = read_json(folder / BASE).get("base", "")
    try:
        return read_base(name)
    except ValueError as error:
        raise ValueError(f"{folder} holds only what was learned on top of {name!r}: {error}") from error


def load_derived(folder: Path, device: str = "cpu", cache: Path | None = None) -> Released:
    """The model as it was saved. Raises ValueError when it, or its base, is missing or damaged."""
    base = base_of(folder)
    height, width = read_json(folder / BASE)["picture"]
    if (folder / ADAPTER).exists():
        model = load_base(base, (height, width), device, cache=cache)
        load_adapter(model.network, folder / ADAPTER)
        return model
    text = VisionLanguageEncoder(base.folder, base.task, device, None, cache)
    with torch.device("meta"):
        network = MMDiT(base.transformer)
    load_into(network, folder, device, explain=explain)
    return Released(network, base, (height, width), device, text, load_vae(base))
