"""The ways in which a character is broken. Each takes a sound shape, and another character's, and gives a mask.

``KINDS`` is the whole list. What changes too little to be seen is no damage: ``broken`` tries again. Most kinds work on
strokes, through their middle lines; ``smear`` and ``ghost`` on pixels. Ringing and grain are no kinds: sound characters
have them as well (texture.py).

Legend: HW pixels of the canvas of shapes.py, N points of its skeleton.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

from base_model.data.glyphs.shapes import SIDE, Shape

Damage = Callable[[np.random.Generator, Shape, Shape], np.ndarray]
LEAST_CHANGE = 0.12
"""of the ink: what changes less, seen a little out of focus, can pass for a serif"""
TRIES = 6


def _near(rng: np.random.Generator, shape: Shape, low: float, high: float) -> np.ndarray:
    """bool [N]: the points of the skeleton along strokes from a random one, up to a length in shares of the canvas.

    They are those within the distance that can be reached over neighbouring points.
    """
    points_N2 = shape.skeleton_N2
    index = {(int(y), int(x)): i for i, (y, x) in enumerate(points_N2)}
    start = int(rng.integers(len(points_N2)))
    reach = rng.uniform(low, high) * SIDE
    distance = {start: 0.0}
    edge = [start]
    while edge:
        i = edge.pop(0)
        y, x = (int(each) for each in points_N2[i])
        for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)):
            j = index.get((y + dy, x + dx))
            step = distance[i] + (1.414 if dy and dx else 1.0)
            if j is not None and j not in distance and step <= reach:
                distance[j] = step
                edge.append(j)
    near_N = np.zeros(len(points_N2), dtype=bool)
    near_N[list(distance)] = True
    return near_N


def _without(shape: Shape, near_N: np.ndarray) -> np.ndarray:
    mask_HW = shape.mask_HW
    mask_HW[near_N[shape.nearest_HW]] = 0.0
    return mask_HW


def cut(rng: np.random.Generator, shape: Shape, other: Shape) -> np.ndarray:
    """A stroke, or most of one, is missing."""
    return _without(shape, _near(rng, shape, 0.12, 0.3))


def gap(rng: np.random.Generator, shape: Shape, other: Shape) -> np.ndarray:
    """A stroke is interrupted, in one or several spots."""
    near_N = np.zeros(len(shape.skeleton_N2), dtype=bool)
    for _ in range(int(rng.integers(1, 4))):
        near_N |= _near(rng, shape, 0.04, 0.09)
    return _without(shape, near_N)


def add(rng: np.random.Generator, shape: Shape, other: Shape) -> np.ndarray:
    """Strokes are added, straight or bent, that begin at one of its own."""
    import cv2

    levels_HW = shape.levels_HW.copy()
    for _ in range(int(rng.integers(1, 3))):
        y0, x0 = shape.skeleton_N2[rng.integers(len(shape.skeleton_N2))]
        length, angle = rng.uniform(0.2, 0.6) * SIDE, rng.uniform(0, 2 * np.pi)
        end = np.array([x0 + length * np.cos(angle), y0 + length * np.sin(angle)]).clip(6, SIDE - 6)
        if rng.random() < 0.5:
            y1, x1 = shape.skeleton_N2[rng.integers(len(shape.skeleton_N2))]
            end = np.array([x1, y1], dtype=float)
        middle = (np.array([x0, y0]) + end) / 2 + rng.normal(0, 0.08 * SIDE, 2)
        t = np.linspace(0, 1, 12)[:, None]
        curve = (1 - t) ** 2 * np.array([x0, y0]) + 2 * t * (1 - t) * middle + t**2 * end
        width = max(round(2 * shape.half * rng.uniform(0.7, 1.2)), 3)
        cv2.polylines(levels_HW, [np.rint(curve).astype(np.int32)], False, (255,), width, cv2.LINE_AA)
    return levels_HW.astype(np.float32) / 255.0


def merge(rng: np.random.Generator, shape: Shape, other: Shape) -> np.ndarray:
    """Strokes run together, and counters fill, in a part of the character or all of it."""
    import cv2

    reach = int(rng.integers(9, 24)) | 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    padded = np.pad(shape.levels_HW, reach)
    closed_HW = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, kernel)[reach:-reach, reach:-reach].astype(np.float32) / 255.0
    weight_HW = _soft_disc(rng, shape, 0.16, 0.5)
    return np.maximum(shape.mask_HW, closed_HW * weight_HW)


def thin(rng: np.random.Generator, shape: Shape, other: Shape) -> np.ndarray:
    """Strokes fade or waste away to a thread in a part of the character."""
    import cv2

    reach = max(round(2 * shape.half * rng.uniform(0.75, 1.1)), 3)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    thin_HW = cv2.erode(shape.levels_HW, kernel).astype(np.float32) / 255.0
    weight_HW = _soft_disc(rng, shape, 0.18, 0.42)
    return shape.mask_HW * (1 - weight_HW) + thin_HW * weight_HW


def warp(rng: np.random.Generator, shape: Shape, other: Shape) -> np.ndarray:
    """The whole character is bent out of shape."""
    return _moved(shape.mask_HW, _field(rng, 4) * rng.uniform(0.07, 0.13) * SIDE)


def waver(rng: np.random.Generator, shape: Shape, other: Shape) -> np.ndarray:
    """Its strokes tremble."""
    return _moved(shape.mask_HW, _field(rng, int(rng.integers(9, 16))) * rng.uniform(0.025, 0.05) * SIDE)


def shift(rng: np.random.Generator, shape: Shape, other: Shape) -> np.ndarray:
    """A part, on one side of a line through it, is displaced."""
    mask_HW = shape.mask_HW
    y0, x0 = shape.skeleton_N2[rng.integers(len(shape.skeleton_N2))]
    angle = rng.choice([0.0, np.pi / 2]) + rng.normal(0, 0.3)
    y, x = np.mgrid[:SIDE, :SIDE]
    side_HW = ((x - x0) * np.cos(angle) + (y - y0) * np.sin(angle) > 0).astype(np.float32)
    length, course = rng.uniform(0.08, 0.2) * SIDE, rng.uniform(0, 2 * np.pi)
    dy, dx = round(length * np.sin(course)), round(length * np.cos(course))
    moved_HW = ndimage.shift(mask_HW * side_HW, (dy, dx), order=0)
    return np.maximum(mask_HW * (1 - side_HW), moved_HW)


def mix(rng: np.random.Generator, shape: Shape, other: Shape) -> np.ndarray:
    """A part is that of another character: a wrong radical, or the bow of another letter."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    axis = x if rng.random() < 0.6 else y
    side_HW = axis > rng.uniform(0.38, 0.62)
    side_HW = side_HW if rng.random() < 0.5 else ~side_HW
    return np.where(side_HW, other.mask_HW, shape.mask_HW)


