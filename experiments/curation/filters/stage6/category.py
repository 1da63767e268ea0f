"""Drops images by their category."""

from __future__ import annotations

import numpy as np

from experiments.curation.filters.rules import REPORT, AtMost, Columns


class Category(AtMost):
    """Images of categories that are not wanted."""

    stage = 6
    column = "unwanted"
    unit = "1 = of an unwanted category"
    reason = "none is unwanted until you name it"
    source = f"{REPORT}: General, Portrait and Text Rendering"
    rendered = True
    without: tuple[str, ...] = ()
    """such as portrait|screenshot"""
    most: float = 0.0

    def bounds(self) -> dict[str, float]:
        """No threshold where no category is unwanted."""
        return super().bounds() if self.without else {}

    def prepared(self, columns: Columns, alive: np.ndarray, good: np.ndarray) -> dict[str, np.ndarray]:
        """`unwanted` of each image."""
        return {"unwanted": np.isin(columns["category"].astype(str), self.without).astype(float)}
