"""Measures what stage 5 drops by: burnt-out pixels, the blocks of JPEG, bands, QR codes and barcodes.

    (1)  clipped = share of pixels with a grey level of at most 2 or at least 253
    (2)  blockiness: steps between neighbours at the edges of JPEG's blocks, by the largest inside of them; the
         geometric mean over rows and columns, at the phase where it is largest, of the image's middle in its own pixels
    (3)  bands = share of the height in plain bands at top and bottom, or of the width at left and right
    (4)  codes = QR codes and barcodes that can be decoded

Bands on all four sides are the ground that an object stands on, and no bands. Shapes: HW pixels.
"""

from __future__ import annotations

import numpy as np

MIDDLE = 1024
"""pixels of the part that (2) is measured on"""
PLAIN, SAME = 3.0, 6.0
"""levels: largest standard deviation within a row of a band, and largest step of its mean from the outermost row"""
LEAST_BAND = 0.01
"""of a side: thinner ones are the edge of a scan"""


def details(reduced_grey_HW: np.ndarray, grey_HW: np.ndarray) -> dict[str, float]:
    """(1) to (3) of an 8-bit image, of which the first array is reduced and the second is not."""
    return {
        "clipped": float(((reduced_grey_HW <= 2) | (reduced_grey_HW >= 253)).mean()),
        "blockiness": blockiness(grey_HW), "bands": bands(reduced_grey_HW),
    }  # fmt: skip


def blockiness(grey_HW: np.ndarray) -> float:
    """(2); NaN for an image of fewer than three blocks."""
    import cv2

    height, width = grey_HW.shape
    top, left = max(0, (height - MIDDLE) // 2), max(0, (width - MIDDLE) // 2)
    levels = grey_HW[top : top + MIDDLE, left : left + MIDDLE]
    if min(levels.shape) < 24:
        return float("nan")
    ratios = []
    for axis in (0, 1):
        before, after = (levels[:-1], levels[1:]) if axis == 0 else (levels[:, :-1], levels[:, 1:])
        steps = cv2.reduce(cv2.absdiff(before, after), 1 - axis, cv2.REDUCE_AVG, dtype=cv2.CV_32F).ravel()
        phases = np.array([steps[phase::8].mean() for phase in range(8)])
        edge = int(phases.argmax())
        # by the largest step inside: in an image enlarged by repeating pixels every second step is 0
        ratios.append((phases[edge] + 0.05) / (np.delete(phases, edge).max() + 0.05))
    return float(np.sqrt(ratios[0] * ratios[1]))


def bands(grey_HW: np.ndarray) -> float:
    """(3)"""
    levels = grey_HW.astype(np.float32)
    shares = []
    for axis in (1, 0):
        means, spread = levels.mean(axis), levels.std(axis)
        side = len(means)
        first, last = (plain_run(means[::step], spread[::step]) / side for step in (1, -1))
        shares.append(first + last if min(first, last) >= LEAST_BAND else 0.0)
    one_pair = (shares[0] > 0.0) != (shares[1] > 0.0)
    return float(max(shares)) if one_pair and max(shares) < 1.0 else 0.0


def plain_run(means: np.ndarray, spread: np.ndarray) -> int:
    """How many rows from the first on are plain and as bright as the first."""
    wrong = (spread > PLAIN) | (np.abs(means - means[0]) > SAME)
    return int(wrong.argmax()) if wrong.any() else len(means)


def codes(grey_HW: np.ndarray) -> int:
    """(4)"""
    import cv2

    text, corners, _ = cv2.QRCodeDetector().detectAndDecode(grey_HW)
    bars, *_ = cv2.barcode.BarcodeDetector().detectAndDecode(grey_HW)
    return int(bool(text) and corners is not None) + int(bool(bars))
