"""Drops images by the height of their lines of text."""

from __future__ import annotations

from experiments.curation.filters.rules import REPORT, AtLeast
from experiments.curation.measures.text_reading import GROUP


class SmallText(AtLeast):
    """Images whose text is too small to be written at the size of training."""

    stage = 4
    column = "line_height"
    unit = "pixels: median height of the lines that are read, at a short side of 512"
    reason = "an autoencoder with 8 pixels a latent cannot keep letters of less than 8 pixels apart"
    source = f"{REPORT}: Small Character"
    group = GROUP
    least: float = 9.0
