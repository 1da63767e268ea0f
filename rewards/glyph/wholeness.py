"""Whether a crop can be a whole character: a gate beside the network, which takes half a letter for another face's.

The crop's ink and a reference's are stretched to one square, so that a condensed face is no reason, and compared:

    (1)  like   = max_k <x, whole_k>                         cosine to the nearer reference, both without their means
    (2)  halved = max_h <x, half_h> - like                   h the halves of both references
    (3)  solid  = min_MIDDLE x - max_k min_MIDDLE whole_k    the least ink in the middle: a blot has no ground there
    (4)  left   = sd(x out of focus) / sd(x)                 of the crop as it is: noise has little left
    (5)  off    = min_k |log(p / p_k)|                       p the ink's width over its height, beneath the grain

A crop is no whole character where (1) is further below, or (2) further above what faces of training come to with that
character than ``SLACK``, or (3) is above ``SOLID``, or (4) below ``CONTRAST_LEFT`` and (1) below ``VAGUE``, or there is
no ink. Nor is it where (5) is above ``SLANT`` times (1), of characters that fill a square each, as Chinese ones do: the
less it is like the character, the nearer its proportions must be. (Latin faces are condensed and wide.) A score is then
half of what it was, so that it never passes 0.5 and broken characters keep their order.

Legend: ZZ the crop, QQ the square, C characters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rewards.glyph.ink_frame import INK

Q = 16
"""pixels of the square"""
SLACK = 0.2
"""of a cosine: what blur, grain and a face that is in no training may add"""
LIKE = 0.3
"""of a cosine: what is nearer to a reference than that can be the character, whatever the faces of training come to"""
SOLID = 0.3
"""of full ink"""
CONTRAST_LEFT, VAGUE = 0.62, 0.4
"""as measured on blank images with grain, of which one in three has what passes for ink"""
SLANT = 0.7
"""as measured on three networks: of Chinese halves that passed without it, one in three is left, and of sound ones that
passed one in a hundred is lost"""
ONE_STROKE = 3.0
"""times as high as wide, or as wide as high: then the width is the stroke's, and proportions say nothing"""
EDGE = 0.25
"""of the most ink in a row or column: where the ink beneath the grain ends"""
DENSE = 0.3
"""of full ink: a reference whose middle has less everywhere counts as one that has this"""
CAP = 0.5
"""times the score of what is no whole character"""
_row, _column = np.mgrid[:Q, :Q]
MIDDLE = np.hypot(_row - (Q - 1) / 2, _column - (Q - 1) / 2) <= 0.75 * Q / 2


@dataclass(frozen=True)
class Levels:
    """What differs from character to character in how a score is read."""

    halved_C: np.ndarray
    """float32, at least 0: (2) of the character in the face of training that looks most like a half of references"""
    like_C: np.ndarray
    """float32: (1) of the character in the face of training that looks least like its references"""
    shift_C: np.ndarray
    """float32: is added to the network's logit, so that 0.5 lies where blank, half and solid crops end"""
    box_C23: np.ndarray
    """float32: top and bottom of the two references, in em upwards from the baseline, and their width; NaN where
    characters are not compared with their neighbours (line_fit.py)"""
    network_C: np.ndarray
    """int64: which of the networks sees the character"""

    @classmethod
    def none(cls, count: int) -> Levels:
        """Levels that leave the network's own."""
        nothing_C, boxes_C23 = np.zeros(count, np.float32), np.full((count, 2, 3), np.nan, np.float32)
        return cls(nothing_C, np.ones(count, np.float32), nothing_C.copy(), boxes_C23, np.zeros(count, np.int64))


@dataclass(frozen=True)
class Template:
    """What a character should look like, whole and in halves."""

    whole_and_halves: np.ndarray
    """float32 [2 + 8, QQ]: its two references and their halves, each without its mean and of length 1; 0 for a half
    without ink"""
    least: float
    """the least ink in the middle of the two references, whichever has more"""
    proportions: tuple[float, ...] = ()
    """logarithms of width over height of the two references; () where they are not compared"""


def template(image_2ZZ: np.ndarray, square: bool = False) -> Template:
    """The template of two references in 8 bits; `square`: the character fills a square. Raises ValueError for one
    without ink."""
    whole = [stretched(each) for each in image_2ZZ]
    if any(each is None for each in whole):
        raise ValueError("a reference has no ink; train the network again")
    halves = [stretched(each) for image_ZZ in image_2ZZ for each in _halves(image_ZZ)]
    square_KQ = np.stack([np.zeros(Q * Q, np.float32) if each is None else each.ravel() for each in whole + halves])
    least = max(DENSE, float(square_KQ[:2, MIDDLE.ravel()].min(axis=1).max()))
    own = tuple(proportion(each) for each in image_2ZZ) if square else ()
    return Template(_unit(square_KQ), least, own if all(abs(each) < np.log(ONE_STROKE) for each in own) else ())


