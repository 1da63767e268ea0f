"""Drops images by the number of their captions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from experiments.curation.filters.rules import AtLeast


@dataclass(frozen=True)
class Captioned(AtLeast):
    """Images without a caption. An autoencoder needs none: captioned.least=0 keeps them."""

    stage: ClassVar[int] = 3
    column: ClassVar[str] = "captions_listed"
    unit: ClassVar[str] = "captions that the folder has for the image"
    reason: ClassVar[str] = "a model of texts and images learns nothing from an image alone"
    source: ClassVar[str] = "ours"
    rendered: ClassVar[bool] = True
    least: float = 1.0
