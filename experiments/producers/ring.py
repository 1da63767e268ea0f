"""A ring of shards in a folder: made ahead of a run, read by it, taken away behind it, never larger than its bound.

    RUN/.ring/00000012.safetensors   the batches of updates 12 * BATCHES and following, of all ranks
    RUN/.ring/reading.json           the shard that the run reads

A shard is a function of what is in its head (`Contents`) and its number, so anyone may make it, also again. Shards are
put in place in their order, whole or not at all, under a lock; room is made by taking away those that were read, the
oldest first. So the next one to be read always has room, and a run that goes on from a checkpoint finds what is left
and gets the rest made again.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from base_model.data.encoded_shards import Shard, about_shard
from experiments.record.whole_files import write_bytes, write_json

BATCHES = 8
"""updates of a shard"""
AHEAD = 8
"""shards that are made ahead at most, where the bound leaves room"""
READING, LOCK, ENDING = "reading.json", ".lock", ".safetensors"


@dataclass(frozen=True)
class Contents:
    """What the shards of a run follow from."""

    data: str
    """fingerprint of the images, their order and mixture, and of the libraries that read them"""
    encoder: str
    """SHA-256 of what encoded them; "" when pixels are learned from"""
    size: int
    """samples an update and rank"""
    ranks: int
    batches: int = BATCHES
    """updates of a shard"""

    def about(self, shard: int) -> dict[str, Any]:
        """What the head of a shard says."""
        return {**asdict(self), "shard": shard}


@dataclass(frozen=True)
class Ring:
    """The folder. Every process that works on it makes its own, of the same settings."""

    folder: Path
    contents: Contents
    most_bytes: int
    """of all shards together"""

    def path(self, shard: int) -> Path:
        """Where a shard lies."""
        return self.folder / f"{shard:08d}{ENDING}"

    def holds(self, shard: int) -> bool:
        """Whether a shard is there, made of the contents of this ring."""
        try:
            status = self.path(shard).stat()
        except FileNotFoundError:
            return False
        return _about(self.path(shard), status.st_ino, status.st_mtime_ns) == self.contents.about(shard)

    def reading(self) -> int:
        """The shard that the run reads."""
        try:
            return int(json.loads((self.folder / READING).read_text(encoding="utf-8"))["shard"])
        except FileNotFoundError:
            return 0

    def read_from(self, shard: int) -> None:
        """Say that the run reads this shard, and none before it any more."""
        write_json(self.folder / READING, {"shard": shard})

    def put(self, shard: int, content: bytes) -> bool:
        """Put a shard in place where it is its turn and there is room, or leave it where nobody needs it any more.

        False: not yet. Raises ValueError for one that is larger than the whole ring.
        """
        if len(content) > self.most_bytes:
            raise ValueError(
                f"a shard of {self.contents.batches} updates has {len(content):,} bytes, and the ring may have "
                f"{self.most_bytes:,}: allow more with --ring-gigabytes"
            )
        with self._locked():
            reading = self.reading()
            if shard < reading or self.holds(shard):
                return True
            if not all(self.holds(before) for before in range(reading, shard)):
                return False
            if not self._make_room(len(content), reading, shard):
                return False
            write_bytes(self.path(shard), content)
        return True

    def _make_room(self, needed: int, reading: int, placed: int) -> bool:
        """Take away what is of other contents, then what was read, then, where a run went back, what is farthest ahead,
        until there is room; whether there is."""
        for leftover in self.folder.glob(f".*{ENDING}.*"):  # of who was killed while it wrote: nobody else writes now
            leftover.unlink()
        sizes = {int(path.name.removesuffix(ENDING)): path.stat().st_size for path in self.folder.glob(f"*{ENDING}")}
        used = sum(sizes.values())
        stale = [shard for shard in sizes if shard >= reading and (shard == placed or not self.holds(shard))]
        own = sorted(sizes.keys() - set(stale))
        ahead = [shard for shard in reversed(own) if shard > placed]
        for shard in (*stale, *(shard for shard in own if shard < reading), *ahead):
            if shard != placed and used + needed <= self.most_bytes:
                continue
            self.path(shard).unlink()
            used -= sizes[shard]
        return used + needed <= self.most_bytes

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Let one process at a time change which shards there are; a lock ends with its process."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / LOCK).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def open(self, shard: int) -> Shard | None:
        """A shard that is there. One that is damaged is taken away, and made again by who makes it."""
        try:
            return Shard(self.path(shard)) if self.holds(shard) else None
        except ValueError:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path(shard))
            return None


@functools.lru_cache(maxsize=256)
def _about(path: Path, inode: int, written: int) -> Mapping[str, Any]:
    """What a file says that it was made of: who waits asks many times a second."""
    return about_shard(path)
