"""`python -m tests.tiny_run FOLDER` runs the tiny chain.

With `--die-in STAGE N S` the run gets signal S after N logged updates of that stage, before they can be checkpointed.

Every process that the run starts imports this module again, so nothing heavy is imported at its top.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from pathlib import Path

from experiments.record import RunRecord


def die_in(stage: str, updates: int, number: int) -> None:
    """Send the run a signal right after the stage logged that many updates, whichever process trains it."""
    whole, left = RunRecord.log, [updates]

    def log(self: RunRecord, step: int, metrics: dict[str, float]) -> None:
        whole(self, step, metrics)
        left[0] -= self.folder.name == stage
        if left[0] == 0:
            left[0] = -1
            os.kill(os.getpid() if multiprocessing.parent_process() is None else os.getppid(), number)

    RunRecord.log = log  # type: ignore[method-assign]


if "--die-in" in sys.argv:  # also in the process beside
    die_in(sys.argv[3], int(sys.argv[4]), getattr(signal, sys.argv[5]))

if __name__ == "__main__":
    from experiments.quickstart import quickstart
    from tests.tiny_chain import tiny_chain, tiny_plan

    quickstart(Path(sys.argv[1]), tiny_chain(), tiny_plan())
