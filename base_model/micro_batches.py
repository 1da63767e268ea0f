"""Splits a rank's samples into micro-batches that a network can be asked for in one call.

Networks that take samples of any sizes get `micro` samples a call, in order. Networks of diffusers take one size a
call: there, samples of one size (of what is made, and of their condition images) share a micro-batch. These are then
not equally large, and an engine's mean over them would weigh a sample in a small one more, so each has a share:

    (B1)  mean over N samples = mean over M micro-batches of  s_k mean over the n_k samples of k,   s_k = n_k M / N

Every rank has as many micro-batches as the one that needs most, or ranks that share weights would wait for one another
for ever. A rank that needs fewer splits its largest; there are never more than it has samples.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from base_model.engine.engine import Engine
from base_model.interface import Conditioning, FlowModel


class Part(NamedTuple):
    """The samples of one micro-batch."""

    rows: slice | list[int]
    share: float
    """s_k of (B1)"""


def split(model: FlowModel, engine: Engine, cond: Conditioning, micro: int) -> list[Part]:
    """Micro-batches of at most `micro` of the samples of `cond`: called on every rank, with as many samples each."""
    N = len(cond)
    if not getattr(model, "one_size_a_call", False):
        return [Part(slice(i, i + micro), 1.0) for i in range(0, N, micro)]
    groups = alike(engine, [*zip(cond.grids, cond.image_grids or ((),) * N, strict=True)], micro)
    return [Part(rows, len(rows) * len(groups) / N) for rows in groups]


def alike(engine: Engine, keys: Sequence[Hashable], micro: int) -> list[list[int]]:
    """At most `micro` rows of equal keys each: on every rank as many groups, where all have as many rows."""
    by_key: dict[Hashable, list[int]] = {}
    for row, key in enumerate(keys):
        by_key.setdefault(key, []).append(row)
    groups = [rows[i : i + micro] for rows in by_key.values() for i in range(0, len(rows), micro)]
    most = int(engine.gather(torch.tensor([len(groups)], device=engine.device)).max())
    while len(groups) < most:
        largest = max(range(len(groups)), key=lambda k: len(groups[k]))
        rows = groups[largest]
        groups[largest : largest + 1] = [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
    return groups


def weighed(total: Tensor, metrics: dict[str, Tensor], share: float) -> tuple[Tensor, dict[str, Tensor]]:
    """A micro-batch's means, times its share (B1); as they are where all micro-batches are equally large."""
    if share == 1.0:
        return total, metrics
    return total * share, {name: value * share for name, value in metrics.items()}
