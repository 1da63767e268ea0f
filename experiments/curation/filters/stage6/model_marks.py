"""Drops images by the watermarks that a caption model names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from experiments.curation.filters.rules import REPORT, AtMost


@dataclass(frozen=True)
class ModelMarks(AtMost):
    """Images on which a caption model reads watermarks; off without a `captioner`."""

    stage: ClassVar[int] = 6
    column: ClassVar[str] = "model_marks"
    unit: ClassVar[str] = "watermarks that the model names"
    reason: ClassVar[str] = "faint marks are not read by an OCR engine"
    source: ClassVar[str] = f"{REPORT} and 3.3: Watermark List"
    group: ClassVar[str] = "described"
    most: float = 0.0
