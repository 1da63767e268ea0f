"""One image as the measures see it: decoded once, in full and reduced, in colour and grey, each when it is asked for.

Shapes: HW3 and HW pixels, uint8.
"""

from __future__ import annotations

import functools
from hashlib import sha256

import numpy as np

from experiments.images.image_readers import Entry
from preference_data.image_files import decode_image, format_and_orientation

SIDE = 512
"""pixels of the shorter side of the reduced image"""
ENDINGS = {"JPEG": (".jpg", ".jpeg"), "MPO": (".jpg", ".jpeg"), "PNG": (".png",), "WEBP": (".webp",)}
MIRRORED = (2, 4, 5, 7)
"""values of EXIF's orientation that mirror"""


class OpenedImage:
    """An entry with its bytes. Reading them may raise OSError or ValueError, and so may decoding."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.content = entry.content()

    @functools.cached_property
    def rgb(self) -> np.ndarray:
        """All pixels, as a viewer shows them. Raises ValueError as `decode_image`."""
        return decode_image(self.content, self.entry.name)

    @functools.cached_property
    def reduced(self) -> np.ndarray:
        """The pixels at a short side of at most `SIDE`."""
        import cv2

        height, width = self.rgb.shape[:2]
        scale = SIDE / min(height, width)
        if scale >= 1.0:
            return self.rgb
        size = max(1, round(width * scale)), max(1, round(height * scale))
        return np.asarray(cv2.resize(self.rgb, size, interpolation=cv2.INTER_AREA))

    @functools.cached_property
    def reduced_grey(self) -> np.ndarray:
        """The grey levels of `reduced`."""
        import cv2

        return np.asarray(cv2.cvtColor(self.reduced, cv2.COLOR_RGB2GRAY))

    @functools.cached_property
    def grey(self) -> np.ndarray:
        """The grey levels of all pixels."""
        import cv2

        return np.asarray(cv2.cvtColor(self.rgb, cv2.COLOR_RGB2GRAY))

    def head(self) -> dict[str, float | str]:
        """What the file says: its ending by its format, whether its name has another one, and how it is turned."""
        kind, turn = format_and_orientation(self.content, self.entry.name)
        endings = ENDINGS[kind]
        name = self.entry.name.lower()
        named = self.entry.kind in ("file", "tar")
        return {
            "ending": endings[0],
            "misnamed": float(named and not name.endswith(endings)),
            "turned": 2.0 if turn in MIRRORED else float(turn in (3, 6, 8)),
        }

    @functools.cached_property
    def identity(self) -> str:
        """sha256 of the bytes."""
        return sha256(self.content).hexdigest()