def melt(rng: np.random.Generator, shape: Shape, other: Shape) -> np.ndarray:
    """Its outline is lost to lumps, as where a decoder is handed a latent between two characters."""
    import cv2

    soft_HW = cv2.GaussianBlur(shape.mask_HW, (0, 0), rng.uniform(2.0, 4.5))
    lumps_HW = _field(rng, int(rng.integers(8, 15)))[0]
    strength = rng.uniform(0.35, 0.7) * _soft_disc(rng, shape, 0.25, 0.6)
    return 1 / (1 + np.exp(-(soft_HW - 0.45 + strength * lumps_HW) / 0.06)) * (soft_HW > 0.03)


def smear(rng: np.random.Generator, shape: Shape, other: Shape) -> np.ndarray:
    """Its ink is dragged in one direction, until strokes run into each other."""
    import cv2

    length = int(rng.integers(15, 32)) | 1
    angle = rng.uniform(0, np.pi)
    kernel = np.zeros((length, length), dtype=np.float32)
    middle, reach = length // 2, (length // 2) * np.array([np.cos(angle), np.sin(angle)])
    ends = [tuple(round(middle + sign * each) for each in reach) for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], (1.0,), 2)
    return np.clip(cv2.filter2D(shape.mask_HW, -1, kernel / kernel.sum()) * 1.15, 0, 1)


def ghost(rng: np.random.Generator, shape: Shape, other: Shape) -> np.ndarray:
    """Another character shines through."""
    share = rng.uniform(0.35, 0.6)
    return (1 - share) * shape.mask_HW + share * other.mask_HW


KINDS: dict[str, Damage] = {
    "cut": cut, "gap": gap, "add": add, "merge": merge, "thin": thin, "warp": warp, "waver": waver, "shift": shift,
    "mix": mix, "melt": melt, "smear": smear, "ghost": ghost,
}  # fmt: skip


def broken(
    rng: np.random.Generator, shape: Shape, other: Shape, kinds: Sequence[str]
) -> tuple[str, np.ndarray, np.ndarray]:
    """A kind of damage by lot, the mask [H, W] of the character with it, and where it changed (float32 [H, W] in
    [0, 1])."""
    for _ in range(TRIES):
        kind = str(rng.choice(list(kinds)))
        mask_HW = KINDS[kind](rng, shape, other).astype(np.float32)
        changed_HW = change(shape.mask_HW, mask_HW)
        if share_changed(shape.mask_HW, changed_HW) >= LEAST_CHANGE:
            return kind, mask_HW, changed_HW
    return "ghost", (mask_HW := ghost(rng, shape, other)), change(shape.mask_HW, mask_HW)


def change(sound_HW: np.ndarray, mask_HW: np.ndarray) -> np.ndarray:
    """Where two masks differ when seen a little out of focus, in [0, 1]."""
    import cv2

    result: np.ndarray = np.abs(cv2.GaussianBlur(mask_HW - sound_HW, (0, 0), 2.0))
    return result


def share_changed(sound_HW: np.ndarray, changed_HW: np.ndarray) -> float:
    """How much changed, as a share of the ink."""
    return float(changed_HW.sum() / max(float(sound_HW.sum()), 1.0))


def _soft_disc(rng: np.random.Generator, shape: Shape, low: float, high: float) -> np.ndarray:
    """Weights in [0, 1] [H, W]: 1 in a disc about a point of a stroke, its radius in shares of the canvas."""
    y0, x0 = shape.skeleton_N2[rng.integers(len(shape.skeleton_N2))]
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    return np.clip((rng.uniform(low, high) * SIDE - np.hypot(y - y0, x - x0)) / 6.0, 0.0, 1.0)


def _field(rng: np.random.Generator, cells: int) -> np.ndarray:
    """float32 [2, H, W]: smooth random numbers of standard deviation about 1, with so many bumps across."""
    import cv2

    coarse = rng.normal(0, 1, (2, cells, cells)).astype(np.float32)
    return np.stack([cv2.resize(each, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) for each in coarse])


def _moved(mask_HW: np.ndarray, by_2HW: np.ndarray) -> np.ndarray:
    """The mask with each pixel taken from where the field points."""
    import cv2

    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    result: np.ndarray = cv2.remap(mask_HW, x + by_2HW[1], y + by_2HW[0], cv2.INTER_LINEAR)
    return result
