"""Where an image differs from its ground, whatever a text detector says.

A detector overlooks letters that are small for the image they stand in, and single letters that look like shapes to
it. On a plain ground the ink itself says where to look again.

Legend: HW image pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MARGIN = 3  # pixels kept around the text of a crop
FAINT = 16  # 8-bit levels: a difference from the ground below this is noise
SHARE = 0.35  # of the strongest difference in the image: below it a pixel belongs to the ground
PLAIN = 0.95  # of the border: with less of it in one colour the image has no plain ground
FULL = 0.25  # of the image: with more ink it is a scene and no page
MAX_PIECES = 8  # with more of them what is left is texture
LEAST = 5  # pixels, the longer side of what can be a letter


def text_crop(image_HW3: np.ndarray) -> np.ndarray | None:
    """The part of a uint8 image that differs from its border, with a margin; None when nothing does (blank).

    The ground is the median colour of the outermost pixels; a row or a column holds ink when two of its pixels differ
    from the ground by enough, so that single noisy pixels do not count. Less ink than 4x4: the whole image.
    """
    import cv2

    difference_HW = largest(np.abs(image_HW3.astype(np.float32) - ground_of(image_HW3)))
    if difference_HW.max() < FAINT:
        return None
    strongest = float(np.quantile(difference_HW, 0.99))
    ink_HW = difference_HW > max(SHARE * strongest, FAINT)
    rows, columns = np.flatnonzero(ink_HW.sum(1) >= 2), np.flatnonzero(ink_HW.sum(0) >= 2)
    if len(rows) < 4 or len(columns) < 4:
        return image_HW3
    top, bottom = rows[0] - MARGIN, rows[-1] + 1 + MARGIN
    left, right = columns[0] - MARGIN, columns[-1] + 1 + MARGIN
    height, width = ink_HW.shape
    inside = image_HW3[max(top, 0) : bottom, max(left, 0) : right]
    beyond = (max(-top, 0), max(bottom - height, 0), max(-left, 0), max(right - width, 0))
    return cv2.copyMakeBorder(inside, *beyond, cv2.BORDER_REPLICATE)


def border(image_HW3: np.ndarray) -> np.ndarray:
    """The outermost pixels [N, 3] of an image."""
    return np.concatenate([image_HW3[0], image_HW3[-1], image_HW3[:, 0], image_HW3[:, -1]])


def ground_of(image_HW3: np.ndarray) -> np.ndarray:
    """The median colour of the outermost pixels of a uint8 image, float32 [3]."""
    sorted_N3 = np.sort(border(image_HW3), axis=0)
    middle = (len(sorted_N3) - 1) // 2
    result: np.ndarray = sorted_N3[[middle, len(sorted_N3) // 2]].mean(axis=0, dtype=np.float32)
    return result


def largest(values_HW3: np.ndarray) -> np.ndarray:
    """The largest of three channels [H, W], several times faster than ``max(axis=2)``."""
    result: np.ndarray = np.maximum(np.maximum(values_HW3[..., 0], values_HW3[..., 1]), values_HW3[..., 2])
    return result


def ink(image_HW3: np.ndarray) -> np.ndarray | None:
    """bool [H, W]: True where a uint8 image differs from its plain ground; None where it has none, or is a scene."""
    ground = ground_of(image_HW3).astype(np.int16)
    if (np.abs(border(image_HW3).astype(np.int16) - ground).max(axis=1) < FAINT).mean() < PLAIN:
        return None
    import cv2

    ends = [(int(each.min()), int(each.max())) for each in cv2.split(image_HW3)]
    strongest = float(max(max(g - low, high - g) for g, (low, high) in zip(ground.tolist(), ends, strict=True)))
    if strongest < FAINT:
        return None
    limit = max(SHARE * strongest, FAINT)
    low, high = np.clip(np.ceil(ground - limit), 0, 255), np.clip(np.floor(ground + limit), 0, 255)
    result_HW: np.ndarray = cv2.inRange(image_HW3, low, high) == 0
    return result_HW if result_HW.any() and result_HW.mean() <= FULL else None


def box_of(ink_HW: np.ndarray) -> tuple[int, int, int, int]:
    """left, top, right, bottom of all ink, the last two exclusive."""
    rows, columns = np.flatnonzero(ink_HW.any(axis=1)), np.flatnonzero(ink_HW.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def ink_boxes(ink_HW: np.ndarray, results: Sequence[np.ndarray], highest: float) -> list[tuple[int, int, int, int]]:
    """left, top, right, bottom of each piece of ink that stands in none of the boxes ``found``.

    Strokes higher than ``highest`` pixels are shapes, or letters that nobody overlooks for being small: they are left
    out. Letters that stand near to each other are one piece. [] when there are so many that it is texture."""
    import cv2

    left_HW = ink_HW.astype(np.uint8)
    if not _outside(left_HW.copy(), results).any():
        return []
    _, stroke_HW, strokes, _ = cv2.connectedComponentsWithStats(left_HW)
    left_HW[(strokes[:, cv2.CC_STAT_HEIGHT] > highest)[stroke_HW]] = 0
    left_HW = _outside(left_HW, results)
    reach = max(9, max(ink_HW.shape) // 60) | 1
    joined_HW = cv2.dilate(left_HW, np.ones((reach, reach), np.uint8))
    count, label_HW, stats, _ = cv2.connectedComponentsWithStats(joined_HW)
    if count - 1 > MAX_PIECES:
        return []
    pieces = []
    for number in range(1, count):
        x, y, width, height = (int(each) for each in stats[number][:4])
        inside_HW = (label_HW[y : y + height, x : x + width] == number) & (left_HW[y : y + height, x : x + width] > 0)
        x0, y0, x1, y1 = box_of(inside_HW)
        if max(x1 - x0, y1 - y0) >= LEAST:
            pieces.append((x + x0, y + y0, x + x1, y + y1))
    return pieces


def _outside(ink_HW: np.ndarray, results: Sequence[np.ndarray]) -> np.ndarray:
    """The ink without what stands in boxes, or a little beyond them: strokes reach out. Changes ``ink_HW``."""
    import cv2

    for box in results:
        centre = box.mean(axis=0)
        cv2.fillPoly(ink_HW, [np.rint(centre + 1.15 * (box - centre)).astype(np.int32)], (0.0,))
    return ink_HW
