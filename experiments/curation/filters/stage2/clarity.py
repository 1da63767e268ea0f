"""Drops images by the variance of their Laplacian."""

from __future__ import annotations

from experiments.curation.filters.rules import REPORT, AtLeast


class Clarity(AtLeast):
    """Blurred images. The last filter of its stage, so that a black image is called dark and not blurred."""

    stage = 2
    column = "clarity"
    unit = "variance of the Laplacian, squared grey levels"
    reason = "sharp photographs have 25 to 5,000; a blur of 2 pixels leaves 2 to 11, one of 3 pixels 1 to 5"
    source = f"{REPORT}: Clarity; the measure of Pech-Pacheco et al. 2000"
    least: float = 8.0
