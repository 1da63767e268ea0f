"""What the benchmarks that compare two sides in one process take the time with."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def clock_of(device: str, threads: int = 1) -> Callable[[], float]:
    """A clock in seconds for work on a device.

    On a CPU with one thread it is the process's own time, which waiting for other work on the machine does not
    lengthen; with more, whose waiting counts as that, it is the wall's. On a GPU it is the wall's once the card has
    done what it was asked. Raises ValueError when torch sees no such device.
    """
    if device == "cpu":
        return time.process_time if threads == 1 else time.perf_counter
    if not torch.cuda.is_available():
        raise ValueError(f"device={device!r}: torch sees no GPU; use cpu")

    def finished() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return finished
