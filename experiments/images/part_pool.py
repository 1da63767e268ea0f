"""A pool of processes for parts of work that are all alike, and none of which matters to another.

The processes are new ones (spawn), so that no library is split in the middle of what it does; they end with the
process that waits for them, however that ends.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TypeVar

from base_model.child_process import end_with_parent
from experiments.images.on_ray import parts_on_ray

Part = TypeVar("Part")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Pool:
    """Who does the parts."""

    processes: int = 1
    """of this machine; 1: the calling one"""
    ray: str = ""
    """the address of a Ray cluster that does them instead"""


def parts_done(work: Callable[[Part], Result], parts: Sequence[Part], pool: Pool) -> Iterator[Result]:
    """Do parts here, or in processes of their own; what `work` returns as they are done, in any order.

    Raises RuntimeError when a process dies, and whatever `work` raises.
    """
    if pool.ray and parts:
        yield from parts_on_ray(work, parts, pool.ray)
        return
    if pool.processes == 1 or len(parts) < 2:
        yield from map(work, parts)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        min(pool.processes, len(parts)), mp_context=context, initializer=begin_process
    ) as executor:
        futures = [executor.submit(work, part) for part in parts]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                "a process of the pool died (killed, or out of memory); run the command again to go on"
            ) from error
        finally:
            executor.shutdown(wait=True, cancel_futures=True)


def begin_process() -> None:
    """Leave Ctrl-C to the process that waits for the parts, and go when it is no longer there."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
