"""Drops images that a caption model calls abnormal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from experiments.curation.filters.rules import REPORT, AtMost


@dataclass(frozen=True)
class Abnormal(AtMost):
    """Images in which a caption model sees mosaics, codes or damage; off without a `captioner`."""

    stage: ClassVar[int] = 6
    column: ClassVar[str] = "abnormal"
    unit: ClassVar[str] = "1 = the model says so"
    reason: ClassVar[str] = "it sees faint ones that no measure of ours does"
    source: ClassVar[str] = f"{REPORT} and 3.3: Abnormal Element"
    group: ClassVar[str] = "described"
    most: float = 0.0
