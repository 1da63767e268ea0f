"""Drops images by the variance of their Laplacian."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from experiments.curation.filters.rules import REPORT, AtLeast


@dataclass(frozen=True)
class Clarity(AtLeast):
    """Blurred images. The last filter of its stage, so that a black image is called dark and not blurred."""

    stage: ClassVar[int] = 2
    column: ClassVar[str] = "clarity"
    unit: ClassVar[str] = "variance of the Laplacian, squared grey levels"
    reason: ClassVar[str] = (
        "sharp photographs have 25 to 5,000; a blur of 2 pixels leaves 2 to 11, one of 3 pixels 1 to 5"
    )
    source: ClassVar[str] = f"{REPORT}: Clarity; the measure of Pech-Pacheco et al. 2000"
    least: float = 8.0
