"""What rank 0 reads, on every rank: a checkpoint is read from the disk once, however many processes go on from it.

One tensor is on its way at a time, on the device, because a process group of GPUs sends nothing that lies on the host.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from base_model.engine.engine_files import layout_of, like, read_one_by_one


def of_rank_0(mine: Tensor | None, layout: Tensor, device: torch.device) -> Tensor:
    """Rank 0's tensor on the device of every rank. `layout` has its shape and type; the others bring nothing."""
    if mine is not None:
        shared = mine.to(device, layout.dtype).contiguous()
    else:
        shared = torch.empty(layout.shape, dtype=layout.dtype, device=device)
    if shared.numel():  # as bytes, since not every process group sends every type
        dist.broadcast(shared.detach().flatten().view(torch.uint8), 0)
    return shared


def read_on_all(path: Path, device: torch.device) -> Iterator[tuple[str, Tensor]]:
    """Name and tensor of a safetensors file, on every rank; the others than rank 0 read its header alone."""
    layout = layout_of(path)
    if dist.get_rank() == 0:
        for name, tensor in read_one_by_one(path):
            yield name, of_rank_0(tensor, layout[name], device)
    else:
        for name, expected in layout.items():
            yield name, of_rank_0(None, expected, device)


def load_on_all(path: Path, device: torch.device) -> Any:
    """What `torch.save` wrote, dictionaries and lists of tensors and numbers, on every rank; rank 0 reads it."""
    first = dist.get_rank() == 0
    value = torch.load(path, map_location="cpu", weights_only=True, mmap=True) if first else None
    tensors: list[Tensor] = []
    described: list[Any] = [_without_tensors(value, tensors)]
    dist.broadcast_object_list(described, 0, device=device)
    return _with_tensors(described[0], iter(tensors), device)


class _Hole:
    """Where a tensor of this shape and type belongs."""

    def __init__(self, tensor: Tensor) -> None:
        self.shape, self.dtype = tuple(tensor.shape), tensor.dtype


def _without_tensors(value: Any, tensors: list[Tensor]) -> Any:
    """The same with a hole for every tensor, which are collected in their order."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return _Hole(value)
    if isinstance(value, dict):
        return {key: _without_tensors(x, tensors) for key, x in value.items()}
    return [_without_tensors(x, tensors) for x in value] if isinstance(value, list) else value


def _with_tensors(value: Any, tensors: Iterator[Tensor], device: torch.device) -> Any:
    """The same with rank 0's tensors in the holes."""
    if isinstance(value, _Hole):
        return of_rank_0(next(tensors, None), like(value.shape, value.dtype), device)
    if isinstance(value, dict):
        return {key: _with_tensors(x, tensors, device) for key, x in value.items()}
    return [_with_tensors(x, tensors, device) for x in value] if isinstance(value, list) else value
