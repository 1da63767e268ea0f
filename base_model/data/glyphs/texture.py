"""What happens to every character on its way into an image, sound or broken: size, slant, ink, blur, grain, ringing.

Texture is not shape. A network that saw grain on broken characters alone would learn that grain is what is wrong, so
everything here is done to both. Legend: HW pixels, HW3 an image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from base_model.data.glyphs.shapes import SIDE, Shape


@dataclass(frozen=True)
class Conditions:
    """How hard the way into the image is."""

    heights: tuple[int, int] = (16, 44)
    """pixels of the canvas' side in the image, times SIDE / EM"""
    blur: float = 1.0
    """times the usual standard deviation of up to 1.1 pixels"""
    grain: float = 0.14
    """standard deviation of the noise at most, in shares of the contrast"""
    reshaped: bool = True
    """whether weight, width and slant of the face vary"""


USUAL = Conditions()
CLEAN = Conditions(blur=0.0, grain=0.0, reshaped=False)
"""As a program renders it."""


def weight_varied(rng: np.random.Generator, sound: Shape) -> Shape:
    """The character with strokes a little bolder or lighter, of which the upright ones may change more than the
    others. Their middle lines stay."""
    import cv2

    by = rng.uniform(-0.45, 0.6) * sound.half
    reach = round(abs(by)) * 2 + 1
    if reach < 3:
        return sound
    tall = 1 if rng.random() < 0.4 else reach
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, tall))
    levels_HW = cv2.dilate(sound.levels_HW, kernel) if by > 0 else cv2.erode(sound.levels_HW, kernel)
    return replace(sound, levels_HW=levels_HW, half=max(sound.half + by, 1.0))


def geometry(rng: np.random.Generator, conditions: Conditions) -> tuple[np.ndarray, tuple[int, int]]:
    """A matrix [2, 3] from the canvas into the image, and the image's (height, width)."""
    size = rng.uniform(*conditions.heights) * 1.33 / SIDE
    if conditions.reshaped:
        slant, turn, wide = rng.normal(0, 0.06), rng.normal(0, 0.03), np.exp(rng.normal(0, 0.09))
        wide *= rng.uniform(0.6, 1.0) if rng.random() < 0.2 else 1.0  # condensed, as to fit a cell
    else:
        slant, turn, wide = 0.0, 0.0, 1.0
    matrix = (
        size
        * np.array([[wide, -slant], [0.0, 1.0]])
        @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    )
    side = round(SIDE * size * 1.15)
    offset = side / 2 - matrix @ np.array([SIDE / 2, SIDE / 2]) + rng.uniform(-0.5, 0.5, 2)
    return np.concatenate([matrix, offset[:, None]], 1), (side, side)


def placed(mask_HW: np.ndarray, matrix_23: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask in the image, averaged over the pixels that it is scaled down by."""
    import cv2

    scale = float(np.sqrt(abs(np.linalg.det(matrix_23[:, :2]))))
    soft_HW = cv2.GaussianBlur(mask_HW, (0, 0), 0.4 / scale) if scale < 0.9 else mask_HW
    result: np.ndarray = cv2.warpAffine(soft_HW, matrix_23, size[::-1], flags=cv2.INTER_LINEAR)
    return result


def inked(rng: np.random.Generator, coverage_HW: np.ndarray, conditions: Conditions) -> np.ndarray:
    """uint8 [H, W, 3]: coverage in two colours that differ enough, with blur, ringing, grain and compression."""
    import cv2

    level_HW = coverage_HW
    if conditions.blur and rng.random() < 0.7:
        level_HW = cv2.GaussianBlur(level_HW, (0, 0), float(conditions.blur * rng.uniform(0.3, 1.1)))
    if conditions.blur and rng.random() < 0.4:  # ringing: what is cut off above a frequency, as decoders do
        level_HW = level_HW + rng.uniform(0.3, 1.4) * (level_HW - cv2.GaussianBlur(level_HW, (0, 0), 1.4))
    if conditions.grain and rng.random() < 0.6:
        grain_HW: np.ndarray = rng.normal(0, rng.uniform(0.02, conditions.grain), level_HW.shape)
        if rng.random() < 0.5:
            grain_HW = cv2.GaussianBlur(grain_HW, (0, 0), 0.8) * 1.8
        level_HW = level_HW + grain_HW
    ground_3, ink_3 = _colours(rng)
    image = ground_3 + level_HW[:, :, None] * (ink_3 - ground_3)
    image_HW3: np.ndarray = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    if conditions.grain and rng.random() < 0.3:
        quality = int(rng.integers(45, 95))
        _, content = cv2.imencode(".jpg", image_HW3, [cv2.IMWRITE_JPEG_QUALITY, quality])
        image_HW3 = np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR))
    return image_HW3


def _colours(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Ground and ink as RGB: black on white in a third, else any two that differ by 90 levels in brightness."""
    if rng.random() < 0.35:
        pair = np.array([[250.0, 250.0, 250.0], [16.0, 16.0, 16.0]])
    else:
        pair = rng.uniform(0, 255, (2, 3))
        while abs(pair[0].mean() - pair[1].mean()) < 90:
            pair = rng.uniform(0, 255, (2, 3))
    return (pair[0], pair[1]) if rng.random() < 0.75 else (pair[1], pair[0])
