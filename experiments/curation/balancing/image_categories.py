"""Says what an image is of and how large it is, which the stages 6 and 7 filter and balance by.

The category is what the source says (a column `category`), else what `glyphlab write` made (`kind`), else the type that
a caption model gives, else "text" or "portrait" by what was read and detected, else "general". A cell is a category at
one scale.
"""

from __future__ import annotations

import numpy as np

from experiments.curation.filters.rules import Columns

SCALES = (256, 640, 1328)
"""pixels of the shorter side at which a scale begins: the resolutions that the report trains at"""
GENERAL = "general"
TEXT_AREA, FACE_AREA = 0.05, 0.03
"""shares of an image in boxes of text, or in the box of the largest face, from which it is one of text or a portrait"""


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
