"""Stage 6 and 7, categories and balance: what an image is of, how large it is, and how often there is such a one.

The category is what the source says (a column `category`), else what `glyphlab write` made (`kind`), else the type that
a caption model gives, else "text" or "portrait" by what was read and detected, else "general". A cell is a category at
one scale. Balancing drops nothing until a share is set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from experiments.curation.filters.rules import AtMost, Columns

REPORT = "Qwen-Image technical report, section 3.2"
SCALES = (256, 640, 1328)
"""pixels of the shorter side at which a scale begins: the resolutions that the report trains at"""
GENERAL = "general"
TEXT_AREA, FACE_AREA = 0.05, 0.03
"""shares of an image in boxes of text, or in the box of the largest face, from which it is one of text or a portrait"""


@dataclass(frozen=True)
class Abnormal(AtMost):
    """Images in which a caption model sees mosaics, codes or damage; off without `captioner.url`."""

    stage: ClassVar[int] = 6
    column: ClassVar[str] = "abnormal"
    unit: ClassVar[str] = "1 = the model says so"
    reason: ClassVar[str] = "it sees faint ones that no measure of ours does"
    source: ClassVar[str] = f"{REPORT} and 3.3: Abnormal Element"
    group: ClassVar[str] = "described"
    most: float = 0.0


@dataclass(frozen=True)
class ModelMarks(AtMost):
    """Images on which a caption model reads watermarks; off without `captioner.url`."""

    stage: ClassVar[int] = 6
    column: ClassVar[str] = "model_marks"
    unit: ClassVar[str] = "watermarks that the model names"
    reason: ClassVar[str] = "faint marks are not read by an OCR engine"
    source: ClassVar[str] = f"{REPORT} and 3.3: Watermark List"
    group: ClassVar[str] = "described"
    most: float = 0.0


@dataclass(frozen=True)
class Category(AtMost):
    """Images of categories that are not wanted."""

    stage: ClassVar[int] = 6
    column: ClassVar[str] = "unwanted"
    unit: ClassVar[str] = "1 = of an unwanted category"
    reason: ClassVar[str] = "none is unwanted until you name it"
    source: ClassVar[str] = f"{REPORT}: General, Portrait and Text Rendering"
    rendered: ClassVar[bool] = True
    without: tuple[str, ...] = ()
    """such as portrait|screenshot"""
    most: float = 0.0

    def bounds(self) -> dict[str, float]:
        """No threshold where no category is unwanted."""
        return super().bounds() if self.without else {}

    def prepared(self, columns: Columns, alive: np.ndarray, good: np.ndarray) -> dict[str, np.ndarray]:
        """`unwanted` of each image."""
        return {"unwanted": np.isin(columns["category"].astype(str), self.without).astype(float)}


@dataclass(frozen=True)
class Balance(AtMost):
    """The surplus of a category at one scale: its best images stay."""

    stage: ClassVar[int] = 7
    column: ClassVar[str] = "surplus"
    unit: ClassVar[str] = "images of the same category and scale that are better, beyond the share"
    reason: ClassVar[str] = "what fills most of a set is what a model paints when it is asked for anything"
    source: ClassVar[str] = f"{REPORT}: Category Balance, Balanced Multi-Scale"
    rendered: ClassVar[bool] = True
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


def seen_categories(columns: Columns) -> np.ndarray:
    """[N] the categories, with what was seen in an image in place of "general"."""
    names = columns["category"].copy()
    if "image_type" in columns:
        names = np.where((names == GENERAL) & (columns["image_type"] != ""), columns["image_type"], names)
    for column, least, name in (("text_area", TEXT_AREA, "text"), ("face_area", FACE_AREA, "portrait")):
        if column in columns:
            names = np.where((names == GENERAL) & (columns[column] >= least), name, names)
    return names


def cells(columns: Columns) -> np.ndarray:
    """[N] category and scale of each image, such as "general 640"."""
    scale = np.searchsorted(SCALES, np.nan_to_num(columns["short_side"]), side="right")
    names = np.array([f"below {SCALES[0]}", *(f"from {each}" for each in SCALES)], dtype=object)
    return np.array([f"{category}, {names[i]}" for category, i in zip(columns["category"], scale, strict=True)])


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
