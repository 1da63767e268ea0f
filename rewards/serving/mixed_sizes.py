"""Pictures of different sizes judged together: those of one size are a batch, and the order is kept.

Shapes: B samples, 3HW pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from preference_data.records import Prompt
from rewards.scores import Scores, concatenate

Batch = tuple[list[Prompt], np.ndarray]


def batches(prompts: Sequence[Prompt], pictures_3HW: Sequence[np.ndarray], most: int) -> list[tuple[list[int], Batch]]:
    """(places, (prompts, pictures B3HW)) of at most ``most`` pictures of one size; sizes in the order of appearance."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, picture in enumerate(pictures_3HW):
        groups.setdefault(picture.shape, []).append(place)
    found = []
    for places in groups.values():
        for start in range(0, len(places), most):
            some = places[start : start + most]
            found.append((some, ([prompts[i] for i in some], np.stack([pictures_3HW[i] for i in some]))))
    return found


def in_order(places: Sequence[Sequence[int]], parts: Sequence[Scores]) -> Scores:
    """The scores of batches put back into the order of the pictures they came from."""
    joined = concatenate(parts)
    back = np.argsort(np.concatenate([np.asarray(some, dtype=np.int64) for some in places] or [np.zeros(0, np.int64)]))
    ordered = {name: part[back] for name, part in joined.parts.items()}
    return Scores(joined.value_B[back], ordered, joined.unjudged, joined.spent)


def judge_sizes(
    judge: Callable[[list[Prompt], np.ndarray], Scores], prompts: Sequence[Prompt], pictures_3HW: Sequence[np.ndarray],
    most: int = 64,
) -> Scores:  # fmt: skip
    """Scores of pictures of any sizes, in their order; ``judge`` gets those of one size at a time."""
    found = batches(prompts, pictures_3HW, most)
    return in_order([places for places, _ in found], [judge(*batch) for _, batch in found])
