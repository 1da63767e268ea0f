"""The canvas of an image: its aspect kept with about the pixels of a size, or the nearest of a few aspects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

ASPECTS = (1 / 3, 3.0)
"""height by width of the most extreme canvases when the aspect of an image is kept"""
WIDE = (1.25, 4 / 3, 1.5, 16 / 9, 2.0, 2.5, 3.0)
BUCKETS = (*(1 / ratio for ratio in reversed(WIDE)), 1.0, *WIDE)
"""height by width of the canvases where a network takes one size a call: few, so that images share them"""
Size = tuple[int, int]


def canvas(shape: Size, size: Size, side: int, aspects: Sequence[float] = ()) -> Size:
    """The (height, width) for an image of a shape, with about as many pixels as `size`: of its aspect, or of the
    nearest of `aspects`."""
    ratio = min(max(shape[0] / shape[1], ASPECTS[0]), ASPECTS[1])
    if aspects:
        own = size[0] / size[1]
        ratio = min((own, *aspects), key=lambda each: abs(np.log(each / ratio)))
        if ratio == own:
            return size
    area = size[0] * size[1]
    height = max(side, round((area * ratio) ** 0.5 / side) * side)
    return height, max(side, round(area / height / side) * side)


def cover(pixels_HW3: np.ndarray, size: Size) -> np.ndarray:
    """The image scaled until it covers (height, width), and its middle cut out."""
    height, width = pixels_HW3.shape[:2]
    scale = max(size[0] / height, size[1] / width)
    box_height, box_width = min(height, size[0] / scale), min(width, size[1] / scale)  # a quotient may round up
    top, left = (height - box_height) / 2, (width - box_width) / 2
    box = (left, top, left + box_width, top + box_height)
    return np.asarray(Image.fromarray(pixels_HW3).resize((size[1], size[0]), Image.Resampling.LANCZOS, box=box))
