"""Processes that make the shards of a ring, here or where Ray places them, and the reader that a run learns from.

Producer i of n makes the shards i, i + n, i + 2 n, ... A producer that dies is begun again, and makes its shard again:
whatever was killed, and when, the run sees the same numbers.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Protocol

import torch
from torch import Tensor

from base_model.data.encoded_shards import Shard, sealed
from base_model.pretrain import Batch, Latents
from experiments.images.on_ray import connected, placed
from experiments.images.part_pool import begin_process
from experiments.producers.batch_sources import Source
from experiments.producers.ring import AHEAD, Ring

POLL = 0.02
"""seconds between looks at the ring"""
DEATHS = 5
"""of producers in a row, without a shard between them, that end the run"""


@dataclass(frozen=True)
class Job:
    """What producers do."""

    source: Source
    ring: Ring
    shards: int
    """of the whole run"""
    producers: int

    def packed(self) -> bytes:
        """The job as bytes, which any process can have; tensors would travel as open files."""
        buffer = io.BytesIO()
        torch.save(self, buffer)
        return buffer.getvalue()

    def next(self, producer: int) -> int | None:
        """The next shard that a producer has to make, as soon as there is one; None at the end of the run."""
        while (reading := self.ring.reading()) < self.shards:
            for shard in range(reading, min(reading + AHEAD, self.shards)):
                if shard % self.producers == producer and not self.ring.holds(shard):
                    return shard
            time.sleep(POLL)
        return None

    def make(self, data: Latents, shard: int) -> bytes:
        """The bytes of a shard: the batches of its updates, of one rank after the other."""
        contents = self.ring.contents
        steps = range(shard * contents.batches, (shard + 1) * contents.batches)
        batches = [
            data.batch(step, contents.size, rank, contents.ranks) for step in steps for rank in range(contents.ranks)
        ]
        return sealed(batches, contents.about(shard))


def produce(packed: bytes, producer: int) -> None:
    """Make a producer's shards until the end of the run."""
    torch.set_num_threads(1)  # as in a run: sums depend on it
    job: Job = torch.load(io.BytesIO(packed), weights_only=False)  # of the process that began this one
    with job.source.open(job.producers) as data:
        while (shard := job.next(producer)) is not None:
            content = job.make(data, shard)
            while not job.ring.put(shard, content):
                time.sleep(POLL)


class Placed(Protocol):
    """Producers, wherever they are."""

    def begin(self, producer: int) -> None:
        """Begin one, also again."""
        ...

    def ended(self) -> Sequence[int]:
        """Those that died since they were begun. Raises what a producer raised."""
        ...

    def end(self) -> None:
        """End all of them."""
        ...


