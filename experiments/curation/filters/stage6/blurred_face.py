"""Drops images by how sharp the largest face is."""

from __future__ import annotations

from experiments.curation.filters.rules import REPORT, AtLeast
from experiments.curation.measures.body_detector import GROUP


class BlurredFace(AtLeast):
    """Portraits whose largest face is blurred. Off with `nudity`, whose detector finds the faces."""

    stage = 6
    column = "face_clarity"
    unit = "variance of the Laplacian of the face drawn 48 pixels wide, squared grey levels"
    reason = (
        "three photographed faces have 270 to 1,960; a blur of 2 % of the width leaves 15 to 40, one of 1 % 71 to 218"
    )
    source = f"{REPORT}: mosaics and blurred faces"
    group = GROUP
    least: float = 45.0
