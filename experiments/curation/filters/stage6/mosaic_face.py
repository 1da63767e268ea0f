"""Drops images by how much of the largest face is made of squares."""

from __future__ import annotations

from experiments.curation.filters.rules import REPORT, AtMost
from experiments.curation.measures.body_detector import GROUP


class MosaicFace(AtMost):
    """Portraits whose largest face is covered by squares. Off with `nudity`, whose detector finds the faces."""

    stage = 6
    column = "face_blocks"
    unit = "share of neighbours in a row that differ by at most one grey level, 0 to 1"
    reason = "three photographed faces have 0.12 to 0.25; squares of 4 to 5 % of the width make it 0.54 to 0.66"
    source = f"{REPORT}: mosaics and blurred faces"
    group = GROUP
    most: float = 0.45
