"""Drops images by the lines in them that look like somebody's mark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from experiments.curation.filters.rules import REPORT, AtMost
from experiments.curation.measures.text_reading import GROUP


@dataclass(frozen=True)
class Watermark(AtMost):
    """Images with the mark of an agency, a copyright sign or a web address that no caption quotes."""

    stage: ClassVar[int] = 5
    column: ClassVar[str] = "marks"
    unit: ClassVar[str] = "lines that are read and look like a mark"
    reason: ClassVar[str] = "a model writes such marks on whatever it is asked for"
    source: ClassVar[str] = f"{REPORT}, stage 5: Abnormal Element; faint marks are not read, a caption model sees more"
    group: ClassVar[str] = GROUP
    most: float = 0.0
