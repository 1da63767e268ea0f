"""A run is a folder that `cat` can read. Nothing here imports torch, so a dashboard can read runs in milliseconds.

    run.json        settings, command, environment, git revision, status, times
    metrics.jsonl   one line an update: {"step": 0, "seconds": 1.25, "loss": 0.7, ...}
    monitors.jsonl  one line a look at the held-out prompts, with its alarms; monitors/ has their images
    success.jsonl   one line an update of a run that chooses its prompts: their mean rewards, by prompt id
    samples/        images with an index.json that says what each should show

A JSON file is replaced whole or not at all. A process that is killed leaves at most half a line at the end of
metrics.jsonl, which readers pass over and the next writer removes; of its time at most `TICK` seconds are lost.

Shapes: B samples, 3HW pixels.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from experiments.record.changed_settings import differences, note, require_changeable
from experiments.record.environment import command, environment, revision
from experiments.record.leftovers import EMBEDDINGS, LOCK, METRICS, is_foreign, is_locked, not_a_run, nothing_recorded
from experiments.record.leftovers import RUN as RUN
from experiments.record.moved_names import with_current_names
from experiments.record.whole_files import model_identity, plain, write_bytes, write_json, write_png
from experiments.record.whole_files import read_png as read_png

if TYPE_CHECKING:
    import pandas

SAMPLES, CLOCK = "samples", ".seconds"
MONITORS, EVIDENCE, SUCCESS = "monitors.jsonl", "monitors", "success.jsonl"
TICK = 2.0
"""Seconds between notes of how long the run has been worked on, for when its process is killed."""
STATUSES = ("created", "running", "finished", "failed", "interrupted")
PATIENCE = 0.5
"""Seconds that a folder may seem to be worked in."""
RESERVED = ("step", "seconds")
"""Names in metrics.jsonl that a metric cannot have."""


@dataclass(frozen=True)
class Sample:
    """An image that a run kept."""

    step: int
    """the update after which it was sampled"""
    picture: Path
    caption: str
    """what it should show"""
    reading: str | None
    """what a reader made of it; None when none was asked"""


@dataclass(frozen=True)
class Run:
    """Everything in a run folder as plain data."""

    folder: Path
    status: str
    """one of `STATUSES`; "interrupted" also when its process was killed"""
    command: str
    """of its first session"""
    config: dict[str, Any]
    environment: dict[str, Any]
    git: dict[str, Any] | None
    started: str
    """ISO 8601, UTC"""
    finished: str | None
    seconds: float
    """of work, over all sessions"""
    error: str | None
    sessions: tuple[dict[str, Any], ...]
    """one for every time it was started"""
    metrics: tuple[dict[str, float | None], ...] = field(repr=False)
    """the lines of metrics.jsonl"""
    samples: tuple[Sample, ...] = field(repr=False)
    monitors: tuple[dict[str, Any], ...] = field(repr=False, default=())
    """the lines of monitors.jsonl"""


def read_run(folder: Path) -> Run:
    """Read a run folder, whether it is finished, being written or was killed.

    Raises FileNotFoundError when it is not the folder of a run, ValueError when its run.json is damaged.
    """
    state = _read_state(folder)
    status = state["status"]
    if status == "running" and not is_locked(folder):
        status = "interrupted"
    index = folder / SAMPLES / "index.json"
    rows = json.loads(index.read_text(encoding="utf-8")) if index.exists() else []
    samples = [Sample(r["step"], folder / SAMPLES / r["picture"], r["caption"], r["reading"]) for r in rows]
    known = {name: state[name] for name in ("command", "config", "environment", "git", "started", "finished", "error")}
    metrics = tuple(read_metrics(folder))
    return Run(folder, status, seconds=_seconds(folder, state, metrics), sessions=tuple(state["sessions"]),
               metrics=metrics, samples=tuple(samples), monitors=tuple(read_monitors(folder)), **known)  # fmt: skip


def read_metrics(folder: Path) -> list[dict[str, float | None]]:
    """The lines of metrics.jsonl in order; [] without one. null stands for NaN.

    An unfinished last line is passed over; a damaged line before it raises ValueError with its number.
    """
    return _read_lines(folder / METRICS)


def read_monitors(folder: Path) -> list[dict[str, Any]]:
    """The lines of monitors.jsonl in order; [] without one. Otherwise as `read_metrics`."""
    return _read_lines(folder / MONITORS)


def read_success(folder: Path, before: int) -> list[dict[str, float]]:
    """The mean rewards by prompt id of every update before one; [] of a run that takes all prompts in turns."""
    return [line["success"] for line in _read_lines(folder / SUCCESS) if line["step"] < before]


def _read_lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    *whole, _unfinished = path.read_bytes().split(b"\n")
    lines = []
    for number, line in enumerate(whole, 1):
        try:
            lines.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"{path} line {number} is damaged ({error}); remove it to go on") from error
    return lines


class RunRecord:
    """The writing side of a run folder. Make one with `open` (to work in it) or `read` (to look)."""

    def __init__(self, folder: Path, state: dict[str, Any]) -> None:
        self.folder = folder
        self._state = state
        state["seconds"] = _seconds(folder, state, read_metrics(folder))
        self._began: float | None = None
        self._pending: tuple[list[str], Any] = ([], None)
        self._files: dict[str, TextIO] = {}

    @classmethod
    def open(
        cls, folder: Path, config: Any, changeable: Sequence[str] = (), up_to_date: Callable[[Any], Any] = plain
    ) -> RunRecord:
        """The run in `folder`, made when it is new. `config` is a dataclass, or a dictionary of them.

        Settings whose names begin like one of `changeable` may differ: see `adopt`. `up_to_date` gives settings of an
        older version what was added since. A run that failed before it did anything is begun anew. Raises ValueError
        when the folder holds something else, or a run with other settings: going on with it would give a result that
        belongs to neither.
        """
        settings = plain(config)
        if (folder / RUN).exists():
            state = _read_state(folder)
            changed = differences(state["config"], settings)
            changed = changed and differences(up_to_date(state["config"]), settings)
            if not (changed and _has_done_nothing(folder, state)):
                require_changeable(folder, changed, state["status"] == "finished", changeable)
                record = cls(folder, state)
                record._pending = changed, settings
                return record
        elif folder.exists() and (not folder.is_dir() or any(map(is_foreign, folder.iterdir()))):
            raise ValueError(f"{folder} exists and is not a run (it has no {RUN}); choose another folder")
        state = {
            "format": 1, "status": "created", "command": command(), "config": settings, "environment": environment(),
            "git": revision(), "started": _now(), "finished": None, "seconds": 0.0, "error": None, "sessions": [],
        }  # fmt: skip
        write_json(folder / RUN, state)
        return cls(folder, state)

    @classmethod
    def read(cls, folder: Path) -> RunRecord:
        """The run in `folder`. Raises as `read_run`."""
        return cls(folder, _read_state(folder))

    def adopt(self, update: int) -> None:
        """Note that the settings it was opened with hold from `update` on, where they differ from before."""
        changed, settings = self._pending
        if changed:
            self._state.setdefault("changes", []).append(note(update, _now(), changed))
            self._state["config"] = settings
            self._pending = [], None
            write_json(self.folder / RUN, self._state)

    def metrics(self) -> pandas.DataFrame:
        """The lines of metrics.jsonl as a table: a row an update, indexed by "step"; NaN = unknown, or not logged."""
        import pandas

        lines = read_metrics(self.folder)
        names = dict.fromkeys([*RESERVED, *(name for line in lines for name in line)])
        return pandas.DataFrame(lines, columns=list(names), dtype=float).astype({"step": int}).set_index("step")

    @property
    def finished(self) -> bool:
        return bool(self._state["status"] == "finished")

    @property
    def config(self) -> dict[str, Any]:
        """The settings as `plain` gives them."""
        return dict(self._state["config"])

    @property
    def seconds(self) -> float:
        """Seconds of work over all sessions, the present one included."""
        return float(self._state["seconds"]) + (time.monotonic() - self._began if self._began is not None else 0.0)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """One session of work: on leaving, the status says how it ended, and the time is added.

        Raises ValueError when another process is working in the folder.
        """
        with exclusive(self.folder):
            session = {"command": command(), "started": _now(), "ended": None, "status": "running", "git": revision()}
            if (now := environment()) != self._state["environment"]:
                session["environment"] = now
            self._state["sessions"].append(session)
            self._began = time.monotonic()
            self._put(session, "running", None)
            try:
                with self._ticking():
                    yield
            except BaseException as error:
                stopped = isinstance(error, KeyboardInterrupt | GeneratorExit)
                with contextlib.suppress(OSError):  # on a full disk the error itself matters more
                    self._put(session, "interrupted" if stopped else "failed", None if stopped else _brief(error))
                raise
            self._put(session, "finished", None)

    @contextlib.contextmanager
    def _ticking(self) -> Iterator[None]:
        """Note the time spent every `TICK` seconds."""
        stop, before, began = threading.Event(), float(self._state["seconds"]), time.monotonic()

        def tick() -> None:
            while not stop.wait(TICK):
                write_bytes(self.folder / CLOCK, f"{before + time.monotonic() - began:.3f}".encode())

        thread = threading.Thread(target=tick, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _put(self, session: dict[str, Any], status: str, error: str | None) -> None:
        if status != "running":
            self._state["seconds"] = self.seconds
            self._began = None
            session["ended"] = _now()
            self._close()
        session["status"] = self._state["status"] = status
        self._state["error"], self._state["model"] = error, model_identity(self.folder)
        self._state["finished"] = session["ended"] if status == "finished" else None
        write_json(self.folder / RUN, self._state)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one line, which a killed process cannot lose. Raises ValueError for a metric of a reserved name."""
        if taken := [name for name in RESERVED if name in metrics]:
            raise ValueError(f"metrics cannot be named {', '.join(taken)}: every line has its own; rename them")
        self._append(METRICS, {"step": step, "seconds": round(self.seconds, 3), **plain(metrics)})

    def check(self, step: int, line: Mapping[str, Any]) -> None:
        """Append one line to monitors.jsonl: what was seen after update `step` (-1: before the first)."""
        self._append(MONITORS, {"step": step, "seconds": round(self.seconds, 3), **plain(line)})

    def success(self, step: int, means: Mapping[str, float]) -> None:
        """Append one line to success.jsonl: the mean rewards of the prompts of update `step`, by id."""
        self._append(SUCCESS, {"step": step, "success": dict(means)})

    def _append(self, name: str, line: Mapping[str, Any]) -> None:
        if name not in self._files:
            drop_unfinished_line(self.folder / name)
            self._files[name] = (self.folder / name).open("a", encoding="utf-8")
        try:
            self._files[name].write(json.dumps(line, allow_nan=False, ensure_ascii=False) + "\n")
            self._files[name].flush()
        except OSError:  # a full disk: what did not fit must not be tried again at closing
            with contextlib.suppress(OSError):
                self._files.pop(name).close()
            raise

    def _close(self) -> None:
        while self._files:
            self._files.popitem()[1].close()

    def rewind(self, step: int) -> None:
        """Forget what was logged, seen and sampled at `step` and later: work resumes there and will be done again."""
        self._close()
        for name in (METRICS, MONITORS, SUCCESS):
            if (path := self.folder / name).exists():
                lines = [line for line in _read_lines(path) if (line["step"] or 0) < step]
                write_bytes(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())
        for image in (self.folder / EVIDENCE).glob("step_*.png"):
            if int(image.name.split("_")[1]) >= step:
                image.unlink()
        index = self.folder / SAMPLES / "index.json"
        if index.exists():
            rows = json.loads(index.read_text(encoding="utf-8"))
            write_json(index, [row for row in rows if row["step"] < step])
            for row in rows:
                if row["step"] >= step:
                    (index.parent / row["picture"]).unlink(missing_ok=True)

    def samples(
        self, step: int, images_B3HW: np.ndarray, captions: Sequence[str], readings: Sequence[str] | None = None,
        sources: Sequence[Sequence[str]] = (),
    ) -> None:  # fmt: skip
        """Keep images (uint8, or float in [0, 1]) sampled after update `step`; those kept at it before are replaced.

        `sources` are the paths of what each asks to edit. Raises ValueError when images, captions and readings are not
        equally many.
        """
        read: Sequence[str | None] = [None] * len(captions) if readings is None else readings
        if not len(images_B3HW) == len(captions) == len(read):
            counts = f"{len(images_B3HW)} images, {len(captions)} captions, {len(read)} readings"
            raise ValueError(f"{counts}: every image needs one of each")
        index = self.folder / SAMPLES / "index.json"
        rows = json.loads(index.read_text(encoding="utf-8")) if index.exists() else []
        rows = [row for row in rows if row["step"] != step]
        for i, (image, caption, reading) in enumerate(zip(images_B3HW, captions, read, strict=True)):
            name = f"step_{step:06d}_{i:02d}.png"
            write_png(index.parent / name, image)
            edited = {"sources": list(sources[i])} if sources and sources[i] else {}
            rows.append({"step": step, "picture": name, "caption": caption, "reading": reading, **edited})
        write_json(index, sorted(rows, key=lambda row: (row["step"], row["picture"])))


