"""Colour profiles (ICC) that image files carry: what their pixels are in sRGB, as a viewer shows them.

The same numbers are other colours in Adobe RGB or in Display P3, which phones and screenshots use. LittleCMS converts
them, through Pillow: relative colorimetric with black point compensation, so white stays white and black stays black.
A profile that cannot be read, or that is for another kind of pixels, changes nothing, as in browsers; the log says so.
"""

from __future__ import annotations

import io
import itertools
import logging
from functools import lru_cache

from PIL import Image, ImageCms

INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION
SAME = 2
"""Levels of 255 up to which a profile counts as sRGB: published sRGB profiles differ from each other by as much."""
PROFILES = 64
"""Profiles that are remembered; building a conversion takes longer than applying it to a small image."""

log = logging.getLogger(__name__)


def in_srgb(image: Image.Image, profile: bytes | None, name: str) -> Image.Image:
    """An RGB image of the colours that pixels of the mode L, RGB or CMYK have by their profile, or as they are stored.

    Grey pixels with a profile for RGB have equal parts of the three colours. `name` is what the log calls the image."""
    if profile:
        try:
            if image.mode == "L" and _space(profile) == "RGB":
                image = image.convert("RGB")
            convert = conversion(profile, image.mode)
            if convert is not None:
                return convert.apply(image)
        except ValueError as error:
            log.warning("%s: its colour profile is ignored, and its colours are taken for sRGB: %s", name, error)
    return image if image.mode == "RGB" else image.convert("RGB")


def _space(profile: bytes) -> str:
    """The kind of pixels that a profile says it is for, as its head names it."""
    return profile[16:20].decode("latin-1").strip()


@lru_cache(PROFILES)
def conversion(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """What makes sRGB of pixels of a mode; None when they are sRGB already.

    Raises ValueError when the profile cannot be read or is none for such pixels."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        made = ImageCms.buildTransform(source, _srgb(), mode, "RGB", INTENT, FLAGS)
        shown = made.apply(probe := _probe(mode))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        raise ValueError(f"it is not a profile for {mode} pixels ({error})") from error
    stored = probe.convert("RGB").tobytes()
    return made if max(abs(a - b) for a, b in zip(shown.tobytes(), stored, strict=True)) > SAME else None


@lru_cache(1)
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _probe(mode: str) -> Image.Image:
    """Colours of the whole range: a grid, or every grey."""
    step = 1 if mode == "L" else 17 if mode == "RGB" else 51
    channels = len(mode)
    content = bytes(value for colour in itertools.product(range(0, 256, step), repeat=channels) for value in colour)
    return Image.frombytes(mode, (len(content) // channels, 1), content)
