"""What a reward can see: which part of the image moves its score, and how small letters may be.

(1)  sight: cover one cell of a grid after the other with static; a cell whose covering never moves the score of any
     image is not seen. The share of seen cells stands beside what the reward says of itself.
(2)  legibility: a word of height h on a large canvas, judged with the prompt that asks for it and with one that asks
     for another word of the same length. The share of words that score higher with their own prompt is 0.5 for a
     reward that cannot read, 1 for one that can; the smallest legible height is the least h from which on it
     stays above `LEGIBLE`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from preference_data.records import Prompt
from preference_data.statistics.shares import exact
from rewards.comparison.checks.probes import WORDS, rendered_lines, score_any_sizes
from rewards.scores import Scorer

ROWS, COLUMNS = 4, 8
HEIGHTS = (6, 8, 10, 12, 16, 20, 28, 40)
"""Heights of capitals in pixels."""
CANVAS = (512, 912)
"""Height and width of the canvas: 16 to 9, as the wide presets of large models."""
LEGIBLE = 0.85
UNMOVED = 1e-6


def sight(scorer: Scorer, prompts: Sequence[Prompt], images: Sequence[np.ndarray], seed: int) -> dict[str, Any]:
    """(1) over the images: {"seen": share of cells, "cells": mean size of the change by cell in spreads, "n"}."""
    change_RC = np.zeros((ROWS, COLUMNS))
    used = 0
    random = np.random.default_rng(seed)
    for prompt, image in zip(prompts, images, strict=True):
        before = score_any_sizes(scorer, [(prompt, image)])[0]
        if np.isnan(before):
            continue
        used += 1
        covered = [(prompt, cover(image, cell, random)) for cell in range(ROWS * COLUMNS)]
        moved = np.abs(score_any_sizes(scorer, covered) - before).reshape(ROWS, COLUMNS)
        # An image that can no longer be judged was seen to change.
        change_RC += np.where(np.isnan(moved), np.abs(before) + 1.0, moved)
    if not used:
        return {}
    largest = float(change_RC.max())
    seen = change_RC > UNMOVED * (largest or 1.0)
    return {"seen": float(seen.mean()), "cells": (change_RC / (largest or 1.0)).tolist(), "n": used}


def cover(image_3HW: np.ndarray, cell: int, random: np.random.Generator) -> np.ndarray:
    """The image with static in one cell of the grid."""
    row, column = divmod(cell, COLUMNS)
    height, width = image_3HW.shape[1:]
    rows = slice(row * height // ROWS, max((row + 1) * height // ROWS, row * height // ROWS + 1))
    columns = slice(column * width // COLUMNS, max((column + 1) * width // COLUMNS, column * width // COLUMNS + 1))
    covered = image_3HW.copy()
    covered[:, rows, columns] = random.integers(0, 256, size=covered[:, rows, columns].shape)
    return covered


def legibility(scorer: Scorer, heights: Sequence[int] = HEIGHTS, canvas: tuple[int, int] = CANVAS) -> dict[str, Any]:
    """(2): {"points": one a height, "smallest": the least legible height or NaN, "canvas"}; {} for a judge of none."""
    points = []
    for height in heights:
        items, wrong = [], []
        for k, word in enumerate(WORDS):
            other = next(w for w in (*WORDS[k + 1 :], *WORDS[:k]) if len(w) == len(word))
            image = rendered_lines([word], canvas, height, k)
            items.append((Prompt.from_text(f'a sign that says "{word}"'), image))
            wrong.append((Prompt.from_text(f'a sign that says "{other}"'), image))
        own_W, other_W = score_any_sizes(scorer, items), score_any_sizes(scorer, wrong)
        known = ~np.isnan(own_W) & ~np.isnan(other_W)
        better = np.where(own_W > other_W, 1.0, np.where(own_W == other_W, 0.5, 0.0))[known]
        low, high = exact(float(better.sum()), len(better))
        share = float(better.mean()) if len(better) else float("nan")
        points.append({"height": height, "share": share, "low": low, "high": high, "n": len(better)})
    smallest = float("nan")
    for point in reversed(points):
        if not point["share"] >= LEGIBLE:
            break
        smallest = float(point["height"])
    return {"points": points, "smallest": smallest, "canvas": list(canvas)} if any(p["n"] for p in points) else {}
