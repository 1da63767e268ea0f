"""Drops images by the share of what captions quote that can be read in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from experiments.curation.filters.rules import REPORT, AtLeast
from experiments.curation.measures.text_reading import GROUP


@dataclass(frozen=True)
class QuotedText(AtLeast):
    """Images whose captions quote a text that cannot be read in them."""

    stage: ClassVar[int] = 4
    column: ClassVar[str] = "quoted_read"
    unit: ClassVar[str] = "share of the quoted characters that the engine reads"
    reason: ClassVar[str] = (
        "a wrong quotation teaches to write something else; above a half it may be the engine's fault"
    )
    source: ClassVar[str] = f"{REPORT}, stage 4; the threshold is ours"
    rendered: ClassVar[bool] = True
    group: ClassVar[str] = GROUP
    least: float = 0.5
