"""Where the lines of text stand in an image: differentiable binarisation (DB), run directly by onnxruntime.

The network gives each pixel the probability that it belongs to the shrunken core of a text line. Cores are cut out at
``CORE``, boxed by their smallest rotated rectangle, and grown back by

    (1)  distance = UNCLIP * area / perimeter        on every side

Source: Liao et al. 2020 (DB), with the constants of PaddleX's OCR pipeline. Growing a rectangle outwards and boxing it
again, as the paper's polygon clipping does, is the same as making its sides longer by twice the distance.

Legend: HW image pixels, N boxes, 42 corners x (column, row), clockwise from the upper left of the text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rewards.text.recognisers import one_thread

CORE = 0.3  # probability from which a pixel belongs to a core
SURE = 0.6  # mean probability from which a core is text
UNCLIP = 1.5
SMALLEST = 3  # pixels, the shorter side of a core
STRIDE = 32  # pixels; the network's sides are multiples of it
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TALL = 1.5  # height / width from which a line is read as turned by a quarter


class Detector:
    """Detection weights, one thread. ``least`` and ``most`` bound the image's shorter and longer side in pixels: a
    small image is enlarged until letters have the size that the network knows, a large one reduced."""

    def __init__(self, weights: Path, least: int = 256, most: int = 1536) -> None:
        self._session = one_thread(weights)
        self._input = self._session.get_inputs()[0].name
        self._least, self._most = least, most
        self.name = weights.stem

    def scale(self, height: int, width: int) -> float:
        """How much an image of that size is enlarged, or reduced, before the network sees it."""
        return min(max(self._least / min(height, width), 1.0), self._most / max(height, width))

    def find(self, image_HW3: np.ndarray, scale: float | None = None) -> list[np.ndarray]:
        """Boxes of a uint8 RGB image in reading order: rows from the top, each from the left. ``scale``: another one
        than that of its size."""
        import cv2

        height, width = image_HW3.shape[:2]
        scale = self.scale(height, width) if scale is None else scale
        size = tuple(max(round(side * scale / STRIDE), 1) * STRIDE for side in (width, height))
        scaled = cv2.resize(np.ascontiguousarray(image_HW3[:, :, ::-1]), size)
        pixels_HW3 = (scaled.astype(np.float32) / 255.0 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
        batch = np.ascontiguousarray(pixels_HW3.transpose(2, 0, 1)[None])
        core_HW = self._session.run(None, {self._input: batch})[0][0, 0]
        return in_reading_order(boxes(core_HW, (width / size[0], height / size[1])))


def boxes(core_HW: np.ndarray, scale: tuple[float, float]) -> list[np.ndarray]:
    """The boxes of a probability map: corners in pixels of the image, ``scale`` is (x, y) of those per map pixel."""
    import cv2

    contours, _ = cv2.findContours((core_HW > CORE).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    results = []
    for contour in contours:
        centre, (width, height), angle = cv2.minAreaRect(contour)
        if min(width, height) < SMALLEST:
            continue
        if _mean_inside(core_HW, cv2.boxPoints((centre, (width, height), angle))) < SURE:
            continue
        distance = UNCLIP * width * height / (2 * (width + height))  # eq. (1)
        grown = cv2.boxPoints((centre, (width + 2 * distance, height + 2 * distance), angle))
        results.append(_clockwise(grown) * np.array(scale))
    return results


def _mean_inside(core_HW: np.ndarray, corners_42: np.ndarray) -> float:
    import cv2

    left, top = np.floor(corners_42.min(axis=0)).astype(int).clip(0)
    right, bottom = np.ceil(corners_42.max(axis=0)).astype(int) + 1
    part_HW = core_HW[top:bottom, left:right]
    mask_HW = np.zeros(part_HW.shape, dtype=np.uint8)
    cv2.fillPoly(mask_HW, [(corners_42 - [left, top]).astype(np.int32)], (1.0,))
    return float(part_HW[mask_HW > 0].mean()) if mask_HW.any() else 0.0


def _clockwise(corners_42: np.ndarray) -> np.ndarray:
    """Upper left, upper right, lower right, lower left: the upper side is the one that points to the right most."""
    about_42 = corners_42 - corners_42.mean(axis=0)
    around = corners_42[np.argsort(np.arctan2(about_42[:, 1], about_42[:, 0]), kind="stable")]
    sides_42 = np.roll(around, -1, axis=0) - around
    lengths = np.maximum(np.linalg.norm(sides_42, axis=1), 1e-9)
    return np.roll(around, -int(np.argmax(sides_42[:, 0] / lengths)), axis=0)


def in_reading_order(results: list[np.ndarray]) -> list[np.ndarray]:
    """Rows from the top, each from the left. Boxes share a row when the centre of one is within half of the other."""
    rows: list[list[np.ndarray]] = []
    for box in sorted(results, key=lambda each: float(each[:, 1].mean())):
        middle = box[:, 1].mean()
        for row in rows:
            first = row[0]
            if abs(first[:, 1].mean() - middle) < 0.5 * min(_height(first), _height(box)):
                row.append(box)
                break
        else:
            rows.append([box])
    return [box for row in rows for box in sorted(row, key=lambda each: float(each[:, 0].min()))]


def _height(corners_42: np.ndarray) -> float:
    return float(np.linalg.norm(corners_42[3] - corners_42[0]))


def is_tall(crop_HW3: np.ndarray) -> bool:
    """Whether a crop is so much taller than wide that it holds a turned line, or a single letter."""
    return crop_HW3.shape[0] >= TALL * crop_HW3.shape[1]


def cut_out(image_HW3: np.ndarray, corners_42: np.ndarray) -> np.ndarray:
    """What stands between the corners, its upper side up."""
    import cv2

    corners = corners_42.astype(np.float32)
    width = max(round(max(np.linalg.norm(corners[1] - corners[0]), np.linalg.norm(corners[2] - corners[3]))), 1)
    height = max(round(max(np.linalg.norm(corners[3] - corners[0]), np.linalg.norm(corners[2] - corners[1]))), 1)
    target = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float32)
    matrix: Any = cv2.getPerspectiveTransform(corners, target)
    flat: np.ndarray = cv2.warpPerspective(
        image_HW3, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE, flags=cv2.INTER_CUBIC
    )
    return flat
