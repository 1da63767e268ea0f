"""Work beside the main line, in another process that ends when this one does, however that happens."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Callable
from pathlib import Path

from base_model.child_process import end_with_parent

SECONDS_TO_STOP = 10.0
"""For the other process to note that it was interrupted, before it is killed."""


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _work(work: Callable[[Path], None], folder: Path) -> None:
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; the parent hears it and stops this one
    signal.signal(signal.SIGTERM, _interrupt)
    with contextlib.suppress(KeyboardInterrupt):
        work(folder)


class SideProcess:
    """Runs `work(folder)`, a function of a module, while it is open; leaving it early interrupts the work."""

    def __init__(self, work: Callable[[Path], None], folder: Path) -> None:
        self._process = multiprocessing.get_context("spawn").Process(target=_work, args=(work, folder))

    def __enter__(self) -> SideProcess:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.is_alive():
            self._process.terminate()
            self._process.join(SECONDS_TO_STOP)
            self._process.kill()
        self._process.join()

    def check(self) -> None:
        """Raises RuntimeError when the work failed."""
        if self._process.exitcode:
            raise RuntimeError(
                f"the process beside this one ended with code {self._process.exitcode}; its own error is above. "
                "What was finished is kept: start again to go on"
            )

    def wait(self, seconds: float) -> bool:
        """Whether the work is done, after waiting for it for at most that long. Raises as `check`."""
        self._process.join(seconds)
        self.check()
        return not self._process.is_alive()
