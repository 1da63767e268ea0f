"""Weight files that explain themselves: safetensors with the module's configuration in the header.

A model folder holds transformer.safetensors and vae.safetensors; the size of its images is in the former's header.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from base_model.files.delta import is_derived, load_derived, save_derived
from base_model.frozen_linear import BaseStorage
from base_model.lora import has_adapter, merged_weights, save_adapter
from base_model.policy_model import PolicyModel
from base_model.qwen.mmdit import MMDiT, MMDiTConfig
from base_model.qwen.model import QwenImage
from base_model.qwen.vae import QwenImageVAE, VAEConfig

NANO_VAE = Path(__file__).parent / "nano_vae.safetensors"
"""The autoencoder that ships with the project, made by experiments/configs/nano_vae.py."""


def save_vae(vae: QwenImageVAE, path: Path) -> None:
    """Write weights and configuration to one file, whole or not at all."""
    write(vae, path, {"kind": "vae", "config": dataclasses.asdict(vae.cfg)})


def load_vae(path: Path = NANO_VAE) -> QwenImageVAE:
    """The autoencoder of a file written by `save_vae`, in evaluation mode.

    Raises ValueError when the file is missing, damaged or not such a file.
    """
    header, tensors = read(path, "vae")
    vae = QwenImageVAE(VAEConfig(**tuples(header["config"])))
    vae.load_state_dict(tensors, strict=True)
    return vae.eval()


def save_model(model: PolicyModel, folder: Path) -> None:
    """Write the network and the autoencoder of a model. An adapter is merged, and also written by itself.

    Of a model that began from a released checkpoint only what it learned is written: see delta.py.
    """
    if model.keeps_base:
        save_derived(model, folder)
        return
    folder.mkdir(parents=True, exist_ok=True)
    header = {"kind": "transformer", "config": dataclasses.asdict(model.network.cfg), "picture": model.native}
    write(model.network, folder / "transformer.safetensors", header)
    if has_adapter(model.network):
        save_adapter(model.network, folder / "adapter.safetensors")
    save_vae(model.vae, folder / "vae.safetensors")


def holds_model(folder: Path) -> bool:
    """Whether there is something for `load_model`."""
    return (folder / "transformer.safetensors").exists() or is_derived(folder)


def load_model(
    folder: Path, device: str = "cpu", cache: Path | None = None, storage: BaseStorage | None = None
) -> PolicyModel:
    """The model of a folder written by `save_model`. Raises ValueError as `load_vae` does.

    `cache` is where a language model's embeddings are kept; small presets need none. `storage`: see `load_derived`.
    """
    if is_derived(folder):
        return load_derived(folder, device, cache, storage)
    header, tensors = read(folder / "transformer.safetensors", "transformer")
    network = MMDiT(MMDiTConfig(**tuples(header["config"])))
    network.load_state_dict(tensors, strict=True)
    height, width = header["picture"]
    return QwenImage(network, load_vae(folder / "vae.safetensors"), (height, width), device)


def read_network(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of the network of a folder written by `save_model`, as views of its file."""
    return read(folder / "transformer.safetensors", "transformer")[1]


def write(module: nn.Module, path: Path, header: Mapping[str, Any]) -> None:
    tensors = {name: value.detach().cpu().contiguous() for name, value in merged_weights(module).items()}
    partial = path.with_name(path.name + ".partial")
    save_file(tensors, partial, metadata={"glyphlab": json.dumps(header)})
    partial.replace(path)


def read(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Header and tensors. Raises ValueError naming the file and what is wrong with it."""
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("glyphlab", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ValueError(f"cannot read {path}: {error}; restore it, or run again what made it") from error
    if header.get("kind") != kind:
        raise ValueError(
            f"{path} is not a Glyphlab {kind} file (its header says {header.get('kind')!r}); name another file"
        )
    return header, tensors


def tuples(settings: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no tuples; configurations have no lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
