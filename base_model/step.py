"""What every training loop yields after an update."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Step:
    """One finished update."""

    index: int
    """0 is the first update of the run"""
    metrics: dict[str, float]
    """averaged over micro-batches and ranks"""
    images_B3HW: np.ndarray | None = None
    """float32 in [0, 1]: what the update learned from, where the loop makes pictures"""
    captions: tuple[str, ...] = ()
    """one for each picture"""
