"""Edits in a set: what was made of an image and the images that it was made from stay together, or go together.

Every source is a row of its own, measured as any image is. It has no caption, and neither its copies nor what looks
like it are duplicates: several edits begin from one image. An edit is another one's copy when all of its images are.
Its caption is an instruction, so it is not compared with what the image shows.

Legend: N images, L links from an edit to an image that it was made from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256

import numpy as np

INSTRUCTED = ("quoted_read", "alignment")
"""numbers that compare captions with the image; an instruction may name what is no longer there"""
SOURCE_IMAGE = "source_image"
"""the column of a set's captions that names the files of the sources"""


def with_pairs(images: dict[str, np.ndarray], sources: Sequence[Sequence[int]]) -> None:
    """Add the columns `is_source`, `is_edit`, `alone`, and `pair`, the identity of an image with its sources.

    `sources` has of every row those that it was made from. Numbers that mean nothing of edits become NaN.
    """
    count = len(images["name"])
    links = [(edit, source) for edit, own in enumerate(sources) for source in own]
    images["links"] = np.asarray(links, dtype=np.int64).reshape(-1, 2)
    for column, end in (("is_edit", 0), ("is_source", 1)):
        images[column] = np.zeros(count, dtype=bool)
        images[column][images["links"][:, end]] = True
    images["alone"] = ~(images["is_edit"] | images["is_source"])
    images["pair"] = images["id"].copy()
    for row in np.flatnonzero(images["is_edit"]):
        identities = [images["id"][each] for each in (row, *sources[row])]
        images["pair"][row] = sha256("".join(identities).encode()).hexdigest() if all(identities) else ""
    for row in np.flatnonzero(images["is_source"]):
        images["pair"][row] = f"source {row}"
    for column in INSTRUCTED:
        if column in images:
            images[column] = np.where(images["is_edit"], np.nan, images[column])


def drop_together(images: Mapping[str, np.ndarray], dropped_by: np.ndarray, name: str) -> None:
    """Let an edit go with any of its sources, and a source with the last of what was made of it; by filter `name`."""
    edits, sources = images["links"][:, 0], images["links"][:, 1]
    if not len(edits):
        return
    lost = edits[(dropped_by[sources] != "") & (dropped_by[edits] == "")]
    dropped_by[lost] = name
    used = np.bincount(sources, weights=dropped_by[edits] == "", minlength=len(dropped_by)) > 0
    dropped_by[images["is_source"] & ~used & (dropped_by == "")] = name


def source_names(images: Mapping[str, np.ndarray], names: Mapping[int, str]) -> dict[int, list[str]]:
    """Of every edit among `names`, the names in the set of what it was made from, in order."""
    result: dict[int, list[str]] = {}
    for edit, source in images["links"].tolist():
        if edit in names:
            result.setdefault(edit, []).append(names[source])
    return result


def guilty_source(images: Mapping[str, np.ndarray], dropped_by: np.ndarray, row: int) -> int:
    """The source that an edit was dropped for; -1 where it was dropped for itself."""
    own = images["links"][images["links"][:, 0] == row][:, 1]
    return next((int(each) for each in own if dropped_by[each] == dropped_by[row]), -1)
