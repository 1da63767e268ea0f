"""What a run reads, whose mixture and whose images may change while it goes on: see run_logs.py."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from base_model.pretrain import Batch
from experiments.images.image_sources import OwnImages
from experiments.producers.generations import taken, with_generation
from experiments.producers.mix import Stream, named_weights, parts_of, with_change
from experiments.producers.ring import BATCHES
from experiments.producers.run_logs import GENERATIONS, MIX, Line, Log

Changes = tuple[list[Line], list[Line]]
"""of the mixture and of the images"""


def changes_at(run: Path, stream: Stream, step: int) -> Changes:
    """What the logs say of an update."""
    mixed = MIX.in_force(run, step) if parts_of(stream) else []
    return mixed, GENERATIONS.in_force(run, step) if isinstance(stream, OwnImages) else []


def with_changes(run: Path, stream: Any, changes: Changes, samples: int) -> Any:
    """The stream after changes; `samples` is how many an update reads, of all ranks."""
    for line in changes[0]:
        stream = with_change(stream, line, samples)
    for line in changes[1]:
        stream = with_generation(stream, run, line, samples)
    return stream


def stream_at(run: Path, stream: Stream, step: int, samples: int) -> Stream:
    """The stream as a run reads it at an update."""
    changed: Stream = with_changes(run, stream, changes_at(run, stream, step), samples)
    return changed


class ChangingImages:
    """`batch` and `images` of a run whose mixture and images may change. Use as a context manager.

    `opened` opens a stream for the updates from some on, and is called again where it changes. Rank 0 takes what is
    wanted into the logs; the other ranks read them. `encoder` and `encode` are those of `generations.taken`.
    """

    def __init__(
        self, folder: Path, stream: Stream, opened: Callable[[Stream, int], AbstractContextManager[Any]],
        is_first: bool = True, encoder: str = "", encode: Callable[[Sequence[str]], None] = lambda captions: None,
    ) -> None:  # fmt: skip
        self._folder, self._stream, self._opened, self._is_first = folder, stream, opened, is_first
        self._checks: dict[Log, Callable[[Any], Line]] = {}
        if parts := parts_of(stream):
            self._checks[MIX] = partial(named_weights, parts)
        if isinstance(stream, OwnImages):
            self._checks[GENERATIONS] = partial(taken, folder, stream, encoder, encode)
        self._stack = ExitStack()
        self._held: tuple[Changes, Any] | None = None
        self._taken: dict[Log, bytes] = {}
        self._refused: dict[Log, str] = {}

    def __enter__(self) -> ChangingImages:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def batch(self, step: int, size: int, rank: int = 0, ranks: int = 1) -> Batch:
        """A rank's batch of an update."""
        batch: Batch = self._data(step, size * ranks).batch(step, size, rank, ranks)
        return batch

    def images(self, step: int, size: int, rank: int = 0, ranks: int = 1) -> Tensor:
        """uint8 [size, 3, H, W], of a stream for autoencoders."""
        images: Tensor = self._data(step, size * ranks).images(step, size, rank, ranks)
        return images

    def _data(self, step: int, samples: int) -> Any:
        """What is read at an update, opened anew where it changes."""
        if self._held is not None and step % BATCHES:
            return self._held[1]
        if self._is_first:
            self._take(step // BATCHES * BATCHES + BATCHES)
        now = changes_at(self._folder, self._stream, step)
        if self._held is None or now != self._held[0]:
            self._stack.close()
            stream = with_changes(self._folder, self._stream, now, samples)
            self._held = now, self._stack.enter_context(self._opened(stream, step))
        return self._held[1]

    def _take(self, earliest: int) -> None:
        """Note what is wanted as what holds from an update on, unless it does already. What cannot be is said once."""
        for log, checked in self._checks.items():
            path = self._folder / log.wanted
            if not path.exists() or (content := path.read_bytes()) == self._taken.get(log):
                continue
            try:
                log.take(self._folder, earliest, checked)
                self._taken[log] = content
            except ValueError as error:
                problem = str(error)
                if problem != self._refused.get(log):
                    print(f"glyphlab: {path} is not followed: {problem}", file=sys.stderr)
                self._refused[log] = problem
