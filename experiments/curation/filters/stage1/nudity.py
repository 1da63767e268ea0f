"""Drops images by the scores that a detector gives to parts of bodies."""

from __future__ import annotations

import numpy as np

from experiments.curation.filters.rules import REPORT, AtMost, Columns
from experiments.curation.measures.body_detector import CLASSES, GROUP

UNSAFE = (
    "female_genitalia_exposed", "male_genitalia_exposed", "anus_exposed", "buttocks_exposed", "female_breast_exposed",
)  # fmt: skip


class Nudity(AtMost):
    """Images of naked bodies. Off where the detector's weights are not installed."""

    stage = 1
    column = "nudity"
    unit = "largest score of a detection among the classes, 0 to 1"
    reason = (
        "what a model was not shown it paints less readily; of 23 photographs of scikit-image and matplotlib the "
        "detector takes a wheel of colours for buttocks (0.83) and a cup, below the line (0.30)"
    )
    source = f"{REPORT}: NSFW; the detector of NudeNet 3.4.2"
    group = GROUP
    most: float = 0.5
    classes: tuple[str, ...] = UNSAFE
    """which detections count, such as buttocks_exposed|male_breast_exposed"""

    def __post_init__(self) -> None:
        if wrong := [name for name in self.classes if name not in CLASSES]:
            raise ValueError(f"nudity.classes: there is no {wrong[0]!r}; there are {', '.join(sorted(CLASSES))}")

    def shown(self, columns: Columns) -> np.ndarray:
        """The largest score of the classes; NaN where nothing was measured."""
        scores = [columns[f"nude_{name}"] for name in self.classes if f"nude_{name}" in columns]
        return np.max(scores, axis=0) if scores else np.full(len(columns["name"]), np.nan)
