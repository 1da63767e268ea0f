"""Which characters of a line stand in it as whole characters do: what the crops, each fitted to its ink, do not say.

Half a letter is that letter in another face, as long as nobody knows how large it should be. Its neighbours do. With
u the edges of a character above the baseline in a reference face, in em, and y those of its ink in pixels:

    (1)  y = b - s u            baseline b and size s of the line, so that its characters agree as far as they can
    (2)  |y - (b - s u)| <= HEIGHT * s,  for the upper and for the lower edge
    (3)  width / width of the reference >= NARROW * the median of it over the line

(1) is taken from the character that most others agree with, in either reference face, and of equals from the largest.

Legend: N characters, R reference faces, H guesses of a line.
"""

from __future__ import annotations

import numpy as np

HEIGHT = 0.22
"""of an em: by which faces differ in where a character ends, and ink of few pixels in its edges"""
NARROW = 0.6
"""of the other characters' width: what is narrower is half of one"""
THIN = 0.3
"""of an em: characters of one stroke, whose width is that of the stroke or of its serifs"""
COMPARED = 3
"""characters from which widths are compared"""


def stand_in_line(box_N4: np.ndarray, reference_NR3: np.ndarray) -> np.ndarray:
    """Whether each character's ink is where and as wide as it should be, bool [N].

    ``box_N4``: left, top, width and height in pixels of a line. ``reference_NR3``: top and bottom in em upwards from
    the baseline, and width. One character alone is always in line, and so are all where a reference is NaN."""
    if len(box_N4) < 2 or np.isnan(reference_NR3).any():
        return np.ones(len(box_N4), bool)
    top_N1, high_N1 = box_N4[:, 1:2], box_N4[:, 3:]
    up_NR, down_NR, width_NR = np.moveaxis(reference_NR3, 2, 0)
    size_NR = high_N1 / (up_NR - down_NR)
    base_NR = top_N1 + size_NR * up_NR
    base_H1, size_H1 = base_NR.T.reshape(-1, 1), size_NR.T.reshape(-1, 1)
    up_HN, down_HN = (np.repeat(each.T, len(box_N4), axis=0) for each in (up_NR, down_NR))
    above_HN = np.abs(base_H1 - size_H1 * up_HN - top_N1.T)
    below_HN = np.abs(base_H1 - size_H1 * down_HN - (top_N1 + high_N1).T)
    agree_HN = np.maximum(above_HN, below_HN) <= HEIGHT * size_H1
    best = int(np.argmax(agree_HN.sum(axis=1) + size_H1[:, 0] / (2 * size_H1.max())))
    result_N: np.ndarray = agree_HN[best]
    if len(box_N4) >= COMPARED:
        least_N = width_NR.min(axis=1)
        share_N = box_N4[:, 2] / least_N
        result_N &= (least_N < THIN) | (share_N >= NARROW * np.median(share_N))
    return result_N
