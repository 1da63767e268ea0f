"""Drops images that have the captions of another one, by a wider distance of their hashes."""

from __future__ import annotations

import numpy as np

from experiments.curation.filters.rules import REPORT, AtLeast, Columns
from experiments.curation.hash_distances import distances, order_of_preference

SHARED = 1000
"""images with one caption beyond which it tells nothing"""


class RepeatedText(AtLeast):
    """Images that share their captions with another one and look rather like it, and pages with equal captions.

    Equal captions are evidence, so the hashes may differ by more than those of near duplicates: cut narrower, with a
    logo, or lit in another way. The caption of a written page names its text, face, size, colour and place, so pages
    with equal captions are one page on two grounds. A caption that more than `SHARED` images have says nothing of them.
    """

    stage = 1
    column = "text_distance"
    unit = "bits of 64 that differ from the perceptual hash of a kept image with the same captions"
    reason = (
        "cutting 4 % off each side changes 6 to 12 bits of most photographs; unlike photographs differ by 20 and more"
    )
    source = f"{REPORT}: Deduplication of image and text pairs"
    rendered = True
    least: float = 13.0
    verified: float = 16.0
    """most bits in which a second hash, of differences, may differ"""

    def prepared(self, columns: Columns, alive: np.ndarray, good: np.ndarray) -> dict[str, np.ndarray]:
        """`text_distance` to the nearest preferred image with these captions, 0 of pages, and its row."""
        result, partner = np.full(len(alive), np.nan), columns["duplicate_of"].copy()
        rows = np.flatnonzero(alive & columns["alone"] & (columns["texts"] != ""))
        rows = rows[np.argsort(order_of_preference(columns, good)[rows], kind="stable")]
        _, group = np.unique(columns["texts"][rows].astype(str), return_inverse=True)
        order = np.argsort(group, kind="stable")
        edges = np.flatnonzero(np.diff(group[order])) + 1
        for own in np.split(rows[order], edges):
            pages, images = own[columns["rendered"][own]], own[~columns["rendered"][own] & columns["hashed"][own]]
            if len(pages) > 1:
                result[pages[1:]], partner[pages[1:]] = 0.0, pages[0]
            if 1 < len(images) <= SHARED:
                result[images], partner[images] = distances(columns, images, self.least, self.verified)
        return {"text_distance": result, "duplicate_of": partner}
