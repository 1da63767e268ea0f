"""The mixture of a run's images, changed while it goes on.

    RUN/mix.json    what is wanted: a weight for each part, such as {"photographs": 3, "written": 1}; edited by
                    hand or by `glyphlab mix`, at any time
    RUN/mix.jsonl   what holds: a line for every change, with the update from which it holds

A run looks every `BATCHES` updates, and what it finds holds from the next multiple of them on: an update that it has
not read yet, the same one on all ranks. From there on the images are those of a stream with these weights, a function
of its settings and of the log, so a run that goes on from a checkpoint needs a step number and the log.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from base_model.data.mixture import Mix, TaskStream
from base_model.data.rendered_pages import PageStream
from base_model.data.rendered_text import LEVELS
from base_model.data.stream import TextStream
from base_model.pretrain import Batch
from experiments.images.image_sources import ImageSources, OwnImages
from experiments.producers.ring import BATCHES
from experiments.record.record import read_run
from experiments.record.recorded_settings import rebuild
from experiments.record.whole_files import write_bytes, write_json
from preference_data.line_files import read_json, read_json_lines
from preference_data.spelling import unknown

WANTED, LOG = "mix.json", "mix.jsonl"
Data = TextStream | TaskStream | PageStream | ImageSources | OwnImages
Stream = TypeVar("Stream", bound=Data)


@dataclass(frozen=True)
class Change:
    """Weights that hold from an update on."""

    from_step: int
    weights: tuple[float, ...]
    """of the parts, in their order"""


def parts_of(data: Data | None) -> tuple[str, ...]:
    """What the images of a run are mixed of; () where it is one thing."""
    if isinstance(data, OwnImages):
        return parts_of(data.settings)
    if isinstance(data, ImageSources):
        return data.folder if len(data.folder) > 1 else ()
    if isinstance(data, TaskStream):
        return tuple(field.name for field in fields(Mix) if field.name != "start")
    return tuple(f"level{level}" for level in range(LEVELS)) if isinstance(data, TextStream) else ()


def with_change(stream: Stream, change: Change, samples: int) -> Stream:
    """The stream whose weights change; `samples` is how many an update reads, of all ranks."""
    step, new = change.from_step, change.weights
    if isinstance(stream, OwnImages):
        before = tuple(mix for mix in stream.mixes if mix[0] < step * samples)
        return replace(stream, mixes=(*before, (step * samples, new)))
    if isinstance(stream, TaskStream):
        return replace(stream, mixes=(*(mix for mix in stream.mixes if mix.start < step), Mix(step, *new)))
    if isinstance(stream, TextStream):
        text = (*(each for each in stream.progress.text if each[0] < step), (step, new))
        return replace(stream, stages=(), curriculum=replace(stream.curriculum, text=text))
    raise ValueError(f"a {type(stream).__name__} has no parts to be mixed")


def changes(folder: Path) -> list[Change]:
    """The log of a run."""
    if not (folder / LOG).exists():
        return []
    return [Change(line["from_step"], tuple(line["weights"].values())) for _, line in read_json_lines(folder / LOG)]


def in_force(log: Sequence[Change], step: int) -> list[Change]:
    """The changes that say what an update reads. A later line replaces what earlier ones said of its updates."""
    chosen: list[Change] = []
    for change in log:
        if change.from_step <= step:
            chosen = [*(before for before in chosen if before.from_step < change.from_step), change]
    return chosen


def stream_at(folder: Path, stream: Stream, step: int, samples: int) -> Stream:
    """The stream as a run reads it at an update."""
    for change in in_force(changes(folder), step):
        stream = with_change(stream, change, samples)
    return stream


def weights_of(wanted: Any, parts: Sequence[str]) -> tuple[float, ...]:
    """Weights of parts by their names, or the last piece of a path; a part that is not named has none.

    Raises ValueError for names that there are not, and weights that cannot be.
    """
    if not isinstance(wanted, Mapping):
        raise ValueError(f"a mix is a weight for each of {', '.join(parts)}, not {wanted!r}")
    chosen = dict.fromkeys(parts, 0.0)
    for name, weight in wanted.items():
        named = [part for part in parts if name in (part, Path(part).name)]
        if len(named) != 1:
            raise ValueError(unknown("part of the mix", name, parts))
        try:
            chosen[named[0]] = float(weight)
        except (TypeError, ValueError):
            raise ValueError(f"the weight of {name} must be a number, not {weight!r}") from None
    weights = tuple(chosen.values())
    if not (min(weights) >= 0.0 and 0.0 < sum(weights) < float("inf")):
        raise ValueError(f"weights must be at least 0, and one above 0, not {', '.join(map(str, weights))}")
    return weights


def ask_for(run: Path, settings: Sequence[str]) -> list[str]:
    """Ask a run for other weights, each a text such as photographs=3; without any, what it is mixed of: as lines.

    Raises ValueError as `weights_of`, where nothing is mixed, and where the run is finished.
    """
    recorded = read_run(run)
    data = getattr(rebuild(recorded.config.get("experiment", {})), "data", None)
    parts = parts_of(data)
    if not parts:
        raise ValueError(f"{run} learns from one kind of images, or from none: there is nothing to mix")
    if not settings:
        log = [f"from update {change.from_step}: {listed(parts, change.weights)}" for change in changes(run)]
        return [f"parts: {', '.join(parts)}", *log]
    if recorded.status == "finished":
        raise ValueError(f"{run} is finished, and learns no more; start another run from it with --parent {run}")
    if wrong := [setting for setting in settings if "=" not in setting]:
        raise ValueError(f"{wrong[0]!r} names no weight; write a part and its weight, such as {parts[0]}=1")
    weights = weights_of(dict(setting.rsplit("=", 1) for setting in settings), parts)
    write_json(run / WANTED, dict(zip(parts, weights, strict=True)))
    when = "within 16 updates" if recorded.status == "running" else "when it is resumed"
    return [f"{listed(parts, weights)}: the run takes it up {when} and notes it in {run / LOG}"]


def listed(parts: Sequence[str], weights: Sequence[float]) -> str:
    """Parts with their weights, without those that have none."""
    return ", ".join(f"{part}={weight:g}" for part, weight in zip(parts, weights, strict=True) if weight)


class MixedImages:
    """`batch` and `images` of a run whose mixture may change. Use as a context manager.

    `opened` opens a stream for the updates from some on, and is called again where the mixture changes. Rank 0 takes
    what is wanted into the log; the other ranks read it.
    """

    def __init__(
        self, folder: Path, stream: Stream, opened: Callable[[Stream, int], AbstractContextManager[Any]],
        is_first: bool = True,
    ) -> None:  # fmt: skip
        self._folder, self._stream, self._opened, self._is_first = folder, stream, opened, is_first
        self._parts = parts_of(stream)
        self._stack = ExitStack()
        self._held: tuple[list[Change], Any] | None = None
        self._refused: Any = None

    def __enter__(self) -> MixedImages:
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
        """What is read at an update, opened anew where its mixture is another one."""
        if self._held is not None and step % BATCHES:
            return self._held[1]
        if self._parts and self._is_first:
            self._take(step // BATCHES * BATCHES + BATCHES)
        now = in_force(changes(self._folder), step) if self._parts else []
        if self._held is None or now != self._held[0]:
            self._stack.close()
            stream = self._stream
            for change in now:
                stream = with_change(stream, change, samples)
            self._held = now, self._stack.enter_context(self._opened(stream, step))
        return self._held[1]

    def _take(self, from_step: int) -> None:
        """Note what is wanted as what holds from an update on, unless it does already. What cannot be is said once."""
        try:
            wanted = read_json(self._folder / WANTED)
        except FileNotFoundError:
            return
        except ValueError as error:
            wanted, weights, problem = None, (), str(error)
        else:
            try:
                weights, problem = weights_of(wanted, self._parts), ""
            except ValueError as error:
                weights, problem = (), str(error)
        log = changes(self._folder)
        if problem:
            if problem != self._refused:
                print(f"glyphlab: {self._folder / WANTED} is not followed: {problem}", file=sys.stderr)
            self._refused = problem
        elif not log or log[-1].weights != weights:
            before = (self._folder / LOG).read_bytes() if log else b""
            named = dict(zip(self._parts, weights, strict=True))
            line = json.dumps({"from_step": from_step, "weights": named}, ensure_ascii=False)
            write_bytes(self._folder / LOG, before + f"{line}\n".encode())
