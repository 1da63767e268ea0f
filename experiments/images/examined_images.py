"""Looks at every image of a source once, and remembers what it saw for the next run.

Every byte is read for its hash, and of the image the head alone. Of a large source the result lies in a hidden file
beside it, with each file's size and times of change: only what changed since is read again. Where the file cannot be
written, nothing is remembered.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from experiments.images.image_readers import Entry
from experiments.record.whole_files import write_bytes
from preference_data.image_files import image_size_in

READERS = 8
"""threads that read files and decode images; both let others compute meanwhile"""
INDEX = ".glyphlab_images.json"
REMEMBERED_FROM = 500
"""images of a source from which on it is remembered"""
VERSION = 1


class Remembered:
    """What was seen of the images of one source: [height, width, sha256] by name, as long as the file is the same."""

    def __init__(self, source: Path) -> None:
        self._file = source / INDEX if source.is_dir() else source.with_name(f".{source.name}{INDEX}")
        self._root = source if source.is_dir() else source.parent
        self._before: dict[str, list[Any]] = {}
        self._now: dict[str, list[Any]] = {}
        try:
            saved = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # never written, or not to its end
            return
        if isinstance(saved, dict) and saved.get("version") == VERSION and isinstance(saved.get("images"), dict):
            self._before = saved["images"]

    def seen(self, entry: Entry) -> tuple[tuple[int, int], str]:
        """(height, width) and hash of an image. Raises ValueError or OSError when it cannot be read."""
        status = entry.file.stat()
        name = f"{self._relative(entry.file)} {entry.at[0]} {entry.at[1]} {entry.column}"
        state = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        row = self._before.get(name)
        if not (isinstance(row, list) and len(row) == 6 and row[:3] == state):
            content = entry.content()
            row = [*state, *image_size_in(content, entry.name), sha256(content).hexdigest()]
        self._now[name] = row
        return (row[3], row[4]), row[5]

    def _relative(self, file: Path) -> str:
        """The file's path from the source, so that a folder may move; that of another folder as it is."""
        return str(file.relative_to(self._root)) if file.is_relative_to(self._root) else str(file.absolute())

    def write(self) -> None:
        """Keep what was seen, where it can be written and is not there already."""
        if len(self._now) < REMEMBERED_FROM or self._now == self._before:
            return
        text = json.dumps({"version": VERSION, "images": self._now})
        try:
            write_bytes(self._file, text.encode())
        except OSError:
            return  # a folder that may only be read


def examined(entries: Sequence[Entry], min_side: int, source: Path) -> Iterator[tuple[Entry, str]]:
    """Every entry with the hash of its bytes, and of what it was made from; with its problem where a head shows one."""
    remembered = Remembered(source)

    def examine(entry: Entry) -> tuple[Entry, str]:
        hashes = []
        for each in (entry, *entry.sources):
            of_source = f"was made from {each.name}, which " if each is not entry else ""
            if each.problem:
                return replace(entry, problem=of_source + each.problem), ""
            try:
                (height, width), digest = remembered.seen(each)
            except (ValueError, OSError) as error:
                return replace(entry, problem=str(error)), ""
            if min(height, width) < min_side:
                text = f"is {width}x{height}, and the shorter side needs {min_side} pixels (--data.min-side)"
                return replace(entry, problem=of_source + text), ""
            hashes.append(digest)
        return entry, hashes[0] if len(hashes) == 1 else sha256("".join(hashes).encode()).hexdigest()

    with ThreadPoolExecutor(READERS) as pool:
        yield from pool.map(examine, entries)
    remembered.write()
