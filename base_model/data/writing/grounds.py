"""Colours by name, their contrast, and grounds that text stands on. Shapes: HW3 pixels."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from base_model.data.writing.written_image import Colour


class Named(NamedTuple):
    """A colour as captions call it."""

    rgb: Colour
    chinese: str


COLOURS: dict[str, Named] = {
    "black": Named((18, 18, 20), "黑色"), "white": Named((250, 250, 248), "白色"),
    "dark grey": Named((70, 72, 76), "深灰色"), "grey": Named((128, 130, 134), "灰色"),
    "light grey": Named((214, 216, 219), "浅灰色"), "cream": Named((248, 240, 220), "米色"),
    "beige": Named((226, 208, 178), "浅褐色"), "brown": Named((110, 68, 38), "棕色"),
    "red": Named((200, 30, 38), "红色"), "dark red": Named((120, 18, 28), "深红色"),
    "orange": Named((240, 130, 30), "橙色"), "yellow": Named((250, 214, 60), "黄色"),
    "gold": Named((190, 140, 40), "金色"), "green": Named((34, 130, 62), "绿色"),
    "dark green": Named((16, 70, 44), "深绿色"), "light green": Named((196, 228, 190), "浅绿色"),
    "teal": Named((16, 120, 124), "青色"), "light blue": Named((190, 216, 240), "浅蓝色"),
    "blue": Named((32, 90, 190), "蓝色"), "dark blue": Named((20, 34, 92), "深蓝色"),
    "purple": Named((108, 50, 140), "紫色"), "pink": Named((246, 190, 204), "粉色"),
}  # fmt: skip
CONTRAST = 4.5
"""least contrast ratio of ink and ground (WCAG 2.1, normal text)"""
JITTER = 6
"""levels by which a colour differs from the one of its name"""


def luminance(colour: Colour) -> float:
    """Relative luminance in [0, 1] (WCAG 2.1)."""
    channel = np.asarray(colour, dtype=float) / 255.0
    linear = np.where(channel <= 0.03928, channel / 12.92, ((channel + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def contrast(a: Colour, b: Colour) -> float:
    """Contrast ratio of two colours, 1 to 21 (WCAG 2.1)."""
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@functools.cache
def inks_on(ground: str, least: float = CONTRAST) -> tuple[str, ...]:
    """The colours that are legible on a ground."""
    return tuple(name for name in COLOURS if contrast(COLOURS[name].rgb, COLOURS[ground].rgb) >= least)


@functools.cache
def grounds_with_inks(least: float = CONTRAST) -> tuple[str, ...]:
    """The colours on which some ink is legible."""
    return tuple(name for name in COLOURS if inks_on(name, least))


def varied(name: str, rng: np.random.Generator) -> Colour:
    """A colour near the one of a name."""
    red, green, blue = np.clip(np.asarray(COLOURS[name].rgb) + rng.integers(-JITTER, JITTER + 1, 3), 0, 255).tolist()
    return red, green, blue


def ink_and_ground(rng: np.random.Generator, least: float = CONTRAST + 0.8) -> tuple[str, str]:
    """Names of an ink and a ground that it is legible on, with a reserve for what is varied."""
    ground = str(rng.choice(grounds_with_inks(least)))
    return str(rng.choice(inks_on(ground, least))), ground


def noise(rng: np.random.Generator, size: tuple[int, int], scale: int) -> np.ndarray:
    """float32 [H, W] whose spots are `scale` pixels wide, of unit variance before they are joined."""
    import cv2

    if scale == 1:
        return rng.standard_normal(size, dtype=np.float32)
    rows, columns = (max(2, side // scale + 2) for side in size)
    small = rng.standard_normal((rows, columns), dtype=np.float32)
    return np.asarray(cv2.resize(small, (size[1], size[0]), interpolation=cv2.INTER_CUBIC))


GROUNDS = ("plain", "gradient", "paper")


def ground(rng: np.random.Generator, size: tuple[int, int], colour: Colour, kind: str) -> np.ndarray:
    """uint8 [H, W, 3]: one colour, one that changes a little from side to side, or paper with its grain."""
    import cv2

    height, width = size
    if kind == "plain":
        return np.full((height, width, 3), colour, np.uint8)
    if kind == "gradient":
        angle = rng.uniform(0, 2 * np.pi)
        x, y = np.linspace(-0.5, 0.5, width, dtype=np.float32), np.linspace(-0.5, 0.5, height, dtype=np.float32)
        levels = (np.cos(angle) * x[None] + np.sin(angle) * y[:, None]) * float(rng.uniform(10, 26))
    else:
        levels = cv2.addWeighted(noise(rng, size, 2), 2.0, noise(rng, size, 9), 2.0, 0.0)
        levels = cv2.addWeighted(levels, 1.0, noise(rng, size, 60), 3.0, 0.0)
    return np.asarray(cv2.merge([cv2.convertScaleAbs(levels, alpha=1.0, beta=float(level)) for level in colour]))
