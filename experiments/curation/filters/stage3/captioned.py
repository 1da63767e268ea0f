"""Drops images by the number of their captions."""

from __future__ import annotations

from experiments.curation.filters.rules import AtLeast


class Captioned(AtLeast):
    """Images without a caption. An autoencoder needs none: captioned.least=0 keeps them."""

    stage = 3
    column = "captions_listed"
    unit = "captions that the folder has for the image"
    reason = "a model of texts and images learns nothing from an image alone"
    source = "ours"
    rendered = True
    least: float = 1.0
