"""Stage 2, image quality: turned, blurred, dark, bright, garish, empty, or noise.

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

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from experiments.curation.filters.rules import AtLeast, AtMost, Between

REPORT = "Qwen-Image technical report, section 3.2"
BUSY = 20.0
"""levels of 255"""


@dataclass(frozen=True)
class Rotation(AtMost):
    """Images that a file's EXIF orientation turns or mirrors."""

    stage: ClassVar[int] = 2
    column: ClassVar[str] = "turned"
    unit: ClassVar[str] = "0 = as stored, 1 = turned by EXIF, 2 = mirrored by EXIF"
    reason: ClassVar[str] = (
        "cameras turn rightly and the reader follows them; a mirror tag is often left over, and text reads backwards"
    )
    source: ClassVar[str] = f"{REPORT}: Rotation, which drops both; most=0 does so"
    most: float = 1.0


@dataclass(frozen=True)
class Luma(Between):
    """Images that are black or white nearly everywhere."""

    stage: ClassVar[int] = 2
    column: ClassVar[str] = "luma"
    unit: ClassVar[str] = "mean grey level, 0 to 255"
    reason: ClassVar[str] = "a failed exposure shows nothing that a caption could name"
    source: ClassVar[str] = f"{REPORT}: Luma"
    least: float = 12.0
    most: float = 245.0


@dataclass(frozen=True)
class Saturation(AtMost):
    """Images with colours that no camera sees."""

    stage: ClassVar[int] = 2
    column: ClassVar[str] = "saturation"
    unit: ClassVar[str] = "mean saturation (HSV), 0 to 1"
    reason: ClassVar[str] = "photographs have 0.2 to 0.6; above 0.9 only filters, charts and errors are left"
    source: ClassVar[str] = f"{REPORT}: Saturation"
    most: float = 0.9


@dataclass(frozen=True)
class Entropy(AtLeast):
    """Images with next to nothing on them."""

    stage: ClassVar[int] = 2
    column: ClassVar[str] = "entropy"
    unit: ClassVar[str] = "bits of the grey levels, 0 to 8"
    reason: ClassVar[str] = "photographs have 5 to 7.9; a plain ground with a mark on it has less than 2"
    source: ClassVar[str] = f"{REPORT}: Entropy"
    least: float = 2.5


@dataclass(frozen=True)
class Texture(AtMost):
    """Images that are busy everywhere: noise, and patterns without an object."""

    stage: ClassVar[int] = 2
    column: ClassVar[str] = "texture"
    unit: ClassVar[str] = "share of blocks of 8 by 8 pixels with a standard deviation above 20 levels"
    reason: ClassVar[str] = "noise has 1; photographs of grass, gravel and leaves stay below 0.95"
    source: ClassVar[str] = f"{REPORT}: Texture"
    most: float = 0.97


@dataclass(frozen=True)
class Clarity(AtLeast):
    """Blurred images. The last filter of its stage, so that a black image is called dark and not blurred."""

    stage: ClassVar[int] = 2
    column: ClassVar[str] = "clarity"
    unit: ClassVar[str] = "variance of the Laplacian, squared grey levels"
    reason: ClassVar[str] = (
        "sharp photographs have 25 to 5,000; a blur of 2 pixels leaves 2 to 11, one of 3 pixels 1 to 5"
    )
    source: ClassVar[str] = f"{REPORT}: Clarity; the measure of Pech-Pacheco et al. 2000"
    least: float = 8.0


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
