"""Several tasks in one run: a seeded stream in which every sample has a task and a canvas of its own.

The scenes are those of a `TextStream` with its curriculum; the shares of the tasks are a second curriculum. Sample i is
a function of (seed, i) and of the stages at its step, so a batch is a function of (seed, step, size, rank, ranks) and
resuming needs a step number. With one task, one canvas and no mark the samples are the `TextStream`'s own, pixel by
pixel.

Canvases are mixed within a batch (ragged: `pretrain.Batch` says how many tokens each sample has, and the network
computes no padding), so that neither the order of sizes nor their share in a batch drifts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from base_model.data.curriculum import in_force, require_rising
from base_model.data.edits import (
    Example,
    Size,
    Task,
    change_ink,
    change_position,
    change_word,
    image_from_caption,
    reconstruct,
)
from base_model.data.rendered_text import HEIGHT, WIDTH
from base_model.data.stream import CaptionedImages, TextStream
from base_model.seeding import numpy_generator


@dataclass(frozen=True)
class Mix:
    """From update `start` on, tasks have these shares; they need not sum to 1."""

    start: int = 0
    """first update of the mix"""
    t2i: float = 1.0
    """an image from its caption"""
    i2i: float = 0.0
    """the source again"""
    word: float = 0.0
    """the source with another word"""
    ink: float = 0.0
    """the source with the word in another colour"""
    place: float = 0.0
    """the source with the word at another place"""

    def __post_init__(self) -> None:
        if min(self.shares()) < 0 or sum(self.shares()) <= 0:
            raise ValueError(f"shares of tasks must be >= 0 and not all 0, got {self}")

    def shares(self) -> tuple[float, ...]:
        """In the order of `TASKS`."""
        return self.t2i, self.i2i, self.word, self.ink, self.place


TASKS: tuple[Task, ...] = (image_from_caption, reconstruct, change_word, change_ink, change_position)
"""in the order of the fields of `Mix`"""
EDITS = TASKS[1:]
"""those with a source, which shows a word"""


@dataclass(frozen=True)
class TaskStream:
    """Examples of mixed tasks on canvases of mixed sizes."""

    scenes: TextStream
    """the stream that samples come from"""
    mixes: tuple[Mix, ...] = (Mix(),)
    """shares of the tasks, from some update on"""
    sizes: tuple[Size, ...] = ((HEIGHT, WIDTH),)
    """canvases; one that stands here twice is drawn twice as often"""

    def __post_init__(self) -> None:
        require_rising([mix.start for mix in self.mixes], "the mixes of tasks")
        if self.scenes.curriculum.resolution:
            raise ValueError("a stream of tasks has sizes of its own: leave curriculum.resolution of its scenes out")
        if self.scenes.size != (HEIGHT, WIDTH):
            raise ValueError(f"a stream of tasks has sizes of its own: leave size={self.scenes.size} of its scenes out")
        if not self.sizes:
            raise ValueError("a stream needs at least one canvas (height, width)")

    def examples(self, step: int, size: int, rank: int = 0, ranks: int = 1) -> list[Example]:
        """A batch: a pure function of (seed, step, size, rank, ranks)."""
        shares = np.asarray(self.mixes[in_force([mix.start for mix in self.mixes], step)].shares())
        return [
            self._one(step, position, index, shares) for position, index in self.scenes.indices(step, size, rank, ranks)
        ]

    def _one(self, step: int, position: int, index: int, shares: np.ndarray) -> Example:
        """The task and the canvas belong to the place in the stream; the scene to its index, which a limit repeats."""
        rng = numpy_generator(self.scenes.seed, position, 0, "task")
        task = TASKS[int(rng.choice(len(TASKS), p=shares / shares.sum()))]
        canvas = self.sizes[int(rng.integers(len(self.sizes)))]
        scene, caption = self.scenes.one(step, index, with_word=task in EDITS)
        return task(scene, caption, canvas, rng, False)

    def batch(self, step: int, size: int, rank: int = 0, ranks: int = 1) -> CaptionedImages:
        """Renders the examples as pixels."""
        examples = self.examples(step, size, rank, ranks)
        targets = [torch.from_numpy(example.target.render().copy()) for example in examples]
        sources = [[torch.from_numpy(example.source.render().copy())] if example.source else [] for example in examples]
        return CaptionedImages(targets, [example.text for example in examples], sources if any(sources) else ())
