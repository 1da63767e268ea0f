"""Images that look like an earlier one, by two hashes of 64 bits and a coarse image of colours.

Two numbers that differ in at most k bits are equal in at least one of k + 1 groups of bits, so candidates are those
that share a group. Hashes see grey alone, so the colours of 4 by 4 fields must be alike, too: a red and a green
shoe are two images. Up to `ALL_PAIRS` images every pair is compared, which also measures the distances beyond k.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

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


def distances(columns: Columns, rows: np.ndarray, least: float, verified: float) -> tuple[np.ndarray, np.ndarray]:
    """Of images in the order of preference, bits to the nearest kept one before, and its row (-1: none is near)."""
    both = np.stack([columns["phash"][rows], columns["dhash"][rows]], axis=1)
    fields = colour_fields(columns["colours"][rows])
    distance, of = nearest_before(both, fields, int(np.ceil(least)), int(verified))
    return distance, np.where(of >= 0, rows[of], -1)


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
    """`nearest_before` through images that share a group of bits of the first hash; equal ones are compared once."""
    whole = np.concatenate([hashes_N2.view(np.uint8).reshape(len(hashes_N2), -1), fields.astype(np.uint8)], axis=1)
    _, first, same = np.unique(whole, axis=0, return_index=True, return_inverse=True)
    first_of = first[same.ravel()]
    single = np.flatnonzero(first_of == np.arange(len(first_of)))
    near: dict[int, list[tuple[int, int]]] = {}
    for one, other, bits in pairs_that_share_bits(hashes_N2[single], fields[single], least, verified):
        near.setdefault(int(single[one]), []).append((bits, int(single[other])))
        near.setdefault(int(single[other]), []).append((bits, int(single[one])))
    copies = np.flatnonzero(first_of != np.arange(len(first_of))).tolist() if least > 0 else []
    for i in sorted({*near, *copies}):
        alikes = [*near.get(int(first_of[i]), ()), (0, int(first_of[i]))]
        staying = [(bits, other) for bits, other in alikes if other < i and partner[other] < 0]
        if staying:
            distance[i], partner[i] = min(staying)
    return distance, partner


def pairs_that_share_bits(
    hashes_N2: np.ndarray, fields: np.ndarray, least: int, verified: int
) -> Iterator[tuple[int, int, int]]:
    """(index, later index, bits that differ) of images that are duplicates by both hashes and colours; some twice.

    In every group of bits the images are sorted by its value; those with one value stand together, so each is compared
    with the next, the one after it and so on, as long as any two are equal.
    """
    edges = np.linspace(0, 64, max(least, 1) + 1).astype(int).tolist()
    for low, high in itertools.pairwise(edges):
        keys = (hashes_N2[:, 0] >> np.uint64(low)) & np.uint64((1 << high - low) - 1)
        order = np.argsort(keys, kind="stable")
        keys, step, index = keys[order], 0, np.arange(len(keys))
        while len(index):
            step += 1
            index = index[index + step < len(keys)]
            index = index[keys[index] == keys[index + step]]
            before, after = order[index], order[index + step]
            bits, others = (np.bitwise_count(hashes_N2[before, k] ^ hashes_N2[after, k]) for k in (0, 1))
            for i in np.flatnonzero((bits < least) & (others <= verified)):
                if alike(fields[before[i]], fields[after[i]]):
                    yield int(before[i]), int(after[i]), int(bits[i])
