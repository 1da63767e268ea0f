"""Drops files by their number of bytes."""

from __future__ import annotations

from experiments.curation.filters.rules import REPORT, Between


class FileSize(Between):
    """Files that are too small to be a photograph, or so large that they hold up a loader."""

    stage = 1
    column = "bytes"
    unit = "bytes of the file"
    reason = "servers answer with a placeholder of some hundred bytes where an image is gone"
    source = f"{REPORT}: File Size"
    least: float = 1000.0
    most: float = 64 * 2.0**20
