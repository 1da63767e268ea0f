"""Drops images by the distance of their perceptual hash from that of a kept image."""

from __future__ import annotations

import numpy as np

from experiments.curation.filters.rules import REPORT, AtLeast, Columns
from experiments.curation.hash_distances import distances, order_of_preference


class NearDuplicates(AtLeast):
    """Images that look like another one: saved again, scaled, shifted by some pixels. A mirrored image is another one.

    The one with most pixels is kept, of equal ones the sharpest; one that a filter of the stages 1 and 2 drops never
    takes the place of a good one. Rendered pages on one ground look alike to the hashes although their text differs, so
    they are left alone.
    """

    stage = 1
    column = "hash_distance"
    unit = "bits of 64 that differ from a kept image's perceptual hash"
    reason = "up to 4 bits are what saving as JPEG 60 or shifting by 2 pixels changes"
    source = f"{REPORT}: Deduplication; the hash of Zauner 2010"
    least: float = 5.0
    verified: float = 12.0
    """most bits in which a second hash, of differences, may differ"""

    def __post_init__(self) -> None:
        if not 0 <= self.least <= 17:
            raise ValueError(f"least={self.least:g} must be from 0 to 17 bits of 64; unlike images differ by about 32")

    def prepared(self, columns: Columns, alive: np.ndarray, good: np.ndarray) -> dict[str, np.ndarray]:
        """`hash_distance` to the nearest preferred image, and its row in `duplicate_of` (-1 where there is none)."""
        result, partner = np.full(len(alive), np.nan), columns["duplicate_of"].copy()
        rows = np.flatnonzero(alive & columns["alone"] & ~columns["rendered"] & columns["hashed"])
        rows = rows[np.argsort(order_of_preference(columns, good)[rows], kind="stable")]
        result[rows], partner[rows] = distances(columns, rows, self.least, self.verified)
        return {"hash_distance": result, "duplicate_of": partner}
