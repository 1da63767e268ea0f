"""Stage 1, files: what cannot be read, is too small or too long, or is there twice.

    id          sha256 of the bytes
    phash       64 signs of the lowest frequencies of a grey image of 32 by 32 pixels (DCT)
    dhash       64 signs of differences between neighbours in a grey image of 9 by 8 pixels
    colours     an image of 4 by 4 pixels

Both hashes are our own few lines: they cost 0.3 ms, where the library of the same hashes needs 4 ms.
Shapes: HW3 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from experiments.curation.filters.rules import AtLeast, AtMost, Between, Columns
from experiments.curation.near_duplicates import colour_fields, nearest_before, order_of_preference

REPORT = "Qwen-Image technical report, section 3.2"
FLAT = 2.0
"""levels of 255; an image with a smaller standard deviation has nothing that a hash could compare"""
SHARED = 1000
"""images with one caption beyond which it tells nothing"""


@dataclass(frozen=True)
class Broken(AtMost):
    """Files that cannot be decoded to their end, are animated, or are not there."""

    stage: ClassVar[int] = 1
    column: ClassVar[str] = "broken"
    unit: ClassVar[str] = "1 = cannot be decoded"
    reason: ClassVar[str] = "training would stop at it, or learn the grey that decoders fill in"
    source: ClassVar[str] = f"{REPORT}: Broken Files"
    rendered: ClassVar[bool] = True
    most: float = 0.0


@dataclass(frozen=True)
class Misnamed(AtMost):
    """Files whose name ends for another format than they have."""

    stage: ClassVar[int] = 1
    column: ClassVar[str] = "misnamed"
    unit: ClassVar[str] = "1 = for example a PNG called .jpg"
    reason: ClassVar[str] = "the reader goes by the bytes, and a set names the file rightly; 0 drops them"
    source: ClassVar[str] = "ours"
    most: float = 1.0


@dataclass(frozen=True)
class FileSize(Between):
    """Files that are too small to be a photograph, or so large that they hold up a loader."""

    stage: ClassVar[int] = 1
    column: ClassVar[str] = "bytes"
    unit: ClassVar[str] = "bytes of the file"
    reason: ClassVar[str] = "servers answer with a placeholder of some hundred bytes where an image is gone"
    source: ClassVar[str] = f"{REPORT}: File Size"
    least: float = 1000.0
    most: float = 64 * 2.0**20


@dataclass(frozen=True)
class Resolution(AtLeast):
    """Images with a short side that training would have to enlarge."""

    stage: ClassVar[int] = 1
    column: ClassVar[str] = "short_side"
    unit: ClassVar[str] = "pixels of the shorter side"
    reason: ClassVar[str] = "the first resolution that the report trains at is 256; enlarged images teach blur"
    source: ClassVar[str] = f"{REPORT}: Resolution, below 256p"
    least: float = 256.0


@dataclass(frozen=True)
class Aspect(AtMost):
    """Images that are much longer than wide, or wider than long."""

    stage: ClassVar[int] = 1
    column: ClassVar[str] = "aspect"
    unit: ClassVar[str] = "longer side by shorter side"
    reason: ClassVar[str] = "1:3 and 3:1 are the most extreme canvases; beyond, a crop loses what a caption names"
    source: ClassVar[str] = f"{REPORT}, section 4.1.3: the list of aspects"
    most: float = 3.0


@dataclass(frozen=True)
class Duplicates(AtMost):
    """Files that are another one's copy, byte for byte. Their captions count for the one that is kept.

    An edit is a copy when the images that it was made from are copies, too.
    """

    stage: ClassVar[int] = 1
    column: ClassVar[str] = "copies_before"
    unit: ClassVar[str] = "files with the same bytes before this one"
    reason: ClassVar[str] = "what is there twice is learned twice as often, and in the end by heart"
    source: ClassVar[str] = f"{REPORT}: Deduplication"
    rendered: ClassVar[bool] = True
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


@dataclass(frozen=True)
class NearDuplicates(AtLeast):
    """Images that look like another one: saved again, scaled, shifted by some pixels. A mirrored image is another one.

    The one with most pixels is kept, of equal ones the sharpest; one that a filter of the stages 1 and 2 drops never
    takes the place of a good one. Rendered pages on one ground look alike to the hashes although their text differs, so
    they are left alone.
    """

    stage: ClassVar[int] = 1
    column: ClassVar[str] = "hash_distance"
    unit: ClassVar[str] = "bits of 64 that differ from a kept image's perceptual hash"
    reason: ClassVar[str] = "up to 4 bits are what saving as JPEG 60 or shifting by 2 pixels changes"
    source: ClassVar[str] = f"{REPORT}: Deduplication; the hash of Zauner 2010"
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


@dataclass(frozen=True)
class RepeatedText(AtLeast):
    """Images that share their captions with another one and look rather like it, and pages with equal captions.

    Equal captions are evidence, so the hashes may differ by more than those of near duplicates: cut narrower, with a
    logo, or lit in another way. The caption of a written page names its text, face, size, colour and place, so pages
    with equal captions are one page on two grounds. A caption that more than `SHARED` images have says nothing of them.
    """

    stage: ClassVar[int] = 1
    column: ClassVar[str] = "text_distance"
    unit: ClassVar[str] = "bits of 64 that differ from the perceptual hash of a kept image with the same captions"
    reason: ClassVar[str] = (
        "cutting 4 % off each side changes 6 to 12 bits of most photographs; unlike photographs differ by 20 and more"
    )
    source: ClassVar[str] = f"{REPORT}: Deduplication of image and text pairs"
    rendered: ClassVar[bool] = True
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


def distances(columns: Columns, rows: np.ndarray, least: float, verified: float) -> tuple[np.ndarray, np.ndarray]:
    """Of images in the order of preference, bits to the nearest kept one before, and its row (-1: none is near)."""
    both = np.stack([columns["phash"][rows], columns["dhash"][rows]], axis=1)
    fields = colour_fields(columns["colours"][rows])
    distance, of = nearest_before(both, fields, int(np.ceil(least)), int(verified))
    return distance, np.where(of >= 0, rows[of], -1)


def signs(values: np.ndarray) -> int:
    """64 truth values as one number, the first in the highest bit."""
    return int.from_bytes(np.packbits(values.ravel()).tobytes(), "big")


def hashes(rgb_HW3: np.ndarray, grey_HW: np.ndarray) -> dict[str, int | bool | str]:
    """`phash` and `dhash` of an 8-bit image, and its `colours`; `hashed` is False where it has nothing to compare."""
    import cv2

    small = cv2.resize(grey_HW, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    lowest = cv2.dct(small)[:8, :8]
    steps = cv2.resize(grey_HW, (9, 8), interpolation=cv2.INTER_AREA).astype(np.int16)
    return {
        "phash": signs(lowest > np.median(lowest.ravel()[1:])),
        "dhash": signs(steps[:, 1:] > steps[:, :-1]),
        "colours": cv2.resize(rgb_HW3, (4, 4), interpolation=cv2.INTER_AREA).tobytes().hex(),
        "hashed": bool(small.std() >= FLAT),
    }
