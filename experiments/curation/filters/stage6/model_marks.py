"""Drops images by the watermarks that a caption model names."""

from __future__ import annotations

from experiments.curation.filters.rules import REPORT, AtMost


class ModelMarks(AtMost):
    """Images on which a caption model reads watermarks; off without a `captioner`."""

    stage = 6
    column = "model_marks"
    unit = "watermarks that the model names"
    reason = "faint marks are not read by an OCR engine"
    source = f"{REPORT} and 3.3: Watermark List"
    group = "described"
    most: float = 0.0
