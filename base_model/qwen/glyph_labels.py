"""Asks a middle layer which character each latent token shows, where captions say so.

    (G1)  a_tc = (3 / sqrt(D)) <norm(h_t), r_c>          c among the batch's characters and "none"
    (G2)  L_g  = mean over tokens with a label of  -log softmax(a_t)_label

h_t is token t of the image stream behind a block, r_c ~ N(0, 1)^D a fixed vector of the character alone. So nothing is
added to the network, and a checkpoint is what it was. Representation alignment (REPA, Yu et al., arXiv:2410.06940)
compares the middle layer with what another network sees; a caption that names a word and its column says as much for
free. The copying of letters from caption to place, which the flow's error alone finds late, is learned first:
experiments/reports/2026-11-30-speedrun.md.

Shapes: B samples, S latent tokens, K characters of the batch and "none", D width.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from base_model.data.rendered_text import CELL, COLUMNS, ORDINALS, cell_of_word, first_cell_of
from base_model.interface import Grid

WORD = re.compile(rf'the word "([^"]+)".*\b({"|".join((*COLUMNS, *ORDINALS))})\b')
NO_TEXT = "no text"
"""how captions of images without text begin"""
NONE, UNKNOWN = 0, -1
"""labels of a token without a character, and of one that the caption says nothing of"""
SHARPNESS = 3.0
"""of (G1)"""


class GlyphLabels(NamedTuple):
    """What (G2) needs of one backward pass."""

    labels_BS: Tensor
    """int64: NONE, UNKNOWN, or which row of the readout"""
    readout_KD: Tensor
    """r_c, "none" first"""
    block: nn.Module
    """whose answer is asked: (image stream, text stream)"""
    weight: float
    """of (G2) beside the flow's error"""


@functools.cache
def readout(character: str, width: int) -> Tensor:
    """[width] the fixed vector of a character; "" stands for none."""
    return torch.randn(width, generator=torch.Generator().manual_seed(2_000_003 + ord(character or "\0")))


def columns_of(caption: str, columns: int) -> list[str] | None:
    """The character in each column of tokens, "" for none; None when the caption does not say."""
    if caption.startswith(NO_TEXT):
        return [""] * columns
    if not (match := WORD.search(caption)):
        return None
    word, column = match.groups()
    wide = cell_of_word(word) // CELL
    try:
        first = first_cell_of(word, column, columns * CELL)
    except ValueError:  # misspelt captions may name more than there is room for
        return None
    shown = [""] * columns
    for i, character in enumerate(word, first):
        shown[i * wide : (i + 1) * wide] = [character] * wide
    return shown


def label(captions: Sequence[str], grid: Grid, width: int) -> tuple[Tensor, Tensor]:
    """Labels [B, S] of the tokens of one grid, every row of it alike, and the readout [K, D] that they index."""
    rows, columns = grid
    shown = [columns_of(caption, columns) for caption in captions]
    characters = ["", *sorted({c for each in shown if each for c in each} - {""})]
    index = {c: i for i, c in enumerate(characters)}
    labels = torch.tensor([[index[c] for c in each] if each else [UNKNOWN] * columns for each in shown])
    return labels.repeat(1, rows), torch.stack([readout(c, width) for c in characters])


@contextmanager
def answers_of(block: nn.Module) -> Iterator[list[Tensor]]:
    """Collects the image stream behind a block of every call inside."""
    seen: list[Tensor] = []
    handle = block.register_forward_hook(lambda _, __, both: seen.append(both[0]))
    try:
        yield seen
    finally:
        handle.remove()


def glyph_error(h_BSD: Tensor, labels_BS: Tensor, readout_KD: Tensor) -> Tensor:
    """(G1), (G2); 0 when no token has a label."""
    D = h_BSD.shape[-1]
    a = F.layer_norm(h_BSD.float(), (D,)) @ readout_KD.T * (SHARPNESS / D**0.5)  # (G1)
    total = F.cross_entropy(a.flatten(0, 1), labels_BS.flatten(), ignore_index=UNKNOWN, reduction="sum")
    return total / (labels_BS != UNKNOWN).sum().clamp(min=1)  # (G2)
