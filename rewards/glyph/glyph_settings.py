"""The settings of a glyph network's training, which are options of `glyphlab train-glyph`. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainGlyph:
    """How the network is trained. Raises ValueError for settings that cannot work."""

    updates: int = 3600
    """steps of the training, about 60 ms each; more see better"""
    batch: int = 64
    """characters an update"""
    rate: float = 2e-3
    """learning rate at its highest; it falls to 0 as a half cosine"""
    decay: float = 1e-2
    """of the weights, in AdamW"""
    wrong: float = 0.12
    """share of a batch that is shown with the references of another character"""
    width: int = 16
    """channels of the first layer"""
    own: int = 400
    """further steps of each language's own network, which begins as the one that learned from all of them"""
    own_rate: float = 6e-4
    """learning rate of those at its highest"""
    seed: int = 0
    """of characters, damage and network: train two, learn from one and evaluate with the other"""

    def __post_init__(self) -> None:
        if min(self.updates, self.own, self.batch, self.width) < 1 or self.seed < 0:
            raise ValueError(
                f"updates={self.updates}, own={self.own}, batch={self.batch}, width={self.width} must be at least 1 "
                f"and seed={self.seed} at least 0"
            )
        rates = (self.rate, self.own_rate)
        if not (all(0 < each < 1 for each in rates) and 0 <= self.decay < 1 and 0 <= self.wrong < 1):
            raise ValueError(
                f"rate={self.rate} and own_rate={self.own_rate} must be above 0, decay={self.decay} and "
                f"wrong={self.wrong} from 0, all below 1"
            )
