"""The most memory that this process and its children used."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import psutil

from experiments.record.record import write_json

EVERY = 1.0
"""Seconds between looks."""


def used_mb() -> float:
    """Proportional set size of the process tree in MB: pages shared by several processes count once."""
    own = psutil.Process()
    total = 0
    for process in [own, *own.children(recursive=True)]:
        try:
            info = process.memory_full_info()
        except psutil.Error:  # it ended meanwhile
            continue
        total += getattr(info, "pss", info.rss)
    return total / 2**20


class PeakMemory:
    """Watches while it is open, and keeps the peak in a file over interruptions."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._peak = json.loads(file.read_text())["peak_mb"] if file.exists() else 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(EVERY):
            now = used_mb()
            if now > self._peak:
                self._peak = now
                write_json(self._file, {"peak_mb": now})
