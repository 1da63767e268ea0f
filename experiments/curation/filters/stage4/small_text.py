"""Drops images by the height of their lines of text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from experiments.curation.filters.rules import REPORT, AtLeast
from experiments.curation.measures.text_reading import GROUP


@dataclass(frozen=True)
class SmallText(AtLeast):
    """Images whose text is too small to be written at the size of training."""

    stage: ClassVar[int] = 4
    column: ClassVar[str] = "line_height"
    unit: ClassVar[str] = "pixels: median height of the lines that are read, at a short side of 512"
    reason: ClassVar[str] = "an autoencoder with 8 pixels a latent cannot keep letters of less than 8 pixels apart"
    source: ClassVar[str] = f"{REPORT}: Small Character"
    group: ClassVar[str] = GROUP
    least: float = 9.0
