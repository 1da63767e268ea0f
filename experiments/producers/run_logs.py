"""The logs of what a run reads: of its mixture, and of its images.

    RUN/mix.json       what is wanted: a weight for each part, such as {"photographs": 3, "written": 1}
    RUN/mix.jsonl      what holds: a line for every change, with the update from which it holds
    RUN/images.json, RUN/generations.jsonl    the same for the list of images

What is wanted may be written at any time, by hand or by `glyphlab mix`, with "from_step" where it is to hold from a
certain update on. A run looks every `BATCHES` updates, and what it finds holds from the next multiple of them on: an
update that it has not read yet, the same one on all ranks. Lines are only ever added. What an update reads is a
function of the settings and of the logs, so a run that goes on from a checkpoint needs a step number and the logs, and
a run that begins with them reads what this one did.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.producers.ring import BATCHES
from experiments.record.whole_files import write_bytes
from preference_data.line_files import read_json, read_json_lines

FROM = "from_step"
"""the name of the update from which a line holds"""
Line = Mapping[str, Any]


@dataclass(frozen=True)
class Log:
    """One of the logs, in the folder of any run."""

    wanted: str
    """name of the file of what is wanted"""
    name: str
    field: str
    """what every line has; one without it was written by an older version, and says nothing"""

    def lines(self, run: Path) -> list[Line]:
        """All lines, in the order in which they were noted."""
        path = run / self.name
        lines = [line for _, line in read_json_lines(path)] if path.exists() else []
        return [line for line in lines if self.field in line]

    def in_force(self, run: Path, step: int) -> list[Line]:
        """The lines that say what an update reads. A later one replaces what earlier ones said of its updates."""
        chosen: list[Line] = []
        for line in self.lines(run):
            if line[FROM] <= step:
                chosen = [*(before for before in chosen if before[FROM] < line[FROM]), line]
        return chosen

    def note(self, run: Path, line: Line) -> None:
        """Add a line."""
        path = run / self.name
        before = path.read_bytes() if path.exists() else b""
        write_bytes(path, before + (json.dumps(line, ensure_ascii=False) + "\n").encode())

    def take(self, run: Path, earliest: int, checked: Callable[[Any], Line]) -> None:
        """Note what is wanted, as `checked` says it, unless it is what was noted last.

        Raises ValueError for what is no JSON, what `checked` refuses, and an update that may have been read.
        """
        wanted = read_json(run / self.wanted)
        start = wanted.pop(FROM, None) if isinstance(wanted, dict) else None
        line, lines = checked(wanted), self.lines(run)
        if lines and {**lines[-1], FROM: 0} == {**line, FROM: 0}:
            return
        if start is not None:
            require_undrawn(start, earliest)
        self.note(run, {FROM: earliest if start is None else start, **line})


MIX = Log("mix.json", "mix.jsonl", "weights")
GENERATIONS = Log("images.json", "generations.jsonl", "manifest")


def require_undrawn(start: Any, earliest: int) -> None:
    """Raises ValueError for an update from which nothing can hold any more, or that no shard begins with."""
    if not isinstance(start, int) or isinstance(start, bool) or start % BATCHES:
        near = f", such as {-(-start // BATCHES) * BATCHES}" if isinstance(start, int) else ""
        raise ValueError(
            f"from_step={start!r} must be a multiple of {BATCHES}{near}: updates are read {BATCHES} at once"
        )
    if start < earliest:
        raise ValueError(
            f"from_step={start}: what updates before {earliest} read is decided already, and a log says nothing of the "
            f"past; take {earliest} or a later multiple of {BATCHES}"
        )
