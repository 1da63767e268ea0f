"""Trains the network of glyph_network.py on crops whose truth is known: a generator, an update at a time.

    (1)  loss = BCE(score, sound) + MAP BCE(where, broken)

Sound crops are sometimes shown with the references of another character, and are then not sound: what a character is
supposed to be comes from its references alone. Their map counts for nothing, since nobody can say where a B is no A.

Shapes: N crops, C characters, B a batch, ZZ the square, MM the cells.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from rewards.glyph.glyph_network import CELLS, GlyphNetwork, as_input
from rewards.glyph.glyph_settings import TrainGlyph

MAP = 0.5
SMOOTHING = 0.02
ALIKE = 0.055
"""mean difference of two characters' references, in shares of full ink, up to which they are one character here: o and
O, 0 and O"""


@dataclass(frozen=True)
class Examples:
    """Crops with what is known of them; ``character_N`` says which row of the references each is compared with."""

    crop_NZZ: np.ndarray
    """uint8"""
    character_N: np.ndarray
    sound_N: np.ndarray
    """bool"""
    broken_NMM: np.ndarray
    """uint8, 255 = the cell's shape is wrong"""
    references_C2ZZ: np.ndarray
    """uint8"""
    language_C: np.ndarray
    """number of the language that a character is of: it is only mistaken for others of it"""

    def __post_init__(self) -> None:
        count = len(self.crop_NZZ)
        if not count or not (len(self.character_N) == len(self.sound_N) == len(self.broken_NMM) == count):
            raise ValueError(f"{count} crops with {len(self.character_N)} characters; there must be one of each a crop")
        if self.broken_NMM.shape[1:] != (CELLS, CELLS):
            raise ValueError(f"maps are {self.broken_NMM.shape[1:]}; they must be {(CELLS, CELLS)}")


@dataclass(frozen=True)
class Update:
    """What an update left: its number from 1, its metrics, and everything that is needed to go on from here."""

    number: int
    metrics: dict[str, float]
    network: GlyphNetwork
    optimizer: torch.optim.Optimizer

    def state(self) -> dict[str, Any]:
        return {"update": self.number, "network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}


def rate_at(cfg: TrainGlyph, update: int) -> float:
    """Learning rate of an update, from 0: a short rise, then half a cosine down to 0."""
    rise = min(100, max(cfg.updates // 10, 1))
    if update < rise:
        return cfg.rate * (update + 1) / rise
    return cfg.rate * 0.5 * (1 + math.cos(math.pi * (update - rise) / max(cfg.updates - rise, 1)))


def rows_at(cfg: TrainGlyph, count: int, update: int) -> np.ndarray:
    """Which crops an update sees: every one once before any comes again, in an order of the seed."""
    first = update * cfg.batch
    rows = []
    for position in range(first, first + cfg.batch):
        rows.append((position // count, position % count))
    passes = {number: np.random.default_rng((cfg.seed, 1, number)).permutation(count) for number, _ in rows}
    return np.array([passes[number][position] for number, position in rows])


def confused(cfg: TrainGlyph, examples: Examples, rows_B: np.ndarray, update: int) -> tuple[np.ndarray, np.ndarray]:
    """(character that each crop is compared with, whether that is another than its own), [B] each."""
    rng = np.random.default_rng((cfg.seed, 2, update))
    own_B = examples.character_N[rows_B]
    # only characters that are learned from: a reference that came with broken crops alone would say by itself that
    # they are broken
    learned = np.unique(examples.character_N)
    other_B = learned[rng.integers(len(learned), size=len(rows_B))]
    share = cfg.wrong / max(float(examples.sound_N.mean()), 1e-9)
    swapped_B = (rng.random(len(rows_B)) < share) & examples.sound_N[rows_B]
    swapped_B &= examples.language_C[own_B] == examples.language_C[other_B]
    references = examples.references_C2ZZ
    distance_B = np.abs(references[own_B].astype(np.int16) - references[other_B]).mean((1, 2, 3)) / 255.0
    swapped_B &= distance_B > ALIKE
    return np.where(swapped_B, other_B, own_B), swapped_B


def loss(score_B: Tensor, where_BMM: Tensor, sound_B: Tensor, broken_BMM: Tensor, known_B: Tensor) -> Tensor:
    """(1), in nats. ``known_B`` is 1 where the map is known."""
    smooth_B = sound_B * (1 - 2 * SMOOTHING) + SMOOTHING
    map_B = cross_entropy(where_BMM, broken_BMM, reduction="none").mean((1, 2))
    return cross_entropy(score_B, smooth_B) + MAP * (map_B * known_B).sum() / known_B.sum().clamp(min=1)


def train(
    examples: Examples, cfg: TrainGlyph, state: dict[str, Any] | None = None, begin: dict[str, Tensor] | None = None
) -> Iterator[Update]:
    """The updates after those of ``state`` (``Update.state``; None = from the start, which is the weights ``begin``
    or random), each as it is done."""
    torch.manual_seed(cfg.seed)
    network = GlyphNetwork(cfg.width).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), lr=cfg.rate, weight_decay=cfg.decay)
    start = 0
    if begin is not None:
        network.load_state_dict(begin)
    if state is not None:
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        start = int(state["update"])
    references = torch.from_numpy(examples.references_C2ZZ)
    for update in range(start, cfg.updates):
        rows_B = rows_at(cfg, len(examples.crop_NZZ), update)
        character_B, swapped_B = confused(cfg, examples, rows_B, update)
        crop_BZZ = torch.from_numpy(examples.crop_NZZ[rows_B])
        x_B3ZZ = as_input(crop_BZZ, references[character_B]).contiguous(memory_format=torch.channels_last)
        sound_B = torch.from_numpy(examples.sound_N[rows_B] & ~swapped_B).float()
        broken_BMM = torch.from_numpy(examples.broken_NMM[rows_B]).float() / 255.0
        for group in optimizer.param_groups:
            group["lr"] = rate_at(cfg, update)
        network.train()
        score_B, where_BMM = network(x_B3ZZ)
        value = loss(score_B, where_BMM, sound_B, broken_BMM, torch.from_numpy(~swapped_B).float())
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        right = float(((score_B > 0) == (sound_B > 0.5)).float().mean())
        yield Update(update + 1, {"loss": float(value.detach()), "right": right}, network.eval(), optimizer)
