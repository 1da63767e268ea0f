"""Images that wait beside the store's folder until whoever brought them is known to be right.

They lie in a folder of their own on the same disk, so moving them in place takes no time, and they are gone with it
when the import is refused or breaks off.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from preference_data.image_files import decode_image
from preference_data.pixels import pixel_hash
from preference_data.png import only_pixels, plain_pixels
from preference_data.store.image_store import ImageFolder, write_plain

PREFIX = ".import-"
FORGOTTEN = 86_400.0
"""Seconds after which the folder of an import that was killed is removed by the next one."""


class Staged:
    """Images on their way into a folder. As a context manager it removes what was not placed."""

    def __init__(self, folder: ImageFolder) -> None:
        self.folder = folder
        self.waiting: str | None = None
        self.placed: list[str] = []
        self._made_root = False

    def __enter__(self) -> Staged:
        return self

    def __exit__(self, *_: object) -> None:
        if self.waiting is not None:
            shutil.rmtree(self.waiting, ignore_errors=True)
        if self._made_root and not any(self.folder.root.iterdir()):
            self.folder.root.rmdir()

    def add(self, content: bytes, name: str) -> tuple[str, int, int]:
        """Check an image and let it wait, unless it is in the folder; (sha256, width, height)."""
        if self.waiting is None:
            self._made_root = not self.folder.root.exists()
            self.folder.root.mkdir(parents=True, exist_ok=True)
            _forget(self.folder.root)
            self.waiting = tempfile.mkdtemp(prefix=PREFIX, dir=self.folder.root)
        plain = only_pixels(content)
        pixels = None if plain is None else plain_pixels(plain)
        if pixels is None:
            pixels = decode_image(content, name)
        sha = pixel_hash(pixels.transpose(2, 0, 1))
        path = os.path.join(self.waiting, f"{sha}.png")  # a Path each would cost more than the rest of this
        if not os.path.exists(path) and not self.folder.has(sha):
            with open(path, "wb") as file:  # nobody else looks into this folder, so it may be seen half written
                write_plain(file, plain, pixels)
        return sha, pixels.shape[1], pixels.shape[0]

    def publish(self) -> None:
        """Move what waits into the folder. Calling it again moves what came since."""
        if self.waiting is None:
            return
        with os.scandir(self.waiting) as entries:
            names = [entry.name for entry in entries]
        for name in names:
            target = os.path.join(self.folder.root, name)
            fresh = not os.path.exists(target)
            os.replace(os.path.join(self.waiting, name), target)
            if fresh:
                self.placed.append(name)

    def withdraw(self, needed: Callable[[list[str]], set[str]]) -> None:
        """Take out again what `place` put in; what `needed` says is in use by now stays."""
        stays = needed([Path(name).stem for name in self.placed]) if self.placed else set()
        for name in self.placed:
            if Path(name).stem not in stays:
                (self.folder.root / name).unlink(missing_ok=True)
        self.placed = []


def _forget(root: Path) -> None:
    for folder in root.glob(f"{PREFIX}*"):
        if time.time() - folder.stat().st_mtime > FORGOTTEN:
            shutil.rmtree(folder, ignore_errors=True)
