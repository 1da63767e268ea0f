"""Images of different sizes judged together: those of one size are a batch, and the order is kept.

Shapes: B samples, 3HW pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from preference_data.records import Prompt
from rewards.scores import Scores, concatenate

Batch = tuple[list[Prompt], np.ndarray]


def batches(prompts: Sequence[Prompt], images_3HW: Sequence[np.ndarray], most: int) -> list[tuple[list[int], Batch]]:
    """(places, (prompts, images B3HW)) of at most ``most`` images of one size; sizes in the order of appearance."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, image in enumerate(images_3HW):
        groups.setdefault(image.shape, []).append(index)
    results = []
    for indices in groups.values():
        for start in range(0, len(indices), most):
            some = indices[start : start + most]
            results.append((some, ([prompts[i] for i in some], np.stack([images_3HW[i] for i in some]))))
    return results


def in_order(indices: Sequence[Sequence[int]], parts: Sequence[Scores]) -> Scores:
    """The scores of batches put back into the order of the images they came from."""
    joined = concatenate(parts)
    back = np.argsort(np.concatenate([np.asarray(some, dtype=np.int64) for some in indices] or [np.zeros(0, np.int64)]))
    ordered = {name: part[back] for name, part in joined.parts.items()}
    return Scores(joined.value_B[back], ordered, joined.unjudged, joined.spent)
