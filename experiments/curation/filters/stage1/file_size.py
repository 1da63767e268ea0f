"""Drops files by their number of bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from experiments.curation.filters.rules import REPORT, Between


@dataclass(frozen=True)
class FileSize(Between):
    """Files that are too small to be a photograph, or so large that they hold up a loader."""

    stage: ClassVar[int] = 1
    column: ClassVar[str] = "bytes"
    unit: ClassVar[str] = "bytes of the file"
    reason: ClassVar[str] = "servers answer with a placeholder of some hundred bytes where an image is gone"
    source: ClassVar[str] = f"{REPORT}: File Size"
    least: float = 1000.0
    most: float = 64 * 2.0**20
