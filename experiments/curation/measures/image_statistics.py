"""Measures what stage 2 drops by: brightness, colour, entropy, blur and noise.

    (1)  luma = mean of grey levels, 0 to 255                      grey = 0.299 R + 0.587 G + 0.114 B
    (2)  saturation = mean of (max - min) / max over R, G, B       HSV, 0 to 1; black has 0
    (3)  entropy = - sum p log2 p over the 256 grey levels         bits, 0 to 8
    (4)  clarity = variance of the Laplacian of grey               squared levels
    (5)  texture = share of blocks of 8 by 8 whose standard deviation is above `BUSY` levels

Measured on the image reduced to a short side of 512, which is about what training sees, so that a threshold means the
same for a phone's photograph and a small file. Rendered pages are exempt: text on a plain ground has hardly any
entropy, no colour and no texture, and is what we want. Shapes: HW pixels.
"""

from __future__ import annotations

import numpy as np

BUSY = 20.0
"""levels of 255"""


def quality(rgb_HW3: np.ndarray, grey_HW: np.ndarray) -> dict[str, float]:
    """(1) to (5) of an 8-bit image."""
    import cv2

    shares = cv2.calcHist([grey_HW], [0], None, [256], [0, 256]).ravel().astype(np.float64) / grey_HW.size
    shares = shares[shares > 0.0]
    return {
        "luma": float(cv2.mean(grey_HW)[0]),  # (1)
        "saturation": float(cv2.mean(cv2.cvtColor(rgb_HW3, cv2.COLOR_RGB2HSV))[1]) / 255.0,  # (2)
        "entropy": float(-(shares * np.log2(shares)).sum()) + 0.0,  # (3)
        "clarity": float(cv2.meanStdDev(cv2.Laplacian(grey_HW, cv2.CV_32F))[1][0, 0] ** 2),  # (4)
        "texture": busy_share(grey_HW),  # (5)
    }


def busy_share(grey_HW: np.ndarray) -> float:
    """(5); NaN for an image that has no whole block."""
    import cv2

    height, width = (side // 8 for side in grey_HW.shape)
    if not height or not width:
        return float("nan")
    levels = grey_HW[: 8 * height, : 8 * width].astype(np.float32)
    means, squares = (cv2.resize(each, (width, height), interpolation=cv2.INTER_AREA) for each in (levels, levels**2))
    return float((squares - means**2 > BUSY**2).mean())
