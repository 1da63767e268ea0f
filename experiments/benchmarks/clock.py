"""What the benchmarks that compare sides in one process take the time with, and the rate that a device can reach."""

from __future__ import annotations

import statistics
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


def product_tflops(device: str, side: int, repeats: int) -> float:
    """10^12 FLOPs a second of a square bfloat16 product: the best that a device does."""
    now, times = clock_of(device, threads=2), []
    a = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    for _ in range(repeats + 2):
        start = now()
        torch.mm(a, a)
        times.append(now() - start)
    return 2.0 * side**3 / statistics.median(times[2:]) / 1e12
