"""Checkpoints that all ranks agree on, and the finished model that is made of the last one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

from base_model.engine.engine import Engine
from base_model.engine.engine_files import AVERAGE_FILE, META_FILE, MODULE_FILE
from base_model.files.checkpoint import latest
from base_model.files.released import Released
from base_model.lora import NAME, adapter_layers, adapter_settings, has_adapter, inject
from base_model.qwen.mmdit import MMDiT
from base_model.qwen.model import QwenImage
from base_model.qwen.vae import QwenImageVAE


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
    model: QwenImage | QwenImageVAE, checkpoint: Path, start: Callable[[], QwenImage | QwenImageVAE]
) -> QwenImage | QwenImageVAE:
    """The model with the weights of a checkpoint, on the host, beside the one on the card and without a copy of it.

    `start` opens what training began from, for what a checkpoint leaves out: the frozen weights that an adapter of a
    small preset is merged into.
    """
    tensors = trained_weights(checkpoint)
    if not isinstance(model, QwenImage) or (has_adapter(model.network) and not isinstance(model, Released)):
        whole = start()
        module = whole.network if isinstance(whole, QwenImage) else whole
        module.load_state_dict(tensors, strict=False)
        return whole
    with torch.device("meta"):
        network = MMDiT(model.network.cfg)
        if has_adapter(model.network):  # of a released checkpoint, which keeps its weights: the adapter alone is saved
            settings = adapter_settings(model.network)
            inject(network, settings.rank, settings.alpha, list(adapter_layers(model.network)))
    network.load_state_dict(tensors, strict=False, assign=True)
    if hollow := [n for n, p in network.named_parameters() if p.is_meta and (f".{NAME}." in n or n in tensors)]:
        raise ValueError(f"{checkpoint} lacks {len(hollow)} of the weights that were trained, first {hollow[:3]}")
    finished = copy.copy(model)
    finished.network = finished.trainable = network
    return finished
