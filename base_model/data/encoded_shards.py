"""Encoded batches in one file, a shard: rows of one shape lie together, and the head says what made them.

A shard is a safetensors file. Rows of one shape and type are one tensor, a bucket, so nothing is padded; the head names
of every sample its row, caption, grid and sources, what the shard was made of, and the SHA-256 of all of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from base_model.interface import padded_together, token_count
from base_model.pretrain import Batch

HEAD = "shard"
"""the name in the head under which everything is"""
Row = tuple[str, int]
"""a bucket, and which of its rows"""


class _Buckets:
    """Tensors by their shape and type, while a shard is made."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Tensor]] = {}

    def put(self, kind: str, tensor: Tensor) -> Row:
        """Keep a tensor; where it is."""
        name = f"{kind}_{'x'.join(map(str, tensor.shape))}_{str(tensor.dtype).removeprefix('torch.')}"
        rows = self.rows.setdefault(name, [])
        rows.append(tensor)
        return name, len(rows) - 1


def sealed(batches: Sequence[Batch], about: Mapping[str, Any]) -> bytes:
    """Batches as the bytes of a shard. `about` says what they follow from, as JSON can hold it."""
    buckets = _Buckets()
    heads: list[dict[str, Any]] = []
    for batch in batches:
        lengths = [token_count([grid]) for grid in batch.grids] or [batch.x0_BSC.shape[1]] * len(batch.x0_BSC)
        rows = [buckets.put("row", x0[:length]) for x0, length in zip(batch.x0_BSC, lengths, strict=True)]
        sources = [[buckets.put("source", image) for image in own] for own in batch.sources]
        heads.append({"rows": rows, "texts": list(batch.texts), "grids": batch.grids, "sources": sources})
    tensors = {name: torch.stack(rows).contiguous() for name, rows in buckets.rows.items()}
    head = {"about": about, "batches": heads, "sha256": _digest(tensors, heads)}
    return save(tensors, {HEAD: json.dumps(head, sort_keys=True)})  # one name: the order of several is by chance


def _digest(tensors: Mapping[str, Tensor], batches: list[dict[str, Any]]) -> str:
    digest = sha256(json.dumps(batches, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def about_shard(path: Path) -> Mapping[str, Any]:
    """What a shard was made of; {} where there is no such file, or it is none."""
    try:
        with safe_open(path, "pt") as file:
            about: Mapping[str, Any] = json.loads(file.metadata()[HEAD])["about"]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return {}
    return about


class Shard:
    """The batches of a file. Raises ValueError when it is damaged, as its SHA-256 says."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = safe_open(path, "pt")
            head = json.loads(self._file.metadata()[HEAD])
            self._buckets = {name: self._file.get_slice(name) for name in self._file.keys()}  # noqa: SIM118
            is_whole = _digest({name: part[:] for name, part in self._buckets.items()}, head["batches"])
        except (SafetensorError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a whole shard: {error}; delete it, and it is made again") from error
        if is_whole != head["sha256"]:
            raise ValueError(f"{path} is damaged, its SHA-256 is another one; delete it, and it is made again")
        self._batches: list[dict[str, Any]] = head["batches"]

    def __len__(self) -> int:
        return len(self._batches)

    def _row(self, row: Row) -> Tensor:
        bucket, index = row
        rows: Tensor = self._buckets[bucket][index : index + 1]
        return rows

    def rows(self, positions: Sequence[tuple[int, int]]) -> Tensor:
        """The latents of (batch, sample) positions, in their order, zeros behind the shorter ones."""
        parts = [self._row(self._batches[batch]["rows"][sample]) for batch, sample in positions]
        return padded_together(parts) if parts[0].dim() == 3 else torch.cat(parts)

    def batch(self, index: int) -> Batch:
        """One of the batches, as it was sealed."""
        head = self._batches[index]
        x0 = self.rows([(index, sample) for sample in range(len(head["rows"]))])
        sources = [[self._row(row)[0] for row in own] for own in head["sources"]]
        return Batch(x0, head["texts"], tuple((h, w) for h, w in head["grids"]), sources or ())
