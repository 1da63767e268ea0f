"""Progress bars that know the whole run: how far this stage is, and when everything will be done.

Stages declare what they are expected to take; the estimate for what is left scales those expectations by how fast the
finished part went on this machine.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TextIO

from tqdm import tqdm

SHOWN = ("loss", "reward", "psnr", "ratio_first", "implicit_accuracy")
"""Metrics worth a place on the line."""
LINE_SHARE, LINE_SECONDS = 0.1, 30.0
"""A file or pipe gets a line after this share of a bar, or after these seconds where that comes first."""


class LineBar(tqdm):
    """A bar for a file or a pipe: from time to time a line of its own, and no carriage returns."""

    _written: tuple[float, float] | None = None
    """units and time of the last line"""

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Write a line where one is due; tqdm calls this at the beginning, while it goes on, and with "" at the end."""
        now = self._time()
        if self._written is not None:
            units, seconds = self.n - self._written[0], now - self._written[1]
            due = units > 0 if msg == "" else units >= LINE_SHARE * (self.total or math.inf) or seconds >= LINE_SECONDS
            if not due:
                return False
        self._written = self.n, now
        self.fp.write(self.format_meter(**{**self.format_dict, "ncols": 0}) + "\n")
        self.fp.flush()
        return False  # nothing that tqdm would have to clear

    def clear(self, nolock: bool = False) -> None:
        """Do nothing: what is in a file stays there."""


def bar_of(total: int, name: str, unit: str = "", file: TextIO | None = None) -> tqdm:
    """A bar of `total` units that goes to `file`, stderr when not given; lines where that is no terminal."""
    file = file or sys.stderr
    kind, stays = (tqdm, True) if file.isatty() else (LineBar, False)
    return kind(total=total, desc=name, unit=unit, file=file, dynamic_ncols=True, mininterval=0.5, leave=stays)


class Progress:
    """`expected` maps a stage to its expected seconds, 0 = not known, in order. Bars go to `file`, stderr when not
    given."""

    def __init__(self, expected: Mapping[str, float], file: TextIO | None = None) -> None:
        self._file = file or sys.stderr
        self._expected = dict(expected)
        self._spent = 0.0
        self._foreseen = 0.0
        self._bar: tqdm | None = None
        self._name = ""

    @contextlib.contextmanager
    def stage(self, name: str, total: int) -> Iterator[None]:
        """A stage of `total` units; inside, call `advance`."""
        began = time.monotonic()
        self._name = name
        self._bar = bar_of(total, name, file=self._file)
        try:
            yield
        finally:
            self._bar.close()
            self._bar = None
            self._spent += time.monotonic() - began
            self._foreseen += self._expected.pop(name, 0.0)

    def skip(self, name: str) -> None:
        """A stage that was finished before."""
        self._expected.pop(name, None)

    def advance(self, units: int, metrics: Mapping[str, float] | None = None) -> None:
        """Units done since the last call, and what they measured."""
        if self._bar is None:
            return
        if metrics is None:  # resumed work: it counts for the bar, not for the speed
            self._bar.initial = getattr(self._bar, "initial", 0) + units  # a bar that TQDM_DISABLE hides has none
            self._bar.n += units
            self._bar.refresh()
            return
        shown = {name: f"{metrics[name]:z.3f}" for name in SHOWN if name in metrics}
        self._bar.set_postfix({**shown, "whole run": f"{self.remaining(units)} left"}, refresh=False)
        self._bar.update(units)

    def note(self, text: str) -> None:
        """Say what is going on beside the bar."""
        if self._bar is not None:
            self._bar.set_postfix_str(f"{text}, whole run: {self.remaining()} left")

    def remaining(self, more: int = 0) -> str:
        """Time until every stage is done, as m:ss, with `more` units done than the bar shows yet."""
        bar = self._bar
        here = self._expected.get(self._name, 0.0)
        done = 0 if bar is None else bar.n + more - bar.initial
        if bar is not None and done > 0 and bar.total:
            elapsed = bar.format_dict["elapsed"]
            left = elapsed / done * (bar.total - bar.n - more)
            pace = (self._spent + elapsed) / max(self._foreseen + here * done / bar.total, 1e-6)
        elif not here and not self._foreseen:
            return "?"  # nobody has measured it, and nothing is done yet
        else:
            left, pace = here, self._spent / self._foreseen if self._foreseen else 1.0
        later = sum(seconds for name, seconds in self._expected.items() if name != self._name)
        total = round(left + later * (pace if self._foreseen + here else 1.0))
        return f"{total // 60}:{total % 60:02d}"
