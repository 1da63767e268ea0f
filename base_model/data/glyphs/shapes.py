"""A character in a face: its pixels, the middle line of its strokes, and how wide they are.

Faces and Chinese characters are in two parts. What is held out is in no training, so that a network can be measured on
faces and characters that it has not seen. Legend: HW pixels of a square canvas, N points.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from base_model.data.writing.corpora import common_characters
from base_model.data.writing.faces import FACES, Face, font, undrawable

SIDE = 112
"""pixels of the canvas"""
EM = 84
"""pixels; a character whose ink is larger than MOST is scaled down to it"""
MOST = 96
LATIN = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
LANGUAGES = ("en", "zh-Hans")
BARS = frozenset("Il1|-一丨丶")
"""Characters of a single stroke: half of one is one again, so no rule can call it broken."""
CHINESE = 800
"""characters that a network learns from"""
HELD_OUT = 4
"""one Chinese character in so many is in no training"""


def _plotted(name: str, style: str, file: str) -> Face:
    return Face(name, style, "matplotlib", f"mpl-data/fonts/ttf/{file}.ttf")


TRAINING: dict[str, tuple[Face, ...]] = {
    "en": (
        *(FACES[name] for name in ("Inter", "Source Serif 4", "Playfair Display", "JetBrains Mono", "Oswald")),
        _plotted("DejaVu Sans", "sans", "DejaVuSans"), _plotted("DejaVu Sans Bold", "sans", "DejaVuSans-Bold"),
        _plotted("DejaVu Serif", "serif", "DejaVuSerif"), _plotted("DejaVu Serif Bold", "serif", "DejaVuSerif-Bold"),
        _plotted("DejaVu Sans Mono Bold", "mono", "DejaVuSansMono-Bold"),
        _plotted("STIX", "serif", "STIXGeneral"), _plotted("STIX Bold", "serif", "STIXGeneralBol"),
        _plotted("Computer Modern Sans", "sans", "cmss10"),
    ),
    "zh-Hans": tuple(FACES[name] for name in ("Noto Sans SC", "Noto Serif SC", "Noto Sans CJK SC")),
}  # fmt: skip
"""language -> faces that a network learns from."""
UNSEEN: dict[str, tuple[Face, ...]] = {
    "en": tuple(FACES[name] for name in ("Montserrat", "Lora", "Roboto Slab")), "zh-Hans": (),
}  # fmt: skip
"""language -> faces of packages that are in no training. There are none for Chinese that differ from those above; files
are named where it is measured."""
REFERENCES: dict[str, tuple[Face, Face]] = {
    "en": (FACES["Inter"], FACES["Source Serif 4"]), "zh-Hans": (FACES["Noto Sans SC"], FACES["Noto Serif SC"]),
}  # fmt: skip
"""language -> the faces, without and with serifs, that show what a character should look like."""


@dataclass(frozen=True)
class Shape:
    """A character on its canvas."""

    character: str
    levels_HW: np.ndarray
    """uint8, 255 = ink"""
    skeleton_N2: np.ndarray
    """row and column of the points in the middle of strokes"""
    nearest_HW: np.ndarray
    """int16, which of those points each pixel is nearest to"""
    half: float
    """half the width of a stroke in pixels"""

    @property
    def mask_HW(self) -> np.ndarray:
        """float32, 1 = ink"""
        return self.levels_HW.astype(np.float32) / 255.0


@dataclass(frozen=True)
class Cut:
    """A face at one of its weights."""

    face: Face
    weight: int


def cuts(faces: Sequence[Face]) -> tuple[Cut, ...]:
    """Every face at every weight that is used of it."""
    return tuple(Cut(face, weight) for face in faces for weight in face.weights)


def chinese(held_out: bool = False) -> str:
    """Characters to learn from, or those that are in no training; by their hash alone."""
    ranked = sorted(common_characters(), key=_hash)
    split = [c for c in ranked if (_hash(c)[0] % HELD_OUT == 0) == held_out]
    return "".join(split[: CHINESE // HELD_OUT if held_out else CHINESE])


def alphabet(language: str, held_out: bool = False) -> str:
    """The characters of a language that are learned from. The Latin ones are few, and none of them is held out."""
    return LATIN if language == "en" else chinese(held_out)


def _hash(character: str) -> bytes:
    return hashlib.sha256(character.encode()).digest()


def rendered(cut: Cut, character: str) -> np.ndarray:
    """uint8 [H, W]: the ink of a character in the middle of the canvas. Raises ValueError where the face lacks it."""
    if why := undrawable(cut.face, character):
        raise ValueError(f"{cut.face.name}: {character!r} (U+{ord(character):04X}) {why}")
    type_face = font(cut.face, cut.weight, EM)
    left, top, right, bottom = type_face.getbbox(character)
    image = Image.new("L", (round(right - left) + 4, round(bottom - top) + 4))
    ImageDraw.Draw(image).text((2 - left, 2 - top), character, fill=255, font=type_face)
    image = image.crop(image.getbbox())
    if max(image.size) > MOST:
        scale = MOST / max(image.size)
        image = image.resize((max(round(image.width * scale), 1), max(round(image.height * scale), 1)))
    canvas = Image.new("L", (SIDE, SIDE))
    canvas.paste(image, ((SIDE - image.width) // 2, (SIDE - image.height) // 2))
    return np.asarray(canvas)


@functools.lru_cache(maxsize=6_000)
def shape(cut: Cut, character: str) -> Shape:
    """A character with its strokes. Raises ValueError where the face lacks it."""
    return with_strokes(character, rendered(cut, character))


def with_strokes(character: str, levels_HW: np.ndarray) -> Shape:
    """A character of its pixels."""
    import cv2

    ink_HW = (levels_HW > 127).astype(np.uint8)
    thin_HW = cv2.ximgproc.thinning(ink_HW * 255) > 0
    if not thin_HW.any():
        thin_HW[SIDE // 2, SIDE // 2] = True
    inside_HW = cv2.distanceTransform(ink_HW, cv2.DIST_L2, 3)
    _, label_HW = cv2.distanceTransformWithLabels(
        (~thin_HW).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    points_N2 = np.argwhere(thin_HW)
    order = np.zeros(int(label_HW.max()) + 1, dtype=np.int32)
    order[label_HW[thin_HW]] = np.arange(len(points_N2))
    half = float(np.median(inside_HW[thin_HW]))
    return Shape(character, levels_HW, points_N2, order[label_HW].astype(np.int16), max(half, 1.0))
