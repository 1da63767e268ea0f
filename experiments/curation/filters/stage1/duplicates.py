"""Drops files that have the same bytes as one before them."""

from __future__ import annotations

import numpy as np

from experiments.curation.filters.rules import REPORT, AtMost, Columns


class Duplicates(AtMost):
    """Files that are another one's copy, byte for byte. Their captions count for the one that is kept.

    An edit is a copy when the images that it was made from are copies, too.
    """

    stage = 1
    column = "copies_before"
    unit = "files with the same bytes before this one"
    reason = "what is there twice is learned twice as often, and in the end by heart"
    source = f"{REPORT}: Deduplication"
    rendered = True
    most: float = 0.0

    def prepared(self, columns: Columns, alive: np.ndarray, good: np.ndarray) -> dict[str, np.ndarray]:
        """`copies_before` of each image, and in `duplicate_of` the row of the first copy (-1 for that one itself)."""
        rows = np.flatnonzero(alive)
        _, first, group = np.unique(columns["pair"][rows], return_index=True, return_inverse=True)
        order = np.argsort(group, kind="stable")
        starts = np.r_[True, np.diff(group[order]) != 0]
        before = np.arange(len(rows)) - np.maximum.accumulate(np.where(starts, np.arange(len(rows)), 0))
        copies, of = np.full(len(alive), np.nan), columns["duplicate_of"].copy()
        copies[rows[order]] = before
        later = rows[first[group]]
        of[rows] = np.where(later == rows, of[rows], later)
        return {"copies_before": copies, "duplicate_of": of}
