"""Images of the store: checked when they come in, kept as SHA256.png, without anything but pixels.

A file's metadata may name the model, the seed or the prompt, and would tell an annotator which image is whose. So an
image is decoded and written again, or, where it is a plain PNG, its pixel data is taken over and all else left out.
What it is called is the hash of its pixels.
"""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from preference_data.image_files import decode_image, read_source
from preference_data.pixels import pixel_hash
from preference_data.png import only_pixels
from preference_data.records import Prompt

_NAME = re.compile(r"[0-9a-f]{64}")


class ImageFolder:
    """A folder of SHA256.png; made when the first image comes."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def path(self, sha256: str) -> Path:
        """Where an image is. Raises ValueError when the name is no hash, FileNotFoundError when it is not there."""
        if not _NAME.fullmatch(sha256):
            raise ValueError(f"{sha256!r} names no image; a name is 64 lower-case hex digits")
        path = self.root / f"{sha256}.png"
        if not path.exists():
            raise FileNotFoundError(f"the image {sha256[:12]} is not in {self.root}; was the folder moved?")
        return path

    def has(self, sha256: str) -> bool:
        """Whether the image is here."""
        return (self.root / f"{sha256}.png").exists()

    def add(self, content: bytes, name: str = "the upload") -> tuple[str, int, int]:
        """Check and keep an image file's bytes; (sha256, width, height). Raises ValueError as `decode_image`."""
        pixels = decode_image(content, name)
        sha = pixel_hash(pixels.transpose(2, 0, 1))
        path = self.root / f"{sha}.png"
        if not self.has(sha):
            self.root.mkdir(parents=True, exist_ok=True)
            handle, fresh = tempfile.mkstemp(prefix=".new.", dir=self.root)
            try:
                with os.fdopen(handle, "wb") as file:
                    write_plain(file, only_pixels(content), pixels)
                os.chmod(fresh, 0o644)
                os.replace(fresh, path)
            except BaseException:
                Path(fresh).unlink(missing_ok=True)
                raise
        return sha, pixels.shape[1], pixels.shape[0]


def write_plain(file: IO[bytes], plain: bytes | None, pixels_HW3: np.ndarray) -> None:
    """Write a PNG with nothing but pixels; `plain` is what `only_pixels` found in the file they were decoded from."""
    if plain is not None:
        file.write(plain)
    else:
        Image.fromarray(pixels_HW3).save(file, format="PNG", compress_level=3)


def keep_sources(prompt: Prompt, images: ImageFolder) -> Prompt:
    """The prompt with its source images in the folder. Raises ValueError when one is missing or was changed."""
    for source in prompt.sources:
        if not images.has(source.sha256):
            content = BytesIO()
            Image.fromarray(read_source(source)).save(content, format="PNG")
            images.add(content.getvalue(), source.path)
    return replace(prompt, sources=tuple(replace(s, path=str(images.path(s.sha256))) for s in prompt.sources))