class ProcessesHere:
    """Producers as processes of this machine, which go when this one does."""

    def __init__(self, job: Job) -> None:
        self._context, self._packed = get_context("spawn"), job.packed()
        self._processes: dict[int, Any] = {}
        self._errors: dict[int, Connection] = {}

    def begin(self, producer: int) -> None:
        """See `Placed`."""
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_produce_here, args=(self._packed, producer, sender), daemon=True)
        process.start()
        sender.close()
        self._processes[producer], self._errors[producer] = process, receiver

    def ended(self) -> list[int]:
        """See `Placed`."""
        dead = [producer for producer, process in self._processes.items() if process.exitcode not in (None, 0)]
        for producer in dead:
            with contextlib.suppress(EOFError, OSError):
                if self._errors[producer].poll():
                    raise self._errors[producer].recv()
        return dead

    def end(self) -> None:
        """See `Placed`."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.join()


def _produce_here(packed: bytes, producer: int, sender: Connection) -> None:
    begin_process()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        produce(packed, producer)
    except Exception as error:
        sender.send(error)
        raise SystemExit(1) from None


class ProcessesOnRay:
    """Producers as tasks of a Ray cluster."""

    def __init__(self, job: Job, ray: Any) -> None:
        cards = int(job.source.on_gpu)
        for kind, needed in (("CPU", 1), ("GPU", cards)):
            if (there := ray.cluster_resources().get(kind, 0)) < needed * job.producers:
                raise ValueError(f"--producers {job.producers} need a {kind} each, and the Ray cluster has {there:g}")
        self._ray, self._packed = ray, ray.put(job.packed())
        self._task = ray.remote(num_cpus=1, num_gpus=cards, max_retries=0, scheduling_strategy="SPREAD")(placed)
        self._running: dict[int, Any] = {}

    def begin(self, producer: int) -> None:
        """See `Placed`."""
        # a reference inside of a tuple would arrive as a reference
        self._running[producer] = self._task.remote(os.getcwd(), _produce_on_ray, ([self._packed], producer))

    def ended(self) -> list[int]:
        """See `Placed`."""
        dead = []
        for producer, running in self._running.items():
            done, _ = self._ray.wait([running], timeout=0)
            try:
                self._ray.get(done)
            except self._ray.exceptions.RayTaskError as error:
                raise error.cause from error
            except self._ray.exceptions.RayError:  # its process died, or its machine
                dead.append(producer)
        return dead

    def end(self) -> None:
        """See `Placed`."""
        for running in self._running.values():
            self._ray.cancel(running, force=True)


def _produce_on_ray(packed: Sequence[Any], producer: int) -> None:
    import ray

    produce(ray.get(packed[0]), producer)


class RingReader:
    """`batch` and `images` of a ring. With producers, which one of the ranks has, dead ones are begun again."""

    def __init__(self, ring: Ring, producers: Placed | None, is_first: bool) -> None:
        self._ring, self._producers, self._is_first = ring, producers, is_first
        self._shard: tuple[int, Shard] | None = None
        self._deaths = 0

    def batch(self, step: int, size: int, rank: int = 0, ranks: int = 1) -> Batch:
        """A rank's batch of an update, as soon as its shard is there.

        Raises RuntimeError when producers die again and again, and what a producer raised.
        """
        contents = self._ring.contents
        if (size, ranks) != (contents.size, contents.ranks):
            raise ValueError(f"size={size}, ranks={ranks}: the shards are of {contents.size} and {contents.ranks}")
        shard, slot = divmod(step, contents.batches)
        if self._shard is None or self._shard[0] != shard:
            if self._is_first:
                self._ring.read_from(shard)
            self._shard = shard, self._wait(shard)
        return self._shard[1].batch(slot * ranks + rank)

    def images(self, step: int, size: int, rank: int = 0, ranks: int = 1) -> Tensor:
        """uint8 [size, 3, H, W], where the shards hold pixels."""
        return self.batch(step, size, rank, ranks).x0_BSC

    def _wait(self, shard: int) -> Shard:
        while (ready := self._ring.open(shard)) is None:
            self._revive()
            time.sleep(POLL)
        self._deaths = 0
        return ready

    def _revive(self) -> None:
        for producer in self._producers.ended() if self._producers else ():
            self._deaths += 1
            if self._deaths > DEATHS:
                raise RuntimeError(
                    f"data producers died {self._deaths} times without finishing a shard (killed, or out of memory): "
                    "give them less at once with fewer --producers, and run the command again to go on"
                )
            self._producers.begin(producer)  # type: ignore[union-attr]


@contextlib.contextmanager
def produced(
    source: Source, ring: Ring, steps: range, producers: int, address: str = "", rank: int = 0
) -> Iterator[RingReader]:
    """Open a reader of a run's updates, with the producers of its shards, here or in the Ray cluster of an address.

    Rank 0 has the producers; the other ranks read what they make.
    """
    batches = ring.contents.batches
    job = Job(source, ring, -(-steps.stop // batches), producers)
    if rank:
        yield RingReader(ring, None, False)
        return
    ring.read_from(steps.start // batches)
    cluster: AbstractContextManager[Any] = connected(address) if address else contextlib.nullcontext()
    with cluster as ray:
        placed_producers: Placed = ProcessesOnRay(job, ray) if address else ProcessesHere(job)
        try:
            for producer in range(producers):
                placed_producers.begin(producer)
            yield RingReader(ring, placed_producers, True)
        finally:
            placed_producers.end()
