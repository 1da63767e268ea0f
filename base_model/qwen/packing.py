"""Batches whose samples differ in length, without computing on padding.

A `Stream` holds the real tokens of the samples behind one another, so a linear layer sees no padding. A `Joint` says in
which order text and image rows meet for attention: sample by sample, text before image, samples of one joint length
side by side. Those attend together, so no attention mask exists anywhere and every attention kernel can be used.

Shapes: B samples, L padded tokens, n tokens of each sample when all have the same number, N real tokens of the batch,
D width, H heads, E channels of a head. A stream's tokens are [B, n, D] when all samples have the same number of them,
[N, D] otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Stream:
    """The real tokens of one stream."""

    lengths: tuple[int, ...]
    """real tokens of each sample"""
    padded: int
    """L"""
    sample_N: Tensor
    """which sample a real token belongs to"""
    index_N: Tensor
    """which of the L places it has"""
    vector_N: Tensor | None = None
    """which vector of `spread` belongs to a real token; None: its sample's"""

    @property
    def even(self) -> bool:
        """All samples have the same number of tokens."""
        return len(set(self.lengths)) == 1

    @property
    def full(self) -> bool:
        """Says whether no token is padding."""
        return self.sample_N.shape[0] == len(self.lengths) * self.padded

    def pack(self, x_BLD: Tensor) -> Tensor:
        """Selects the tokens that are no padding."""
        if self.full:
            return x_BLD
        packed = x_BLD.flatten(0, 1).index_select(0, self.sample_N * self.padded + self.index_N)
        return packed.unflatten(0, (len(self.lengths), self.lengths[0])) if self.even else packed

    def unpack(self, x: Tensor) -> Tensor:
        """[B, L, D] with zeros for padding."""
        if self.full:
            return x
        B, L, D = len(self.lengths), self.padded, x.shape[-1]
        rows = self.sample_N * L + self.index_N
        return x.new_zeros(B * L, D).index_copy(0, rows, x.reshape(-1, D)).view(B, L, D)

    def spread(self, vector_KD: Tensor) -> Tensor:
        """Vectors, one a sample unless `vector_N` says otherwise, to what broadcasts against the stream's tokens."""
        if self.vector_N is None:
            return vector_KD[:, None] if self.even else vector_KD.index_select(0, self.sample_N)
        spread = vector_KD.index_select(0, self.vector_N)
        return spread.unflatten(0, (len(self.lengths), self.lengths[0])) if self.even else spread


def full_stream(samples: int, length: int, device: torch.device) -> Stream:
    """Makes a stream in which no token is padding."""
    index = torch.arange(length, device=device).repeat(samples)
    sample = torch.arange(samples, device=device).repeat_interleave(length)
    return Stream((length,) * samples, length, sample, index)


def masked_stream(mask_BL: Tensor) -> Stream:
    """The stream of the tokens whose bool mask is True; any pattern."""
    sample, index = mask_BL.nonzero(as_tuple=True)
    return Stream(tuple(mask_BL.sum(1).tolist()), mask_BL.shape[1], sample, index)


def leading_stream(lengths: Sequence[int], padded: int, device: torch.device) -> Stream:
    """The stream of the first tokens of every sample: `masked_stream` of `leading`, without asking the device."""
    stream = masked_stream(leading(lengths, padded, torch.device("cpu")))
    sample, index = (x.to(device, non_blocking=True) for x in (stream.sample_N, stream.index_N))
    return Stream(stream.lengths, padded, sample, index)


def image_stream(lengths: tuple[int, ...], padded: int, device: torch.device) -> Stream:
    """The stream whose samples have this many tokens, padding behind them."""
    if all(length == padded for length in lengths):
        return full_stream(len(lengths), padded, device)
    return leading_stream(lengths, padded, device)


def leading(lengths: Sequence[int], padded: int, device: torch.device) -> Tensor:
    """[B, padded] bool: True for the first tokens of every sample."""
    return torch.arange(padded, device=device) < torch.tensor(lengths, device=device)[:, None]


class Permuted(torch.autograd.Function):
    """Rows in another order. The gradient is a gather as well, where that of `index_select` adds row by row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order_N: Tensor, inverse_N: Tensor) -> Tensor:
        ctx.save_for_backward(order_N, inverse_N)
        return x.index_select(0, order_N)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        _, inverse_N = ctx.saved_tensors
        return grad.index_select(0, inverse_N), None, None


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention of [B, H, n, E], answered in the type of q: on a CPU always computed in float32.

    The CPU's 16-bit kernel takes ten times as long for the backward pass (experiments/reports/2026-11-30-speedrun.md).
    """
    if q.device.type == "cpu" and q.dtype != torch.float64:
        return F.scaled_dot_product_attention(q.float(), k.float(), v.float()).to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v)


@dataclass(frozen=True)
class Joint:
    """Text and image rows together."""

    order_N: Tensor
    """for every joint row, its place in [all text rows, all image rows]"""
    inverse_N: Tensor
    """for every row of [all text rows, all image rows], its joint row"""
    groups: tuple[tuple[int, int], ...]
    """(samples, tokens of each) of the runs of equal joint length"""

    @property
    def single(self) -> bool:
        """There is one sample, so both orders are the same."""
        return self.groups[0][0] == len(self.groups) == 1

    def sorted(self, txt: Tensor, img: Tensor) -> Tensor:
        """Joint rows of text rows and image rows."""
        rows = torch.cat([txt, img])
        return rows if self.single else Permuted.apply(rows, self.order_N, self.inverse_N)

    def unsorted(self, rows: Tensor) -> Tensor:
        """All text rows, then all image rows, of joint rows."""
        return rows if self.single else Permuted.apply(rows, self.inverse_N, self.order_N)

    def attend(self, q_NHE: Tensor, k_NHE: Tensor, v_NHE: Tensor) -> Tensor:
        """Full attention within every sample, on joint rows. Returns [N, H * E]."""
        sizes = [samples * tokens for samples, tokens in self.groups]
        runs = zip(self.groups, *(x.split(sizes) for x in (q_NHE, k_NHE, v_NHE)), strict=True)
        mixed = []
        for group, *qkv in runs:
            q, k, v = (x.unflatten(0, group).transpose(1, 2) for x in qkv)
            mixed.append(attention(q, k, v).transpose(1, 2).reshape(group[0] * group[1], -1))
        return torch.cat(mixed) if len(mixed) > 1 else mixed[0]


def join(txt: Stream, img: Stream) -> Joint:
    """The joint order of two streams of the same samples."""
    lengths = [a + b for a, b in zip(txt.lengths, img.lengths, strict=True)]
    by_length = sorted(range(len(lengths)), key=lengths.__getitem__)
    rank = torch.tensor(by_length).argsort().to(txt.sample_N.device, non_blocking=True)
    # Stable: text rows come first in the concatenation, so they stay before the image rows of their sample.
    order = rank[torch.cat([txt.sample_N, img.sample_N])].argsort(stable=True)
    groups = tuple((len(list(run)), n) for n, run in groupby(lengths[i] for i in by_length))
    return Joint(order, order.argsort(), groups)
