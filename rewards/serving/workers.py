"""Scoring in other processes, so that it overlaps with training.

A pool has N processes, each with its own loaded scorer and one thread; in the trainer's process there is one light
thread a worker, which waits for answers. Images travel as uint8. Results keep the order they were submitted in.

A worker that dies (killed, out of memory), or does not answer within ``answer_timeout`` seconds, breaks the pool: every
waiting future gets a ScoringError that names it, because a score that silently never comes, or comes as 0, would teach
the policy something false. With ``restarts`` it is replaced instead, that many times in all, and its images are
judged again by whoever is free; images that have cost two workers fail with that error.

Shapes: B samples, 3HW pixels.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np

from preference_data.pixels import to_float, to_uint8
from preference_data.records import Prompt
from rewards.scores import Reward, Scores, concatenate
from rewards.serving.metering import Meter, measured

_THREADS = "OMP_NUM_THREADS"
_STOP_SECONDS = 5.0  # for a worker to leave by itself before it is terminated


def _serve(reward: Reward, connection: Connection) -> None:
    """A worker: load, then answer until the pool closes or the trainer's end of the pipe is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the trainer's to handle; it closes the pool
    try:
        scorer = reward.load("cpu")
    except (FileNotFoundError, ImportError, ConnectionError, PermissionError) as error:  # it says what to do
        connection.send(("failed", str(error)))
        return
    except Exception:
        connection.send(("failed", traceback.format_exc()))
        return
    connection.send(("ready", scorer.name))
    while True:
        try:
            prompts, images_uint8 = connection.recv()
        except (EOFError, OSError):
            return
        try:
            answer: tuple[str, Any] = ("scores", measured(scorer, prompts, to_float(images_uint8)))
        except Exception:
            answer = ("failed", traceback.format_exc())
        try:
            connection.send(answer)
        except OSError:
            return


class _Job:
    """One submitted batch: chunks come back in any order, the future is fulfilled when the last one is there."""

    def __init__(self, chunks: int) -> None:
        self.future: Future[Scores] = Future()
        self.future.set_running_or_notify_cancel()  # it cannot be cancelled: fulfilling it never races with that
        self._results: list[Scores | None] = [None] * chunks
        self._lock = threading.Lock()

    def finish(self, index: int, scores: Scores) -> None:
        with self._lock:
            self._results[index] = scores
            results = [result for result in self._results if result is not None]
            if len(results) == len(self._results) and not self.future.done():
                self.future.set_result(concatenate(results))

    def fail(self, error: Exception) -> None:
        with self._lock:
            if not self.future.done():
                self.future.set_exception(error)


_Task = tuple[_Job, int, list[Prompt], np.ndarray, int]  # the last: how many workers died of it


class ScoringError(RuntimeError):
    """Images were not judged, and the message says by whom and why."""


