"""The settings of a reward model's training, which are options of `glyphlab train-reward`. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

TIES = ("rao_kupper", "davidson")
"""Likelihoods of ties, of which `rewards.learned.answer_likelihood` has the equations."""


@dataclass(frozen=True)
class TrainReward:
    """How a reward model is trained. Raises ValueError for settings that cannot work."""

    ties: str = "rao_kupper"
    """likelihood of ties. rao_kupper: a threshold below which no difference is seen; davidson: ties in proportion to
    the geometric mean"""
    hidden: int = 0
    """units of a hidden layer; 0 = a linear head, which a few thousand answers cannot overfit much"""
    decays: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 0.4)
    """weights of |w|^2 that are tried; the best out-of-fold likelihood wins"""
    margin: float = 0.0
    """how much larger the gap should be per unit of an answer's strength; 0 ignores strengths"""
    annotators: bool = True
    """learn how reliable each annotator is; with a single one there is nothing to learn"""
    heads: int = 5
    """fits on reweighted prompts that measure the uncertainty; 0 saves their time"""
    folds: int = 5
    """parts, which share no prompt and no image, of which each is predicted by a fit on the others"""
    held_out: float = 0.15
    """share of the answers that only the model card's numbers see, by prompt and by image"""
    seed: int = 0
    """of the split and the fit"""

    def __post_init__(self) -> None:
        if self.ties not in TIES:
            raise ValueError(f"ties is {self.ties!r}; choose one of {', '.join(TIES)}")
        if not 0 < self.held_out < 1 or self.folds < 2 or not self.decays or min(self.decays) < 0:
            raise ValueError(
                f"held_out={self.held_out}, folds={self.folds}, decays={self.decays}: a share between 0 and 1, at "
                "least 2 folds and at least one decay, none negative"
            )
