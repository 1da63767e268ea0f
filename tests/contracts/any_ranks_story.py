"""Two updates of the tiny model on any number of gloo processes, whole and from the checkpoints of another number.

`python -m tests.contracts.any_ranks_story FOLDER` makes all launches, at all ZeRO stages. Processes are forked from one
that has imported everything, which is most of the work of starting one.
"""

from __future__ import annotations

import gc
import os
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor

from base_model.engine import Engine, LocalEngine
from base_model.masters import Memory
from base_model.qwen_image import QwenImage
from base_model.seeding import generator
from tests.contracts.adapter_story import OPTIM, open_model

MICROS = 12
"""in all, whatever the number of processes; smallest ones, which are joined to larger ones"""
JOINED = {1: 2, 2: 1, 4: 3}
"""how many are joined to one, on a number of processes"""
UPDATES, SAVED_AFTER = 2, 1
KINDS = {
    "full": (Memory(), False),
    "adapter": (Memory(), True),
    "bf16": (Memory(bf16=True), False),
    "lean": (Memory(bf16=True, offload=True), True),
}
"""what is traded for memory, and whether an adapter is trained"""
EXACT = ("full", "adapter")
"""kinds whose sums are float32 throughout, so that it matters little how they are split"""
STAGES = {kind: range(4) if kind in EXACT else range(1, 4) for kind in KINDS}
# Adam takes a full step for a gradient that is all rounding error. At its usual floor and a rate of 1e-2 the weights
# of LocalEngine differ by 2e-5 from one split into micro-batches to the next; a higher floor leaves such weights alone
SETTINGS = replace(OPTIM, steps=UPDATES, adamw_lr=1e-3, eps=1e-5)
LAUNCHES: list[tuple[int, bool, tuple[int, ...]]] = [
    (2, True, ()),
    (4, True, (2,)),
    (1, True, (4,)),
    (2, False, (4, 1)),
]
"""number of processes, whether they train from the start, and whose checkpoints they go on from"""
SECONDS = 3600
"""for all launches together: some minutes on an idle machine, and many times that on a shared one"""
Micro = tuple[Tensor, Tensor, Tensor]


def micros(model: QwenImage, update: int) -> list[Micro]:
    """All micro-batches of an update: noisy latents, noise levels and targets of one picture each."""
    made = []
    for i in range(MICROS):
        random = generator(0, update, i, "any ranks")
        x, target = model.noise(1, random), model.noise(1, random)
        made.append((x, torch.rand(1, generator=random), target))
    return made


def join(parts: list[Micro], size: int) -> list[Micro]:
    """Every `size` micro-batches in one: a mean of means is the mean."""
    groups = [parts[i : i + size] for i in range(0, len(parts), size)]
    return [(torch.cat([p[0] for p in g]), torch.cat([p[1] for p in g]), torch.cat([p[2] for p in g])) for g in groups]


def train(model: QwenImage, engine: Engine, updates: range, joined: int) -> None:
    """This rank's share of every update."""

    def loss(micro: Micro) -> tuple[Tensor, dict[str, Tensor]]:
        x, sigma, target = micro
        cond = model.encode_text(["two words"] * len(x))
        return (model.velocity(x, sigma, cond) - target).square().mean(), {}

    share = MICROS // engine.world_size
    for update in updates:
        mine = micros(model, update)[engine.rank * share : (engine.rank + 1) * share]
        engine.update(join(mine, joined), loss)


@torch.no_grad()
def answer(model: QwenImage) -> Tensor:
    """What the network says, to see with which weights it computes."""
    x, sigma, _ = micros(model, 99)[0]
    return model.velocity(x, sigma, model.encode_text(["two words"])).clone()


def local(kind: str, joined: int, folder: Path) -> None:
    """One process with everything."""

    def make(module: torch.nn.Module, memory: Memory, keep_frozen: bool) -> Engine:
        return LocalEngine(module, SETTINGS, memory=memory, keep_frozen=keep_frozen)

    model, engine = open_model(make, *KINDS[kind])
    train(model, engine, range(UPDATES), joined)
    engine.save(folder)


def through_zero(kind: str, stage: int, other: bool) -> tuple[QwenImage, Engine]:
    """A model at a stage; an `other` one begins with weights of its own, but for those that an adapter leaves alone."""
    from base_model.engine_deepspeed import DeepSpeedEngine

    def make(module: torch.nn.Module, memory: Memory, keep_frozen: bool) -> Engine:
        return DeepSpeedEngine(module, SETTINGS, zero_stage=stage, memory=memory, keep_frozen=keep_frozen)

    memory, lora = KINDS[kind]
    return open_model(make, memory, lora, seed=int(other), base=int(other and not lora))


def whole(kind: str, stage: int, folder: Path) -> None:
    """All updates, and a checkpoint in between."""
    model, engine = through_zero(kind, stage, other=False)
    ranks = engine.world_size
    train(model, engine, range(SAVED_AFTER), JOINED[ranks])
    engine.save(folder / "saved")
    said = answer(model)
    train(model, engine, range(SAVED_AFTER, UPDATES), JOINED[ranks])
    engine.save(folder / "end")
    if engine.rank == 0:
        torch.save(said, folder / "said.pt")


def resumed(kind: str, stage: int, before: Path, folder: Path) -> None:
    """From a checkpoint of another number of processes to the end, with a look at what was loaded."""
    model, engine = through_zero(kind, stage, other=True)
    engine.load(before / "saved")
    engine.save(folder / "saved")
    said = answer(model)
    train(model, engine, range(SAVED_AFTER, UPDATES), JOINED[engine.world_size])
    engine.save(folder / "end")
    if engine.rank == 0:
        torch.save(said, folder / "said.pt")


def resumed_stage(ranks: int, stage: int) -> int:
    """Where what a stage saved goes on: on one process at another stage, otherwise at its own."""
    return stage % 3 + 1 if ranks == 1 and stage else stage


def one_rank(rank: int, ranks: int, folder: Path, from_the_start: bool, others: tuple[int, ...]) -> None:
    """Everything that one process of a launch does."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
    meeting = (folder / f"meeting_{ranks}_{'_'.join(map(str, others))}").as_uri()
    torch.distributed.init_process_group("gloo", meeting, timedelta(seconds=SECONDS), ranks, rank)
    for kind, stages in STAGES.items():
        for stage in stages:
            if from_the_start:
                whole(kind, stage, folder / f"{kind}_{stage}_on_{ranks}")
            for other in others:
                before = folder / f"{kind}_{stage}_on_{other}"
                after = folder / f"{kind}_{stage}_on_{other}_then_{ranks}"
                resumed(kind, resumed_stage(ranks, stage), before, after)
    torch.distributed.destroy_process_group()


def main(folder: Path) -> None:
    import deepspeed  # noqa: F401  once here instead of once a process
    import peft  # noqa: F401
    from torch.multiprocessing import start_processes

    gc.freeze()  # DeepSpeed collects garbage with every engine, and most of what it looks through is what was imported
    for ranks, from_the_start, others in LAUNCHES:
        start_processes(one_rank, (ranks, folder, from_the_start, others), ranks, start_method="fork")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