class ScorerPool:
    """``workers`` processes with a loaded scorer each; use it as a context manager, and as a scorer if you like.

    Starting waits until all have loaded: ScoringError with a worker's own error when one cannot, or after
    ``start_timeout`` seconds. The script that makes a pool needs the usual ``if __name__ == "__main__":`` guard, since
    processes are spawned. ``chunk`` is the most images a worker takes at once, and ``answer_timeout`` the most
    seconds for them: far beyond any reward here, so that only what hangs meets it. ``meter`` knows what judging cost.
    """

    def __init__(
        self, reward: Reward, workers: int, start_timeout: float = 120.0, chunk: int = 16, restarts: int = 0,
        answer_timeout: float = 900.0,
    ) -> None:  # fmt: skip
        if workers < 1 or chunk < 1:
            raise ValueError(f"workers is {workers} and chunk is {chunk}; both must be at least 1")
        if answer_timeout <= 0.0:
            raise ValueError(f"answer_timeout is {answer_timeout}; a worker needs some seconds to answer")
        self._answer_timeout = answer_timeout
        self._chunk = chunk
        self.meter = Meter()
        self.restarted = 0
        self._reward, self._restarts, self._start_timeout = reward, restarts, start_timeout
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._spawning = threading.Lock()  # starting a process changes the environment for a moment
        self._open: set[_Job] = set()
        self._broken: ScoringError | None = None
        self._closed = False
        self._threads: list[threading.Thread] = []
        self._processes, self._connections = _start(reward, workers)
        try:
            self.name = self._wait_until_loaded(reward, time.monotonic() + start_timeout)
        except BaseException:
            self.close()
            raise
        for number in range(workers):
            thread = threading.Thread(target=self._feed, args=(number,), name=f"scorer-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def submit(self, prompts: Sequence[Prompt], images_uint8_B3HW: np.ndarray) -> Future[Scores]:
        """Judge image i against prompt i elsewhere; returns at once. The images are copied.

        ValueError when they are not uint8 or the lengths differ. RuntimeError when the pool is closed, ScoringError
        when it is broken; the future raises ScoringError when the scorer raised, or its worker died or hung.
        """
        if images_uint8_B3HW.dtype != np.uint8:
            raise ValueError(
                f"images are {images_uint8_B3HW.dtype}; workers take uint8 (preference_data.pixels.to_uint8)"
            )
        count = len(images_uint8_B3HW)
        if len(prompts) != count:
            raise ValueError(f"{len(prompts)} prompts but {count} images; image i is judged by prompt i")
        size = min(self._chunk, max(-(-count // len(self._processes)), 1))
        starts = range(0, count, size)
        job = _Job(len(starts))
        if not starts:
            job.future.set_result(concatenate([]))
            return job.future
        with self._lock:
            if self._broken is not None:
                raise ScoringError(str(self._broken)) from self._broken
            if self._closed:
                raise RuntimeError("the scorer pool is closed; open a new one")
            self._open.add(job)
        job.future.add_done_callback(lambda _: self._forget(job))
        for index, start in enumerate(starts):
            images = images_uint8_B3HW[start : start + size].copy()
            self._tasks.put((job, index, list(prompts[start : start + size]), images, 0))
        return job.future

    def __call__(self, prompts: Sequence[Prompt], images_B3HW: np.ndarray) -> Scores:
        """As any scorer: float32 in [0, 1] or uint8, waits for the result. Non-finite pixels are NaN as elsewhere."""
        finite_B = np.isfinite(images_B3HW).all(axis=tuple(range(1, images_B3HW.ndim)))
        scores = self.submit(prompts, to_uint8(images_B3HW)).result()
        if finite_B.all():
            return scores
        parts = {name: np.where(finite_B, part_B, np.nan) for name, part_B in scores.parts.items()}
        causes = Counter(scores.unjudged)
        causes["not_finite"] += int((np.isfinite(scores.value_B) & ~finite_B).sum())
        return Scores(np.where(finite_B, scores.value_B, np.nan), parts, dict(causes), scores.spent)

    def close(self) -> None:
        """Stop the workers. Batches still waiting fail with a RuntimeError; closing twice is allowed."""
        with self._lock:
            self._closed = True
        self._fail_all(RuntimeError("the scorer pool was closed before this batch was judged"))
        for _ in self._threads:
            self._tasks.put(None)
        if not self._threads:  # loading failed: nothing to wait for
            for process in self._processes:
                process.kill()
        until = time.monotonic() + _STOP_SECONDS
        for thread, process in zip(self._threads, self._processes, strict=False):
            thread.join(max(until - time.monotonic(), 0.1))
            if thread.is_alive():
                process.kill()  # its worker hangs; its death ends the thread
                thread.join()
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            process.join(max(until - time.monotonic(), 0.1))
            if process.is_alive():
                process.kill()
                process.join()

    def __enter__(self) -> ScorerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wait_until_loaded(self, reward: Reward, until: float) -> str:
        name = ""
        for number in range(len(self._processes)):
            kind, detail = self._receive(number, until)
            if kind != "ready":
                person = self._worker_name(number)
                raise ScoringError(f"{person} could not load {reward!r}: {detail}")
            name = detail
        return name

    def _receive(
        self, number: int, until: float, late: str = "did not load in time; raise start_timeout if it is only slow"
    ) -> tuple[str, Any]:
        """The next message of a worker, waiting for it and for its death at once, so that neither hangs."""
        connection, process = self._connections[number], self._processes[number]
        left = max(until - time.monotonic(), 0.0)
        ready = wait([connection, process.sentinel], left)
        if not ready:
            raise ScoringError(f"{self._worker_name(number)} {late}")
        if connection in ready:
            with suppress(EOFError, OSError):
                message: tuple[str, Any] = connection.recv()
                return message
        process.join(_STOP_SECONDS)  # its end is visible a moment before its exit code is
        code = process.exitcode
        why = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        raise ScoringError(
            f"{self._worker_name(number)} died ({why}); a killed worker is often one that ran out of memory"
        )

    def _late(self, count: int) -> str:
        return (
            f"did not answer about {count} images within {self._answer_timeout:g} s and was stopped; if it is only "
            "slow, raise answer_timeout"
        )

    def _worker_name(self, number: int) -> str:
        return f"scorer worker {number + 1} of {len(self._processes)} (process {self._processes[number].pid})"

    def _feed(self, number: int) -> None:
        """The thread of one worker: hand over a chunk, wait for its scores, again."""
        while (task := self._tasks.get()) is not None:
            job, index, prompts, images_uint8, deaths = task
            if job.future.done():
                continue
            try:
                self._connections[number].send((prompts, images_uint8))
                until = time.monotonic() + self._answer_timeout
                kind, result = self._receive(number, until, self._late(len(prompts)))
            except (RuntimeError, OSError) as error:
                if not self._replace(number):
                    self._break(number, error)
                    return
                if deaths:
                    job.fail(
                        ScoringError(f"the same images killed two workers; {self._worker_name(number)} replaces one")
                    )
                else:
                    self._tasks.put((job, index, prompts, images_uint8, deaths + 1))
                continue
            if kind == "scores":
                try:
                    self.meter.add(result)
                    job.finish(index, result)
                except Exception as error:  # without this thread nobody would ever answer whoever waits
                    job.fail(ScoringError(f"{self._worker_name(number)} gave scores that do not fit: {error!r}"))
            else:
                job.fail(ScoringError(f"{self._worker_name(number)} could not judge a batch:\n{result}"))

    def waiting(self) -> int:
        """Chunks that no worker has begun."""
        return self._tasks.qsize()

    def broken(self) -> str | None:
        """Why it cannot judge any more, None while it can."""
        return None if self._broken is None else str(self._broken)

    def processes(self) -> list[int]:
        """The process numbers of the workers."""
        return [process.pid or 0 for process in self._processes]

    def _replace(self, number: int) -> bool:
        """Start another process in the place of a dead one; False when that is not allowed or fails too."""
        with self._lock:
            if self._closed or self.restarted >= self._restarts:
                return False
            self.restarted += 1
        self._processes[number].kill()  # it may only have closed its pipe
        self._processes[number].join()
        self._connections[number].close()
        with self._spawning:
            processes, connections = _start(self._reward, 1)
        self._processes[number], self._connections[number] = processes[0], connections[0]
        try:
            return self._receive(number, time.monotonic() + self._start_timeout)[0] == "ready"
        except RuntimeError:
            return False

    def _break(self, number: int, error: Exception) -> None:
        if self._closed:
            return
        if not isinstance(error, RuntimeError):  # the pipe broke while sending: ask why
            try:
                self._receive(number, time.monotonic() + _STOP_SECONDS)
            except RuntimeError as reason:
                error = reason
        with self._lock:
            self._broken = (
                error if isinstance(error, ScoringError) else ScoringError(f"{self._worker_name(number)}: {error}")
            )
        self._fail_all(self._broken)
        self._processes[number].kill()  # it may hang

    def _fail_all(self, error: RuntimeError) -> None:
        with self._lock:
            waiting = list(self._open)
        for job in waiting:
            job.fail(error)

    def _forget(self, job: _Job) -> None:
        with self._lock:
            self._open.discard(job)


def _start(reward: Reward, workers: int) -> tuple[list[BaseProcess], list[Connection]]:
    """Spawn the workers. One thread each has to be asked for in the environment, before their imports read it."""
    context = multiprocessing.get_context("spawn")
    processes: list[BaseProcess] = []
    connections: list[Connection] = []
    before = os.environ.get(_THREADS)
    os.environ[_THREADS] = "1"
    try:
        for number in range(workers):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(reward, there), name=f"scorer-{number}", daemon=True)
            process.start()
            there.close()
            processes.append(process)
            connections.append(here)
    finally:
        if before is None:
            del os.environ[_THREADS]
        else:
            os.environ[_THREADS] = before
    return processes, connections
