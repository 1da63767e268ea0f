"""One run on many processes: every rank trains, rank 0 alone writes the record.

Start with the usual launcher, on one node or several:

    torchrun --nproc_per_node 2 --no-python glyphlab train nano_grpo --engine deepspeed --zero-stage 2 --parent RUN

Nothing else in the floor of experiments knows how many processes there are. What is random belongs to (seed, step,
rank), so a run of N ranks is one run, whatever order they finish in.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch import nn

from base_model.engine.engine import Engine, LocalEngine
from experiments.experiment import Experiment
from experiments.record.changed_settings import differences
from experiments.record.record import RunRecord

OF_A_NODE = ("experiment.data.folder", "own_images.left_out")
"""Settings that may differ between ranks: where a disk is mounted. Images have a fingerprint."""


def rank_of(experiment: Experiment) -> int:
    """This process's rank, as its launcher says; 0 in a run of one process."""
    return int(os.environ.get("RANK", "0")) if experiment.engine == "deepspeed" else 0


def ranks_of(experiment: Experiment) -> int:
    """How many processes the launcher started; 1 in a run of one process."""
    return int(os.environ.get("WORLD_SIZE", "1")) if experiment.engine == "deepspeed" else 1


def barrier(experiment: Experiment) -> None:
    """Wait for all ranks; nothing in a run of one process."""
    if experiment.engine == "deepspeed":
        join(experiment)
        torch.distributed.barrier()


def join(experiment: Experiment) -> str:
    """Join the process group of the launcher, on this rank's own GPU where there are any; the device of its tensors."""
    from deepspeed.accelerator import get_accelerator

    from base_model.engine.engine_deepspeed import start_processes

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    start_processes(experiment.wait_minutes)
    return str(get_accelerator().current_device_name())


def require_same_settings(experiment: Experiment, settings: Mapping[str, Any]) -> None:
    """Raises ValueError on every rank where one was started with other `settings` than rank 0: other rates would pull
    their weights apart, and other data or seeds would be learned from as if they were those of the record."""
    if experiment.engine != "deepspeed":
        return
    device, mine = join(experiment), of_all_nodes(settings)
    bounds = torch.tensor([digest(mine), -digest(mine)], device=device)
    torch.distributed.all_reduce(bounds, op=torch.distributed.ReduceOp.MAX)
    if bounds[0] == -bounds[1]:
        return
    each: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(each, mine)
    for rank, theirs in enumerate(each):
        if changed := differences(each[0], theirs):
            raise ValueError(
                f"rank {rank} was started with other settings than rank 0 ({'; '.join(changed[:5])}): start all nodes "
                "with the same command, the same version of the code, and the same files"
            )


def digest(settings: Mapping[str, Any]) -> int:
    """A hash of settings, of 60 bits."""
    return int(hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:15], 16)


def of_all_nodes(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A copy without the settings that may differ between nodes."""
    copy: dict[str, Any] = json.loads(json.dumps(settings))
    for path in OF_A_NODE:
        *inside, last = path.split(".")
        part: Any = copy
        for name in inside:
            part = part.get(name) if isinstance(part, dict) else None
        if isinstance(part, dict):
            part.pop(last, None)
    return copy


class Onlooker(RunRecord):
    """The record on other ranks than 0: they read it and write nothing."""

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        yield

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        pass

    def check(self, step: int, line: Mapping[str, Any]) -> None:
        pass

    def success(self, step: int, means: Mapping[str, float]) -> None:
        pass

    def rewind(self, step: int) -> None:
        pass

    def samples(
        self, step: int, images_B3HW: np.ndarray, captions: Sequence[str], readings: Sequence[str] | None = None,
        sources: Sequence[Sequence[str]] = (),
    ) -> None:  # fmt: skip
        pass


def make_engine(experiment: Experiment, module: nn.Module, device: torch.device, keep_frozen: bool) -> Engine:
    """The engine that the experiment names, around `module`. Raises ValueError for what it cannot do."""
    if experiment.engine == "local":
        return LocalEngine(module, experiment.optim, device, experiment.memory, keep_frozen)
    from base_model.engine.engine_deepspeed import DeepSpeedEngine

    return DeepSpeedEngine(module, experiment.optim, experiment.zero_stage, experiment.memory, keep_frozen)


@contextlib.contextmanager
def torch_as_it_was() -> Iterator[None]:
    """Put torch's linear layer back afterwards, which DeepSpeed's stage 3 replaces for the whole process.

    The other one adds its bias in a step of its own and rounds otherwise: a model that is evaluated or trained in the
    same process later would give other numbers than in a process of its own.
    """
    linear = nn.functional.linear
    try:
        yield
    finally:
        nn.functional.linear = linear


def of_rank_0(engine: Engine, value: Any) -> Any:
    """What rank 0 brings, on every rank; numbers, texts and lists of them. All ranks call it together."""
    text = json.dumps(value).encode()
    size = int(engine.gather(torch.tensor([len(text)], device=engine.device))[0])
    mine = torch.zeros(size, dtype=torch.uint8)
    if engine.rank == 0:
        mine = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    return json.loads(bytes(engine.gather(mine.to(engine.device))[:size].cpu().tolist()))


def of_all_ranks(engine: Engine, value: Any) -> list[Any]:
    """What every rank brings, in their order, on every rank; as `of_rank_0`."""
    if engine.world_size == 1:
        return [value]
    text = json.dumps(value).encode()
    sizes = engine.gather(torch.tensor([len(text)], device=engine.device)).tolist()
    mine = torch.zeros(max(sizes), dtype=torch.uint8)
    mine[: len(text)] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    rows = engine.gather(mine.to(engine.device)).cpu().view(len(sizes), -1)
    return [json.loads(bytes(row[:size].tolist())) for row, size in zip(rows, sizes, strict=True)]


class Termination:
    """While open, SIGTERM is a wish: the loop asks after every update, saves a checkpoint and leaves.

    Ranks are told at different updates; they leave together, at the first that any of them was told at.
    """

    def __init__(self) -> None:
        self._requested = False
        self._before: Any = None

    def __enter__(self) -> Termination:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self._requested = True

    def requested(self, engine: Engine) -> bool:
        """Whether any rank was told."""
        is_requested = torch.tensor([float(self._requested)], device=engine.device)
        return bool(engine.gather(is_requested).any())
