"""What a photograph tells about how it was taken, so that what is put into it looks taken with it. Shapes: HW3 pixels.

light   how bright each part is, without the things in it
blur    (Q1)  sigma = s / sqrt(R^2 - 1),  R = |grad I| / |grad (I * G_s)|  at the strongest edges
                                                                  Zhuo & Sim, Pattern Recognition 44(9), 2011
noise   (Q2)  sigma = sqrt(pi / 2) / 6 * mean |I * N|, of the smoothest blocks      Immerkaer, CVIU 64(2), 1996
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from base_model.data.writing.written_image import Photographs, Unwritable

REBLUR = 1.0
"""s of (Q1), in pixels"""
STEP = 0.83
"""what (Q1) gives for a step between two pixels, because a gradient is taken over three"""
EDGES = 0.02
"""share of pixels that count as edges: those with the strongest gradients"""
SHARPEST = 0.3
"""quantile of the edges' blur that counts: of what is in focus"""
MOST_BLUR = 4.0
SOFTENED = 0.35
"""power of the light: what is in front of a dark part of a photograph is not as dark"""
BLOCK = 16
"""pixels of a side of the blocks among which the smoothest say what noise is"""
SMOOTHEST = 0.2
"""quantile of the blocks"""
LEAST_DETAIL = 0.4
"""pixels of a photograph, along a side, for one of the image"""
FLAT = 3.0
"""levels; an image whose strongest gradients are weaker shows no edge"""


@dataclass(frozen=True)
class Taken:
    """A part of a photograph, and what was measured on it."""

    pixels_HW3: np.ndarray
    blur: float
    """sigma of what is in focus, in pixels"""
    noise: float
    """sigma, in levels of 255"""
    light_HW: np.ndarray
    """float32, around 1: how bright each part is beside the whole"""
    tint: np.ndarray
    """colour of the light [3], around 1"""
    exposure: float
    """mean level in [0, 1]"""


def cut_out(photographs: Photographs, rng: np.random.Generator, size: tuple[int, int]) -> tuple[np.ndarray, int]:
    """A part of one of the photographs, scaled to a size, and which photograph it is.

    Raises Unwritable when it is damaged, or has too few pixels.
    """
    import cv2

    index = int(rng.integers(len(photographs)))
    try:
        pixels = photographs.pixels(index)
    except (ValueError, OSError) as error:
        raise Unwritable("photograph", str(error), "name other photographs") from error
    height, width = pixels.shape[:2]
    scale = min(height / size[0], width / size[1]) * float(rng.uniform(0.6, 1.0))
    if scale < LEAST_DETAIL:
        small = f"{width}x{height} pixels are too few for images of {size[1]}x{size[0]}"
        raise Unwritable("photograph", small, "name larger photographs, or take a smaller size")
    rows, columns = max(1, int(size[0] * scale)), max(1, int(size[1] * scale))
    top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
    part = pixels[top : top + rows, left : left + columns]
    smaller = cv2.INTER_AREA if scale >= 1.0 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(part, (size[1], size[0]), interpolation=smaller)), index


def measured(pixels_HW3: np.ndarray) -> Taken:
    """A part of a photograph with what it tells."""
    import cv2

    grey = cv2.cvtColor(pixels_HW3, cv2.COLOR_RGB2GRAY)
    level = grey.astype(np.float32)
    rows, columns = (max(4, side // 16) for side in level.shape)
    small = cv2.resize(level, (columns, rows), interpolation=cv2.INTER_AREA)
    soft = cv2.GaussianBlur(small, (0, 0), max(1.0, 0.12 * max(rows, columns))) + 8.0
    light = cv2.resize(
        (soft / soft.mean()) ** SOFTENED, (level.shape[1], level.shape[0]), interpolation=cv2.INTER_LINEAR
    )
    mean = pixels_HW3.reshape(-1, 3).mean(0) + 8.0
    return Taken(
        pixels_HW3, blur_of(level), noise_of(level), light, (mean / mean.mean()).astype(np.float32),
        float(level.mean() / 255.0),
    )  # fmt: skip


def blur_of(level_HW: np.ndarray) -> float:
    """(Q1), in pixels: from about 0 for a step between two pixels to `MOST_BLUR`, which is also what no edge gives."""
    import cv2

    before = _gradient(level_HW)
    after = _gradient(cv2.GaussianBlur(level_HW, (0, 0), REBLUR))
    count = max(1, int(EDGES * before.size))
    edges = before >= max(FLAT, float(np.partition(before.ravel(), -count)[-count]))
    if not edges.any():
        return MOST_BLUR
    ratio = before[edges] / np.maximum(after[edges], 1e-3)
    sigma = REBLUR / np.sqrt(np.maximum(ratio**2 - 1.0, (REBLUR / MOST_BLUR) ** 2))
    own = max(0.0, float(np.quantile(sigma, SHARPEST)) ** 2 - STEP**2)
    return min(float(own**0.5), MOST_BLUR)


def _gradient(level_HW: np.ndarray) -> np.ndarray:
    import cv2

    return np.asarray(
        cv2.magnitude(cv2.Sobel(level_HW, cv2.CV_32F, 1, 0) / 8, cv2.Sobel(level_HW, cv2.CV_32F, 0, 1) / 8)
    )


def noise_of(level_HW: np.ndarray) -> float:
    """(Q2), in levels."""
    import cv2

    kernel = np.asarray([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    differences = np.abs(cv2.filter2D(level_HW, cv2.CV_32F, kernel))
    rows, columns = (max(1, side // BLOCK) for side in level_HW.shape)
    blocks = cv2.resize(differences, (columns, rows), interpolation=cv2.INTER_AREA)
    return float(np.quantile(blocks, SMOOTHEST) * np.sqrt(np.pi / 2) / 6)
