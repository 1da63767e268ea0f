"""Pretraining by a curriculum against the same updates in other orders: runs that a sweep trains and compares.

The folder is a sweep's (sweep.py): running the study again goes on where it was, and so does `glyphlab resume`.
"""

from __future__ import annotations

from pathlib import Path

from experiments.configs.nano_curriculum import arms
from experiments.studies.sweep import UNGUIDED, parse_seeds, run_variants


def compare_orders(out: Path, updates: int, seeds: str) -> Path:
    """Train and judge every order with every seed; the page of the table, whose differences are to the curriculum.

    Raises ValueError for too few updates or seeds that cannot be read.
    """
    return run_variants(arms(updates), parse_seeds(seeds), out, None, UNGUIDED)
