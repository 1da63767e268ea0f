"""How an image becomes the square input of a vision model, and which part of it is left over.

A framing is two functions of a size S in pixels: ``frame`` makes squares of an image, ``sees`` says what they show.
The three published ones differ, and none sees all of a wide image at its shape: ``CENTRE_CROP`` (CLIP, PickScore,
ImageReward, LAION) loses 44 % of a 1664x928 image, ``SQUASH`` (SigLIP) distorts it, ``PAD_LONGEST`` (HPSv2) shrinks
it most. ``LETTERBOX`` and ``TILES`` are ours, for any of the models: all of the image at its shape, once or in
squares of at most ``TILE_SCALE`` S pixels that overlap as little as covering allows; their scores are averaged.

Shapes: V squares of one image, 3SS pixels in [0, 1], HW3 8-bit pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from rewards.scores import View

TILE_SCALE = 2  # a tile is shrunk by this at most: small text survives halving, and tiles are what costs
PADDING = (123, 117, 104)  # 8-bit mean colour of CLIP's training images: near 0 once a model has normalised it


@dataclass(frozen=True)
class Framing:
    """frame(picture_HW3, S) -> squares_V3SS, float32; sees(H, W, S) -> the part of such an image in them."""

    frame: Callable[[np.ndarray, int], np.ndarray]
    sees: Callable[[int, int, int], View]


def choose(view: str, published: Framing) -> Framing:
    """The framing of that name; ``published`` is what the reward's authors do."""
    framings = {"published": published, "letterbox": LETTERBOX, "tiles": TILES}
    if view not in framings:
        raise ValueError(f"view is {view!r}; choose one of {', '.join(framings)}")
    return framings[view]


def to_squares(squares: list[np.ndarray]) -> np.ndarray:
    """8-bit squares (S, S, 3) as (V, 3, S, S) float32 in [0, 1]."""
    return np.stack(squares).transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255.0)


def resized(image_HW3: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bicubic with antialiasing, as PIL does it; 8-bit in and out."""
    if image_HW3.shape[:2] == (height, width):
        return image_HW3
    image = Image.fromarray(np.ascontiguousarray(image_HW3))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def shortest_side(height: int, width: int, size: int) -> tuple[int, int]:
    """(height, width) with the shorter side ``size`` and the longer one rounded down, as CLIP's preprocessing does."""
    return (size, int(size * width / height)) if height <= width else (int(size * height / width), size)


def _centre_crop(margin: Callable[[int], int]) -> Framing:
    def frame(image_HW3: np.ndarray, size: int) -> np.ndarray:
        height, width = image_HW3.shape[:2]
        whole = resized(image_HW3, *shortest_side(height, width, size))
        top, left = margin(whole.shape[0] - size), margin(whole.shape[1] - size)
        return to_squares([whole[top : top + size, left : left + size]])

    def sees(height: int, width: int, size: int) -> View:
        whole_height, whole_width = shortest_side(height, width, size)
        return View(size * size / (whole_height * whole_width), size, size, "centre crop: the edges are not seen")

    return Framing(frame, sees)


def _squash(image_HW3: np.ndarray, size: int) -> np.ndarray:
    return to_squares([resized(image_HW3, size, size)])


def longest_side(height: int, width: int, size: int) -> tuple[int, int]:
    """(height, width) with the longer side ``size``, the other rounded."""
    scale = size / max(height, width)
    return max(round(height * scale), 1), max(round(width * scale), 1)


def _pad_longest(image_HW3: np.ndarray, size: int) -> np.ndarray:
    """HPSv2's: resized as float pixels, which may leave [0, 1] a little, then padded with black."""
    import torch

    height, width = longest_side(image_HW3.shape[0], image_HW3.shape[1], size)
    pixels = torch.from_numpy(to_squares([image_HW3]))
    if (height, width) != image_HW3.shape[:2]:
        pixels = torch.nn.functional.interpolate(
            pixels, (height, width), mode="bicubic", align_corners=False, antialias=True
        )
    top, left = (size - height) // 2, (size - width) // 2
    padding = (left, size - width - left, top, size - height - top)
    squares: np.ndarray = torch.nn.functional.pad(pixels, padding).numpy()
    return squares


def _letterbox(image_HW3: np.ndarray, size: int) -> np.ndarray:
    height, width = longest_side(image_HW3.shape[0], image_HW3.shape[1], size)
    square = np.empty((size, size, 3), dtype=np.uint8)
    square[:] = PADDING
    top, left = (size - height) // 2, (size - width) // 2
    square[top : top + height, left : left + width] = resized(image_HW3, height, width)
    return to_squares([square])


def _sees_all_once(how: str) -> Callable[[int, int, int], View]:
    return lambda height, width, size: View(1.0, *longest_side(height, width, size), how)


def tile_boxes(height: int, width: int, size: int) -> Iterator[tuple[int, int, int]]:
    """(top, left, side) of the tiles, evenly placed: the fewest of that side that cover the image."""
    side = min(height, width, TILE_SCALE * size)
    rows, columns = math.ceil(height / side), math.ceil(width / side)
    for top in np.linspace(0, height - side, rows).round().astype(int):
        for left in np.linspace(0, width - side, columns).round().astype(int):
            yield int(top), int(left), side


def _tiles(image_HW3: np.ndarray, size: int) -> np.ndarray:
    boxes = tile_boxes(image_HW3.shape[0], image_HW3.shape[1], size)
    return to_squares(
        [resized(image_HW3[top : top + side, left : left + side], size, size) for top, left, side in boxes]
    )


def _sees_tiles(height: int, width: int, size: int) -> View:
    boxes = list(tile_boxes(height, width, size))
    rows, columns = len({top for top, _, _ in boxes}), len({left for _, left, _ in boxes})
    return View(1.0, rows * size, columns * size, f"all of it, in {rows} x {columns} tiles, scores averaged")


CENTRE_CROP = _centre_crop(lambda margin: round(margin / 2))  # torchvision's rounding: half to even
CENTRE_CROP_FLOOR = _centre_crop(lambda margin: margin // 2)  # transformers' rounding
SQUASH = Framing(_squash, lambda height, width, size: View(1.0, size, size, "all of it, squashed to a square"))
PAD_LONGEST = Framing(_pad_longest, _sees_all_once("all of it, padded with black"))
LETTERBOX = Framing(_letterbox, _sees_all_once("all of it, letterboxed"))
TILES = Framing(_tiles, _sees_tiles)
