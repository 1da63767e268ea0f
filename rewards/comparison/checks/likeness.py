"""Whether two images are the same to the eye: what a re-encoding leaves alike although every hash differs.

An image's look is its mean colours over a grid of 16 by 16 cells. Two are alike when no cell differs by more than
`ALIKE` levels of 255 in any channel: JPEG moves the worst cell of drawn words by 4 at quality 95 and 8 at 85, one other
letter by 18 or more. Plain images of little content can be alike by chance, so a few say nothing: see `CHANCE`.

Shapes: P and Q images, K = 768 numbers of a look.
"""

from __future__ import annotations

import numpy as np

GRID = 16
ALIKE = 8.0
CHANCE = 0.05
"""Share of images that may be alike, and no more, without one having been trained on."""


def perceptual_hash(image_3HW: np.ndarray) -> np.ndarray:
    """uint8 [K] of uint8 pixels of any size."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(image_3HW.transpose(1, 2, 0)))
    small = image.resize((GRID, GRID), Image.Resampling.BOX)
    return np.asarray(small).reshape(-1).copy()


def alike(mine_PK: np.ndarray, others_QK: np.ndarray) -> np.ndarray:
    """[P]: whether each look is like any of the others. Coarse means find the few that are compared in full."""
    from scipy.spatial import cKDTree

    if not len(mine_PK) or not len(others_QK):
        return np.zeros(len(mine_PK), dtype=bool)
    near = cKDTree(_coarse(others_QK)).query_ball_point(_coarse(mine_PK), r=ALIKE, p=np.inf)
    results = [
        bool(len(some)) and bool((np.abs(others_QK[some].astype(float) - row).max(axis=1) <= ALIKE).any())
        for row, some in zip(mine_PK.astype(float), near, strict=True)
    ]
    return np.array(results, dtype=bool)


def _coarse(check_PK: np.ndarray) -> np.ndarray:
    """[P, 48]: means of four by four cells, which differ by no more than their cells do."""
    cells = check_PK.astype(float).reshape(len(check_PK), 4, GRID // 4, 4, GRID // 4, 3)
    return cells.mean(axis=(2, 4)).reshape(len(check_PK), -1)
