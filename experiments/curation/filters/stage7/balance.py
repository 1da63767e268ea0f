"""Drops what a category at one scale has beyond its share of the set."""

from __future__ import annotations

import numpy as np

from experiments.curation.balancing.image_categories import cells
from experiments.curation.filters.rules import REPORT, AtMost, Columns


class Balance(AtMost):
    """The surplus of a category at one scale: its best images stay."""

    stage = 7
    column = "surplus"
    unit = "images of the same category and scale that are better, beyond the share"
    reason = "what fills most of a set is what a model paints when it is asked for anything"
    source = f"{REPORT}: Category Balance, Balanced Multi-Scale"
    rendered = True
    share: float = 1.0
    """largest share of the set that a category at one scale may have; 1 = any"""
    most: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 < self.share <= 1.0:
            raise ValueError(f"share={self.share:g} must be above 0 and at most 1")

    def bounds(self) -> dict[str, float]:
        """No threshold where any share is allowed."""
        return super().bounds() if self.share < 1.0 else {}

    def prepared(self, columns: Columns, alive: np.ndarray, good: np.ndarray) -> dict[str, np.ndarray]:
        """`surplus` of each image that is left: 0 or less up to the share, then 1, 2, ...; the best come first."""
        surplus = np.full(len(alive), np.nan)
        rows = np.flatnonzero(alive & ~columns["is_source"])
        names = cells(columns)[rows]
        _, group, counts = np.unique(names, return_inverse=True, return_counts=True)
        room = most_of_a_cell(counts, self.share)
        order = np.lexsort((columns["id"][rows].astype(str), -worth(columns)[rows], group))
        starts = np.r_[0, np.cumsum(counts)[:-1]]
        position = np.arange(len(rows)) - starts[group[order]]
        surplus[rows[order]] = np.maximum(position + 1 - room, 0)
        return {"surplus": surplus}


def worth(columns: Columns) -> np.ndarray:
    """[N] what is kept first: the aesthetic score, else the score of distortions, else nothing (then by the hash)."""
    for name in ("aesthetic", "distortion_score"):
        if name in columns and np.isfinite(columns[name]).any():
            return np.nan_to_num(columns[name], nan=-np.inf)
    return np.zeros(len(columns["name"]))


def most_of_a_cell(counts: np.ndarray, share: float) -> int:
    """The largest number of images a cell such that none has more than `share` of what is left.

    Raises ValueError where there are too few cells for it.
    """
    if share * len(counts) < 1.0 - 1e-9 and len(counts):
        raise ValueError(
            f"balance.share={share:g} is too small: {len(counts)} categories and scales have at least "
            f"{1.0 / len(counts):.2f} each; name more categories in the source, or a larger share"
        )
    low, high = 1, int(counts.max(initial=1))
    while low < high:
        middle = (low + high + 1) // 2
        total = int(np.minimum(counts, middle).sum())
        low, high = (middle, high) if min(middle, counts.max()) <= share * total + 1e-9 else (low, middle - 1)
    return low
