"""What every training loop yields after an update."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """Describes one finished update."""

    index: int
    """0 is the first update of the run"""
    metrics: dict[str, float]
    """averaged over micro-batches and ranks"""
