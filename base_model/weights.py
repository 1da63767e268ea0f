"""Weight files that explain themselves: safetensors with the module's configuration in the header."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from base_model.vae import QwenImageVAE, VAEConfig

NANO_VAE = Path(__file__).parent / "nano_vae.safetensors"
"""The autoencoder that ships with the project, made by experiments/configs/nano_vae.py."""


def save_vae(vae: QwenImageVAE, path: Path) -> None:
    """Write weights and configuration to one file, whole or not at all."""
    header = {"config": json.dumps(dataclasses.asdict(vae.cfg)), "format": "glyphlab-vae"}
    tensors = {name: value.detach().cpu().contiguous() for name, value in vae.state_dict().items()}
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata=header)
    partial.replace(path)


def load_vae(path: Path = NANO_VAE) -> QwenImageVAE:
    """The autoencoder of a file written by `save_vae`, in evaluation mode.

    Raises ValueError when the file is missing, damaged or not such a file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ValueError(f"cannot read the autoencoder {path}: {error}; restore it from the repository") from error
    if header.get("format") != "glyphlab-vae":
        raise ValueError(f"{path} holds no Glyphlab autoencoder (its header says {header.get('format')!r})")
    settings = json.loads(header["config"])
    vae = QwenImageVAE(VAEConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}))
    with torch.no_grad():
        vae.load_state_dict(tensors, strict=True)
    return vae.eval()
