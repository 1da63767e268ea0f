"""An image of a character -> what the network sees of it: ink from 0 to 1 on a square, fitted to the ink.

Colours and contrast go, so that they are no reason to call a character broken. The ink decides the frame and not the
box that a locator gave, whose error would become the reward's noise.

Legend: HW3 an image, HW its pixels, ZZ the square.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rewards.text.reading.ink import ground_of, largest

SIDE = 32
"""pixels of the square"""
INNER = 26
"""pixels of the longer side of the ink"""
FAINT = 24
"""8-bit levels: what differs from the ground by less is no ink"""
INK = 0.35
"""of full ink, averaged over 3 x 3 pixels: what reaches it belongs to the character"""


@dataclass(frozen=True)
class Frame:
    """The square of an image that is scaled to the network's, in pixels."""

    left: float
    top: float
    side: float


def levels(image_HW3: np.ndarray, ground_3: np.ndarray | None = None) -> np.ndarray | None:
    """float32 [H, W]: 0 = ground, 1 = full ink, on the axis between the two colours; None where there is no ink."""
    difference_HW3 = image_HW3.astype(np.float32) - (ground_of(image_HW3) if ground_3 is None else ground_3)
    size_HW = largest(np.abs(difference_HW3))
    strongest = float(np.partition(size_HW, -3, axis=None)[-3]) if size_HW.size > 3 else float(size_HW.max())
    if strongest < FAINT:
        return None
    axis_3 = difference_HW3[size_HW >= 0.7 * strongest].mean(axis=0)
    length = float(np.linalg.norm(axis_3))
    if length < FAINT / 2:  # ink on both sides of the ground: noise
        return None
    level_HW = difference_HW3 @ (axis_3 / length**2)
    inside = level_HW[level_HW > 0.5]
    full = float(np.median(inside)) if inside.size else 1.0
    result: np.ndarray = np.clip(level_HW / max(full, 1e-3), 0.0, 1.0)
    return result


def ink_box(level_HW: np.ndarray) -> tuple[int, int, int, int] | None:
    """Left, top, width and height of the ink in pixels; None where no 3 x 3 pixels are ink."""
    import cv2

    ink_HW = cv2.blur(level_HW, (3, 3), borderType=cv2.BORDER_REPLICATE) >= INK
    left, top, wide, high = cv2.boundingRect(ink_HW.view(np.uint8))
    return (left, top, wide, high) if wide else None


def frame_of(level_HW: np.ndarray) -> Frame | None:
    """The square about the ink, which fills ``INNER`` of ``SIDE``; None where no 3 x 3 pixels are ink."""
    box = ink_box(level_HW)
    return None if box is None else frame_about(box)


def frame_about(box: tuple[int, int, int, int]) -> Frame:
    """The square about a box, which fills ``INNER`` of ``SIDE``."""
    left, top, wide, high = box
    side = max(high, wide, 4.0) * SIDE / INNER
    return Frame(left + (wide - side) / 2, top + (high - side) / 2, side)


def cut_out(level_HW: np.ndarray, frame: Frame, side: int = SIDE) -> np.ndarray:
    """float32 [Z, Z]: what stands in a frame; beyond the image there is ground."""
    import cv2

    scale = side / frame.side
    soft_HW = cv2.GaussianBlur(level_HW, (0, 0), 0.35 / scale) if scale < 0.8 else level_HW
    shift = 0.5 * scale - 0.5  # pixel centres
    matrix = np.array([[scale, 0, shift - frame.left * scale], [0, scale, shift - frame.top * scale]])
    result: np.ndarray = cv2.warpAffine(soft_HW, matrix, (side, side), flags=cv2.INTER_LINEAR)
    return result


def as_bytes(level_ZZ: np.ndarray) -> np.ndarray:
    """Levels from 0 to 1 in 8 bits."""
    return np.rint(np.clip(level_ZZ, 0, 1) * 255).astype(np.uint8)