def stretched(crop_ZZ: np.ndarray) -> np.ndarray | None:
    """float32 [Q, Q] in [0, 1]: the box about the ink of a crop in 8 bits, as a square; None where there is no ink."""
    import cv2

    left, top, wide, high = cv2.boundingRect((cv2.blur(crop_ZZ, (3, 3)) >= 255 * INK).view(np.uint8))
    if not wide:
        return None
    box = crop_ZZ[top : top + high, left : left + wide].astype(np.float32) / 255.0
    result: np.ndarray = cv2.resize(cv2.GaussianBlur(box, (0, 0), 0.8), (Q, Q), interpolation=cv2.INTER_AREA)
    return result


def compared(crops: Sequence[np.ndarray], of: Sequence[Template]) -> np.ndarray:
    """(1), (2) and (3) of crops in 8 bits, float32 [3, N]; what no character comes to where there is no ink."""
    result_3N = np.full((3, len(crops)), np.inf, np.float32)
    result_3N[0] = -np.inf
    squares = [stretched(each) for each in crops]
    rows = [i for i, each in enumerate(squares) if each is not None]
    if rows:
        square_NQ = np.stack([each.ravel() for each in squares if each is not None])
        likeness_NK = (np.stack([of[i].whole_and_halves for i in rows]) @ _unit(square_NQ)[:, :, None])[:, :, 0]
        like_N = likeness_NK[:, :2].max(axis=1)
        least_N = square_NQ[:, MIDDLE.ravel()].min(axis=1)
        solid_N = least_N - np.array([of[i].least for i in rows])
        result_3N[:, rows] = like_N, likeness_NK[:, 2:].max(axis=1) - like_N, solid_N
    return result_3N


def are_whole(
    crops: Sequence[np.ndarray], of: Sequence[Template], least_like_N: np.ndarray, most_halved_N: np.ndarray
) -> np.ndarray:
    """Whether crops in 8 bits can be whole characters, bool [N], of which faces of training come to these (1), (2)."""
    like_N, halved_N, solid_N = compared(crops, of)
    alike_N = like_N >= np.minimum(LIKE, least_like_N - SLACK)
    result: np.ndarray = alike_N & (halved_N <= most_halved_N + SLACK) & (solid_N <= SOLID)
    for i in np.flatnonzero(result & (like_N < VAGUE)):
        result[i] = _contrast_left(crops[i]) >= CONTRAST_LEFT
    for i in np.flatnonzero(result):
        if of[i].proportions:
            p = proportion(crops[i])
            result[i] = min(abs(p - each) for each in of[i].proportions) <= SLANT * like_N[i]
    return result


def proportion(crop_ZZ: np.ndarray) -> float:
    """Logarithm of the width of a crop's ink over its height, where grain about it counts for nothing."""
    import cv2

    level_ZZ, extents = cv2.GaussianBlur(crop_ZZ.astype(np.float32), (0, 0), 1.2), []
    for axis in (0, 1):
        ink_Z = level_ZZ.sum(axis)
        ink_Z = ink_Z - np.median(ink_Z[[0, 1, -2, -1]])
        inside = np.flatnonzero(ink_Z >= EDGE * ink_Z.max())
        extents.append(inside[-1] - inside[0] + 1)
    return float(np.log(extents[0] / extents[1]))


def _contrast_left(crop_ZZ: np.ndarray) -> float:
    """(4)"""
    import cv2

    level_ZZ = crop_ZZ.astype(np.float32)
    return float(cv2.GaussianBlur(level_ZZ, (0, 0), 1.5).std() / max(float(level_ZZ.std()), 1e-6))


def _unit(square_KQ: np.ndarray) -> np.ndarray:
    """float32 [K, QQ]: squares without their means, of length 1."""
    flat_KQ = square_KQ - square_KQ.mean(axis=1, keepdims=True)
    result: np.ndarray = flat_KQ / np.maximum(np.linalg.norm(flat_KQ, axis=1, keepdims=True), 1e-6)
    return result


def _halves(image_ZZ: np.ndarray) -> list[np.ndarray]:
    """The left, right, upper and lower half of a reference's ink."""
    rows, columns = np.flatnonzero((image_ZZ > 127).any(axis=1)), np.flatnonzero((image_ZZ > 127).any(axis=0))
    if not rows.size:
        return []
    y, x = (int(each[0] + each[-1] + 1) // 2 for each in (rows, columns))
    parts = []
    for side in ((slice(None), slice(None, x)), (slice(None), slice(x, None)), (slice(None, y),), (slice(y, None),)):
        part_ZZ = np.zeros_like(image_ZZ)
        part_ZZ[side] = image_ZZ[side]
        parts.append(part_ZZ)
    return parts
