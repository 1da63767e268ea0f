"""Which image a sample shows, where images and weights may change on the way: a function of the sample's index.

In a pass every image of a source is shown once, or as often as it stands there, in an order that each pass has for
itself. Where a source gets other images
in the middle of a pass, that pass is ended with those that it has not shown and that stay, and with the new ones.

With weights, samples are shared among sources in blocks of `BLOCK`: in each, a source has exactly its share.
"""

from __future__ import annotations

import functools
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from base_model.seeding import numpy_generator

BLOCK = 1000
"""samples among which weights are kept exactly"""
Weights = tuple[float, ...]


class Location(NamedTuple):
    """Where the image of a sample stands."""

    generation: int
    """which of the lists of images"""
    source: int
    row: int
    """of the source's images"""


class Segment(NamedTuple):
    """Samples with the same images and weights."""

    start: int
    """the first sample"""
    weights: Weights
    generation: int
    before: np.ndarray
    """how many samples of each source come before"""


class SampleOrder:
    """The order of all samples.

    `generations` are (first sample, names of the images of each source), the first one from sample 0 on; `mixes` are
    (first sample, weights) in place of `weights`. Without weights a source has as many samples as images, times how
    `often` it shows them.
    """

    def __init__(
        self, seed: int, generations: Sequence[tuple[int, Sequence[Sequence[str]]]],
        mixes: Sequence[tuple[int, Weights]] = (), weights: Weights = (), often: Sequence[int] = (),
    ) -> None:  # fmt: skip
        self._seed, self._names = seed, [names for _, names in generations]
        self._segments: list[Segment] = []
        self._due: dict[tuple[int, int], list[int]] = {}
        starts, before = [start for start, _ in generations], np.zeros(len(self._names[0]), dtype=int)
        for start in sorted({*starts, *(start for start, _ in mixes)}):
            generation = bisect_right(starts, start) - 1
            own = self._names[generation]
            counts = tuple(
                float(len(names) * times) for names, times in zip(own, often or (1,) * len(own), strict=True)
            )
            mixed = [chosen for first, chosen in mixes if first <= start]
            if self._segments:
                last = self._segments[-1]
                before = last.before + self._counts(start - last.start, last.weights)
            self._segments.append(Segment(start, mixed[-1] if mixed else weights or counts, generation, before))

    def locate(self, index: int) -> Location:
        """Where the image of a sample stands."""
        segment = self._segments[bisect_right(self._segments, index, key=lambda each: each.start) - 1]
        block, offset = divmod(index - segment.start, BLOCK)
        source = int(_shares(self._seed, block, segment.weights)[offset]) if len(segment.weights) > 1 else 0
        position = int((segment.before + self._counts(index - segment.start, segment.weights))[source])
        generation = segment.generation
        row = self._row(generation, source, position - self._began(generation, source))
        return Location(generation, source, row)

    def _began(self, generation: int, source: int) -> int:
        """How many samples of a source come before a generation."""
        return next(int(each.before[source]) for each in self._segments if each.generation == generation)

    def _row(self, generation: int, source: int, position: int) -> int:
        """The image at a position in a source's stream of one generation."""
        due = self._due_rows(generation, source)
        if position < len(due):
            return due[position]
        passes, offset = divmod(position - len(due), count := len(self._names[generation][source]))
        return int(_order(self._seed, source, passes, count, generation)[offset])

    def _due_rows(self, generation: int, source: int) -> list[int]:
        """What the pass that a generation begins in has still to show, in its order; [] where a pass begins with it."""
        if not generation:
            return []
        if (generation, source) not in self._due:
            before, now = self._names[generation - 1][source], self._names[generation][source]
            shown = self._began(generation, source) - self._began(generation - 1, source)
            still = self._due_rows(generation - 1, source)
            passes, offset = divmod(shown - len(still), len(before))
            unshown = still[shown:] if shown < len(still) else []
            if shown >= len(still) and offset:
                unshown = [int(row) for row in _order(self._seed, source, passes, len(before), generation - 1)[offset:]]
            due = Counter(before[row] for row in unshown) + (Counter(now) - Counter(before)) if unshown else Counter()
            rows = []
            for row, name in enumerate(now):
                if due[name]:
                    due[name] -= 1
                    rows.append(row)
            order = _order(self._seed, source, -1, len(rows), generation)
            self._due[generation, source] = [rows[index] for index in order]
        return self._due[generation, source]

    def _counts(self, samples: int, weights: Weights) -> np.ndarray:
        """How many of the first samples with some weights are of each source."""
        if len(weights) == 1:
            return np.array([samples])
        blocks, rest = divmod(samples, BLOCK)
        full, part = _shares(self._seed, 0, weights), _shares(self._seed, blocks, weights)[:rest]
        sources = len(weights)  # a source is as often in every block
        return blocks * np.bincount(full, minlength=sources) + np.bincount(part, minlength=sources)


@functools.lru_cache(maxsize=64)
def _order(seed: int, source: int, passes: int, count: int, generation: int) -> np.ndarray:
    """The order of a source's images in one pass; -1 is the one that was begun with the images before."""
    purpose = f"own images, generation {generation}" if generation else "own images"
    return numpy_generator(seed, passes, source, purpose).permutation(count)


@functools.lru_cache(maxsize=64)
def _shares(seed: int, block: int, weights: Weights) -> np.ndarray:
    """The source of every sample of a block, by largest remainders."""
    exact = np.asarray(weights, dtype=float) / sum(weights) * BLOCK
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: BLOCK - counts.sum()]] += 1
    return numpy_generator(seed, block, 0, "sources").permutation(np.repeat(np.arange(len(weights)), counts))
