"""Checkpoints that all ranks agree on, and the finished model that is made of the last one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from base_model.engine.engine import Engine
from base_model.engine.engine_files import AVERAGE_FILE, META_FILE, MODULE_FILE
from base_model.files.checkpoint import latest
from base_model.lora import NAME, adapter_layers, adapter_settings, has_adapter, inject
from base_model.policy_model import PolicyModel
from base_model.train_vae import Autoencoder


def agreed_checkpoint(engine: Engine, folder: Path) -> Path | None:
    """The newest intact checkpoint, which rank 0 finds and checks, and all ranks take; None without one.

    Raises ValueError on every rank when one of them does not see it.
    """
    newest = latest(folder) if engine.rank == 0 else None
    mine = int(newest.name.removeprefix("update_")) if newest else -1
    update = int(engine.gather(torch.tensor([mine], device=engine.device))[0])
    if update < 0:
        return None
    chosen = folder / f"update_{update:06d}"
    seen = engine.gather(torch.tensor([int((chosen / META_FILE).is_file())], device=engine.device)).tolist()
    if not all(seen):
        blind = [rank for rank, sees in enumerate(seen) if not sees]
        raise ValueError(
            f"rank 0 goes on from {chosen}, which ranks {blind} do not see: on several nodes a run's folder must be on "
            "a disk that all of them share"
        )
    return chosen


def trained_weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """What was learned, whole and in float32, from a checkpoint of any engine: the average where one was kept.

    The tensors are views of the files, which the system reads as they are used.
    """
    weights = load_file(checkpoint / MODULE_FILE)
    average = checkpoint / AVERAGE_FILE
    return weights | (load_file(average) if average.exists() else {})


def finished_model(
    model: PolicyModel | Autoencoder, checkpoint: Path, start: Callable[[], Mapping[str, torch.Tensor]]
) -> PolicyModel | Autoencoder:
    """The model with the weights of a checkpoint, on the host, beside the one on the card and without a copy of it.

    `start` gives what a checkpoint leaves out, the network's weights before training by their names: the adapter of a
    small preset is merged into them. Raises ValueError when weights are missing.
    """
    tensors = trained_weights(checkpoint)
    if not isinstance(model, PolicyModel):
        return finished_autoencoder(model, tensors)
    adapted = has_adapter(model.network)
    network = model.hollow_network()
    if adapted:
        settings = adapter_settings(model.network)
        with torch.device("meta"):
            inject(network, settings.rank, settings.alpha, list(adapter_layers(model.network)))
    alone = adapted and model.keeps_base  # which keeps its weights: the adapter alone is saved
    if adapted and not alone:
        tensors = below_adapters(start(), network) | tensors
    network.load_state_dict(tensors, strict=False, assign=True)
    require_whole(network, checkpoint, f".{NAME}." if alone else "")
    finished = copy.copy(model)
    finished.network = finished.trainable = network
    return finished


def finished_autoencoder(vae: Autoencoder, tensors: Mapping[str, torch.Tensor]) -> Autoencoder:
    """An autoencoder of the same kind around these tensors."""
    made = vae.hollow()
    made.load_state_dict(tensors, assign=True)
    return made


def below_adapters(weights: Mapping[str, torch.Tensor], network: nn.Module) -> dict[str, torch.Tensor]:
    """Weights of a plain network by the names that they have where `network` has adapters."""
    layers = adapter_layers(network)
    named = {}
    for name, weight in weights.items():
        layer, _, leaf = name.rpartition(".")
        named[f"{layer}.base_layer.{leaf}" if layer in layers else name] = weight
    return named


def require_whole(network: nn.Module, checkpoint: Path, part: str) -> None:
    """Raises ValueError when parameters with `part` in their names have no values."""
    if hollow := [name for name, p in network.named_parameters() if p.is_meta and part in name]:
        raise ValueError(f"{checkpoint} lacks {len(hollow)} of the weights that were trained, first {hollow[:3]}")
