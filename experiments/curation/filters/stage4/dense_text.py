"""Drops images by the area that text takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from experiments.curation.filters.rules import REPORT, AtMost
from experiments.curation.measures.text_reading import GROUP


@dataclass(frozen=True)
class DenseText(AtMost):
    """Photographs of pages: more text than a model of that size can write."""

    stage: ClassVar[int] = 4
    column: ClassVar[str] = "text_area"
    unit: ClassVar[str] = "share of the image in boxes of text"
    reason: ClassVar[str] = "captions of such images quote none of it, or more than an encoder reads"
    source: ClassVar[str] = f"{REPORT}: Intensive Text"
    group: ClassVar[str] = GROUP
    most: float = 0.5
