"""Drops texts that describe no image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from experiments.curation.filters.rules import REPORT, AtMost


@dataclass(frozen=True)
class CaptionGarbage(AtMost):
    """Captions that are none: file names, addresses, HTML, wrongly decoded text, repetitions, refusals to describe."""

    stage: ClassVar[int] = 3
    column: ClassVar[str] = "garbage"
    unit: ClassVar[str] = "1 = no caption"
    reason: ClassVar[str] = "a model that reads them learns to connect images with nothing"
    source: ClassVar[str] = f"{REPORT}: Invalid Caption"
    of_captions: ClassVar[bool] = True
    most: float = 0.0