def _read_state(folder: Path) -> dict[str, Any]:
    path = folder / RUN
    try:
        state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(not_a_run(folder)) from None
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(state, dict) or state.get("status") not in STATUSES:
        raise ValueError(f"{path} is not the record of a run: its status is missing or unknown")
    state["config"] = with_current_names(state["config"])
    return state


def _has_done_nothing(folder: Path, state: Mapping[str, Any]) -> bool:
    """Whether the run ended before its first update, and left nothing that anything could be made of."""
    return state["status"] != "finished" and nothing_recorded(folder, also=(EMBEDDINGS,))


def _seconds(folder: Path, state: Mapping[str, Any], metrics: Sequence[Mapping[str, float | None]]) -> float:
    """Seconds of work: of run.json, or of the last metric or tick of a process that was killed before it could tell."""
    try:
        ticked = float((folder / CLOCK).read_text())
    except (FileNotFoundError, ValueError):
        ticked = 0.0
    return max(state["seconds"], ticked, *(line["seconds"] or 0.0 for line in metrics[-1:]))


def drop_unfinished_line(path: Path) -> None:
    """Cut what follows the last line break, which a killed process left."""
    content = path.read_bytes() if path.exists() else b""
    if not content.endswith(b"\n") and content:
        os.truncate(path, content.rfind(b"\n") + 1)


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the system lets go of it when a process dies, however it dies."""
    with (folder / LOCK).open("a") as file:
        patient = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() < patient:  # whoever only looks whether it is held lets go at once
                    time.sleep(0.02)
                    continue
            raise ValueError(f"another process is working in {folder}; wait for it, or stop it") from None
        yield


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _brief(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
