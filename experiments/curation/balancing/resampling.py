"""Shows images of rare categories and of rare characters more often: a whole number of repeats a pass, `repeats`.

    (1)  f_c = images of a cell by all images, a cell being a category at one scale; of a character, the images whose
         captions quote it by those whose captions quote any
    (2)  r_c = max(1, (t / f_c)^power)             t = frequency below which it is rare; what is rarer is shown more
    (3)  r_i = min(most, max of r_c over what an image has)
    (4)  repeats = floor(r_i + u_i)                u_i in [0, 1) from the image's hash, so its mean is r_i

What has the frequency f < t is shown about (t / f)^power times as often; power 1 aims at t for all that is rare, 1/2
half of the way. Nothing is dropped: the filter `balance` does that with the surplus of frequent cells.

Sources: repeat factors of LVIS (Gupta, Dollar and Girshick 2019); the stages 6 and 7 of the Qwen-Image technical
report, section 3.2, which balance categories and resample rare text and publish no numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.images.caption_tables import REPEATS
from preference_data.texts.quotations import quoted_spans


@dataclass(frozen=True)
class Resampling:
    """From which frequency on cells and characters are rare, and how often images of rare ones are shown."""

    cells: float = 0.0
    """share of the set, such as 0.05, below which a category at one scale is rare; 0 = none is"""
    characters: float = 0.0
    """share of the images with quoted text, such as 0.001, below which a character is rare; 0 = none is"""
    power: float = 0.5
    """how far the rare is lifted: 0 not at all, 1 up to the frequency below which it is rare"""
    most: int = 4
    """largest number of times that an image is shown in a pass"""

    def __post_init__(self) -> None:
        for name in ("cells", "characters", "power"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name}={getattr(self, name):g} must be from 0 to 1")
        if self.most < 1:
            raise ValueError(f"most={self.most} must be at least 1")

    @property
    def is_on(self) -> bool:
        """Whether anything counts as rare."""
        return self.cells > 0.0 or self.characters > 0.0


def factors(things: Sequence[Sequence[Hashable]], rare: float, power: float) -> np.ndarray:
    """[N] (1) to (3), without the cap, of each image by its rarest thing; images without any are not counted."""
    counts = Counter(thing for own in things for thing in {*own})
    total = sum(bool(own) for own in things)
    of = {thing: max(1.0, (rare * total / count) ** power) for thing, count in counts.items()} if rare else {}
    return np.array([max((of.get(thing, 1.0) for thing in own), default=1.0) for own in things])


def add_repeats(rows: Sequence[dict[str, Any]], cells: Sequence[str], settings: Resampling) -> list[dict[str, Any]]:
    """The lines of captions.jsonl, with `repeats` where an image is shown more than once; those of a source are kept
    where nothing is resampled. `cells` are of the lines."""
    if not settings.is_on:
        return [*rows]
    quoted = [[c for text in row["text"] for span in quoted_spans(text) for c in span if c.isalnum()] for row in rows]
    by_cell = factors([[cell] for cell in cells], settings.cells, settings.power)
    by_character = factors(quoted, settings.characters, settings.power)
    shown = np.minimum(np.maximum(by_cell, by_character), settings.most)
    results = []
    for row, times in zip(rows, shown, strict=True):
        often = int(times + int(row["id"][:12], 16) / 16**12)  # (4)
        results.append({**{k: v for k, v in row.items() if k != REPEATS}, **({REPEATS: often} if often > 1 else {})})
    return results


def balance_table(rows: Sequence[Mapping[str, Any]], cells: Sequence[str]) -> list[dict[str, Any]]:
    """Of each cell, the most frequent first: images and their share, times that they are shown in a pass, and share."""
    images, shown = Counter(cells), Counter[str]()
    for row, cell in zip(rows, cells, strict=True):
        shown[cell] += int(row.get(REPEATS, 1))
    return [
        {"cell": cell, "images": count, "share": count / images.total(), "times": shown[cell] / count,
         "shown": shown[cell] / shown.total()}
        for cell, count in sorted(images.items(), key=lambda item: (-item[1], item[0]))
    ]  # fmt: skip
