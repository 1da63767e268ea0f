"""What images look like and what is read in them, as plain numbers that honest training hardly moves.

A policy that cheats its reward gives itself away here first: images turn dark or flat, lose their colours, fill with
letters, repeat words, or all become one image. None of these is good or bad by itself; their change is the news.

    (1)  luma = 0.2126 R + 0.7152 G + 0.0722 B                        Rec. ITU-R BT.709, on the values as they are
    (2)  dark share = share of pixels with luma < `DARK`
    (3)  edge density = share of pixels whose luma differs from the right or lower neighbour by more than `EDGE`
    (4)  colour entropy = - sum p log2 p over `LEVELS`^3 colours      bits, from 0 (one colour) to 6
    (5)  saturation = mean of (max - min) / max over R, G, B          HSV; black has 0
    (6)  diversity = root mean square difference of two images of one prompt, mean over pairs

Shapes: B samples, K images of one prompt, P prompts, 3HW pixels in 8 bits.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from preference_data.texts.normalised_text import as_compared
from rewards.text.ocr import ned_score, text_crop
from rewards.text.reading.detector import Detector

DARK = 0.25
"""luma below which a pixel is dark: ink and grounds that are called black, navy or dark red lie below, colours above"""
EDGE = 0.1
"""least step of an edge, 25 of 255 levels: above what an autoencoder leaves on plain ground"""
LEVELS = 4
"""a colour channel is told apart in so many steps, so that noise alone makes no new colours"""
RUN = 3
"""letters that must come again to be a repetition; two come again in many words"""


def measure_images(images_B3HW: np.ndarray) -> dict[str, np.ndarray]:
    """(2) to (5) of every image, and `text_area` by `ink_area`; each [B] float64.

    Raises ValueError when the images are not uint8 [B, 3, H, W].
    """
    if images_B3HW.dtype != np.uint8 or images_B3HW.ndim != 4 or images_B3HW.shape[1] != 3:
        raise ValueError(f"images are {images_B3HW.dtype} {images_B3HW.shape}; traits are of uint8 [B, 3, H, W]")
    pixels = images_B3HW.astype(np.float64) / 255.0
    luma_BHW = np.tensordot(pixels, np.array([0.2126, 0.7152, 0.0722]), axes=(1, 0))  # (1)
    most, least = pixels.max(1), pixels.min(1)
    return {
        "dark": (luma_BHW < DARK).mean((1, 2)),  # (2)
        "edges": edge_density(luma_BHW),
        "colour_entropy": np.array([colour_entropy(image) for image in images_B3HW]),
        "saturation": np.divide(most - least, most, out=np.zeros_like(most), where=most > 0.0).mean((1, 2)),  # (5)
        "text_area": np.array([ink_area(image) for image in images_B3HW]),
    }


def edge_density(luma_BHW: np.ndarray) -> np.ndarray:
    """(3)"""
    edge = np.zeros(luma_BHW.shape, dtype=bool)
    edge[:, :, :-1] |= np.abs(np.diff(luma_BHW, axis=2)) > EDGE
    edge[:, :-1] |= np.abs(np.diff(luma_BHW, axis=1)) > EDGE
    density: np.ndarray = edge.mean((1, 2))
    return density


def colour_entropy(image_3HW: np.ndarray) -> float:
    """(4)"""
    step_3HW = image_3HW.astype(np.int64) * LEVELS // 256
    code_HW = (step_3HW[0] * LEVELS + step_3HW[1]) * LEVELS + step_3HW[2]
    share = np.bincount(code_HW.ravel(), minlength=LEVELS**3) / code_HW.size
    share = share[share > 0.0]
    return float(-(share * np.log2(share)).sum()) + 0.0


def ink_area(image_3HW: np.ndarray) -> float:
    """Share of an image that the box around everything but its ground covers: one line of text on a plain ground."""
    crop = text_crop(np.ascontiguousarray(image_3HW.transpose(1, 2, 0)))
    return 0.0 if crop is None else min(crop.shape[0] * crop.shape[1] / image_3HW[0].size, 1.0)


def boxed_area(detector: Detector, image_3HW: np.ndarray) -> float:
    """Share of an image that lies in the boxes of a text detector: any image. Boxes that overlap count twice."""
    boxes = detector.find(np.ascontiguousarray(image_3HW.transpose(1, 2, 0)))
    around = [np.roll(corners, -1, axis=0) for corners in boxes]
    areas = [abs((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()) / 2.0 for a, b in zip(boxes, around, strict=True)]
    return min(float(sum(areas)) / image_3HW[0].size, 1.0)


def diversity(images_KP3HW: np.ndarray) -> np.ndarray:
    """(6) of every prompt, [P] in [0, 1]. Raises ValueError for fewer than two images of a prompt."""
    K, P = images_KP3HW.shape[:2]
    if K < 2:
        raise ValueError(f"{K} image of every prompt: diversity compares at least 2")
    flat = images_KP3HW.reshape(K, P, -1).astype(np.float64) / 255.0
    pairs = [np.sqrt(((flat[a] - flat[b]) ** 2).mean(-1)) for a in range(K) for b in range(a)]
    mean: np.ndarray = np.mean(pairs, axis=0)
    return mean


def repetition(text: str) -> float:
    """Share of the runs of `RUN` letters that came before; 0 for a text with one run or none."""
    runs = Counter(text[i : i + RUN] for i in range(len(text) - RUN + 1))
    return 1.0 - len(runs) / runs.total() if runs else 0.0


def duplicate_text(target: str, read: str) -> float:
    """How much more what was read repeats itself than the target does, in [0, 1]."""
    return max(repetition(as_compared(read, target)) - repetition(as_compared(target, target)), 0.0)


def extra_text(target: str, read: str) -> float:
    """Letters read beyond the number asked for, a share of that number; 0 when there are fewer."""
    target_length, read_length = (len(as_compared(text, target)) for text in (target, read))
    return max(read_length - target_length, 0) / max(target_length, 1)


def disagreement(target: str, read: str, other: str) -> float:
    """1 - (1 - NED) of what two engines read, compared as the target is, in [0, 1]; 0 when neither read anything."""
    a, b = (as_compared(text, target) for text in (read, other))
    return 1.0 - ned_score(a, b) if a or b else 0.0
