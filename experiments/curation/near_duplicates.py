"""Images that look like an earlier one, by two hashes of 64 bits and a coarse image of colours.

Two numbers that differ in at most k bits are equal in at least one of k + 1 groups of bits, so candidates are those
that share a group. Hashes see grey alone, so the colours of 4 by 4 fields must be alike, too: a red and a green
shoe are two images. Up to `ALL_PAIRS` images every pair is compared, which also measures the distances beyond k.
"""

from __future__ import annotations

import itertools

import numpy as np

from experiments.curation.filters.rules import Columns

ALL_PAIRS = 8000
COLOUR = 16.0
"""levels of 255: mean difference of the 4 by 4 fields up to which colours are alike; JPEG 60 changes 1 or 2"""


def colour_fields(texts: np.ndarray) -> np.ndarray:
    """[N, 48] levels of the fields, from their hexadecimal texts."""
    return np.frombuffer(bytes.fromhex("".join(texts)), np.uint8).reshape(len(texts), 48).astype(np.int16)


def alike(fields: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether colours are alike, of the last axis."""
    return np.asarray(np.abs(fields - other).mean(-1) <= COLOUR)


def order_of_preference(columns: Columns, good: np.ndarray) -> np.ndarray:
    """The rank of each row, 0 first: good ones, then those with most pixels, then the sharpest, then the first."""
    pixels = np.nan_to_num(columns["height"] * columns["width"])
    sharp = np.nan_to_num(columns.get("clarity", np.zeros(len(good))))
    order = np.lexsort((np.arange(len(good)), -sharp, -pixels, ~good))
    rank = np.empty(len(good), dtype=np.int64)
    rank[order] = np.arange(len(good))
    return rank


def nearest_before(
    hashes_N2: np.ndarray, fields: np.ndarray, least: int, verified: int
) -> tuple[np.ndarray, np.ndarray]:
    """For each image the distance of its first hash to the nearest image before it that is kept, and that one's index.

    An image is kept when no kept one before it is nearer than `least` bits, with a second hash within `verified` bits
    and colours that are alike. Distances of kept images are those to the nearest kept one of all where every pair is
    compared; else NaN. The index is -1 for kept images.
    """
    count = len(hashes_N2)
    distance, partner = np.full(count, np.nan), np.full(count, -1)
    if count > ALL_PAIRS:
        return _by_groups(hashes_N2, fields, least, verified, distance, partner)
    preferred: list[int] = []
    for i in range(count):
        if preferred:
            first, second = (np.bitwise_count(hashes_N2[preferred, k] ^ hashes_N2[i, k]) for k in (0, 1))
            same = (first < least) & (second <= verified)
            same[same] = alike(fields[np.asarray(preferred)[same]], fields[i])
            # a pair that hash or colours tell apart is no duplicate, so its distance must not fall below the line
            shown = np.where(same | (first >= least), first, least)
            nearest = int(np.argmin(shown))
            distance[i] = shown[nearest]
            if same.any():
                partner[i] = preferred[nearest]
                continue
        preferred.append(i)
    return distance, partner


def _by_groups(
    hashes_N2: np.ndarray, fields: np.ndarray, least: int, verified: int, distance: np.ndarray, partner: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`nearest_before` through images that share a group of bits of the first hash."""
    edges = np.linspace(0, 64, max(least, 1) + 1).astype(int).tolist()
    buckets: list[dict[int, list[int]]] = [{} for _ in edges[1:]]
    first, second = (hashes_N2[:, k].tolist() for k in (0, 1))
    for i in range(len(hashes_N2)):
        keys = [(first[i] >> low) & ((1 << high - low) - 1) for low, high in itertools.pairwise(edges)]
        best = (least, -1)
        for bucket, key in zip(buckets, keys, strict=True):
            for other in bucket.get(key, ()):
                bits = (first[i] ^ first[other]).bit_count()
                near = bits < best[0] and (second[i] ^ second[other]).bit_count() <= verified
                if near and alike(fields[i], fields[other]):
                    best = (bits, other)
        if best[1] >= 0:
            distance[i], partner[i] = best
            continue
        for bucket, key in zip(buckets, keys, strict=True):
            bucket.setdefault(key, []).append(i)
    return distance, partner
