"""One training story that every engine must tell with the same numbers.

`LocalEngine` tells it in the test process with the micro-batches of both ranks; DeepSpeed on two gloo processes
(`torchrun --nproc_per_node 2 -m tests.contracts.engine_story FOLDER`), once for each of `STAGES`, into FOLDER.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from base_model.engine import Engine, LocalEngine, OptimConfig
from base_model.engine_files import AVERAGE_FILE, META_FILE, MODULE_FILE
from base_model.seeding import generator
from base_model.skips import MOST
from tests.contracts import adapter_story

RANKS = 2
STAGES = (0, 1, 2, 3)
"""of ZeRO"""
MICROS = 3
"""per rank"""
UPDATES = 6
SAVED_AFTER = 3
OPTIM = OptimConfig(steps=UPDATES, muon_lr=0.0, adamw_lr=1e-2, clip=0.2, warmup=2, decay_from=0.5, ema_decay=0.9)
MUON = replace(OPTIM, muon_lr=0.02, weight_decay=0.1)
OTHER = replace(OPTIM, adamw_lr=3e-2, betas=(0.5, 0.9), final_lr=1.0)
DECAY = replace(OPTIM, weight_decay=0.1)
Micro = tuple[Tensor, Tensor]


class Toy(nn.Module):
    """Two residual blocks of odd sizes, so that slices need padding; one layer is frozen, one never used.

    `wide` is above, and the rest below, the size up to which ZeRO-3 keeps a parameter gathered.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.frozen = nn.Linear(5, 7).requires_grad_(False)
            self.transformer_blocks = nn.ModuleList([nn.Linear(7, 7) for _ in range(2)])
            self.wide = nn.Linear(7, 15_001)
            self.unused = nn.Linear(7, 3)
            self.out = nn.Linear(7, 1)
            self.register_buffer("scale", torch.rand(7))

    def forward(self, x: Tensor) -> Tensor:
        h = self.frozen(x) * self.scale
        for block in self.transformer_blocks:
            h = h + torch.tanh(block(h))
        return (self.out(h) + self.wide(h).sum(-1, keepdim=True) / 1000).squeeze(-1)


def micros(update: int, ranks: range) -> list[Micro]:
    """The micro-batches of some ranks at one update."""
    made = []
    for rank in ranks:
        random = generator(0, update, rank, "story")
        for _ in range(MICROS):
            x = torch.randn(4, 5, generator=random)
            made.append((x, 10 * x.sum(1) + rank))
    return made


def loss(engine: Engine, micro: Micro, spoil: Callable[[], float] = lambda: 0.0) -> tuple[Tensor, dict[str, Tensor]]:
    """Squared error to a target and to an older answer, which is computed between forward and backward."""
    x, y = micro
    answer = engine.module(x)
    with torch.no_grad():
        other = engine.module(x.flip(0))
    value = (answer - y).square().mean() + 0.1 * (answer - other).square().mean()
    return value, {"gap": (answer - other).detach().abs().mean(), "spoilt": value.detach() * 0 + spoil()}


def train(engine: Engine, ranks: range, updates: range) -> list[dict[str, float]]:
    return [engine.update(micros(i, ranks), lambda m: loss(engine, m)) for i in updates]


def weights(engine: Engine, folder: Path) -> dict[str, dict[str, Tensor]]:
    """Trained and averaged weights, whole, by way of a checkpoint."""
    engine.save(folder)
    return {"module": load_file(folder / MODULE_FILE), "average": load_file(folder / AVERAGE_FILE)}


def caught(action: Callable[[], object]) -> str:
    """Type and text of what an action raises, or nothing."""
    try:
        action()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def bad_of(engine: Engine, micro: Micro, ranks: range) -> tuple[Tensor, dict[str, Tensor]]:
    """A loss that is NaN on the last rank alone."""
    value, metrics = loss(engine, micro)
    return value * (float("nan") if ranks[-1] == RANKS - 1 else 1.0), metrics


def read_count(folder: Path) -> int:
    """How many skipped updates in a row a checkpoint remembers."""
    return int(json.loads((folder / META_FILE).read_text())["skipped"])


def tell(make: Callable[[OptimConfig, int, bool], Engine], ranks: range, folder: Path) -> dict[str, Any]:
    """The story. `make(optim, seed, freeze)` builds an engine round a new `Toy`."""
    engine = make(OPTIM, 0, False)
    told: dict[str, Any] = {"metrics": train(engine, ranks, range(2))}
    spoilt = micros(2, ranks)

    def bad_metric(micro: Micro) -> tuple[Tensor, dict[str, Tensor]]:
        mine = any(micro[0] is x for x, _ in spoilt[-2:-1])  # one micro-batch of the last rank, not its last
        return loss(engine, micro, lambda: float("nan") if mine and ranks[-1] == RANKS - 1 else 0.0)

    def bad_loss(micro: Micro) -> tuple[Tensor, dict[str, Tensor]]:
        value, metrics = loss(engine, micro)
        mine = any(micro[0] is x for x, _ in spoilt[-3:-2]) and ranks[-1] == RANKS - 1
        return value * (float("inf") if mine else 1.0), metrics

    def bad_gradient(micro: Micro) -> tuple[Tensor, dict[str, Tensor]]:
        value, metrics = loss(engine, micro)
        mine = any(micro[0] is x for x, _ in spoilt[-3:-2]) and ranks[-1] == RANKS - 1
        nothing = engine.module(micro[0]).sum() * 0.0  # on all ranks, which gather weights for it together
        return value + (nothing.abs().sqrt() if mine else nothing), metrics  # a root has no slope at 0

    told["bad"] = {b.__name__: engine.update(spoilt, b) for b in (bad_metric, bad_loss, bad_gradient)}
    told["metrics"] += train(engine, ranks, range(2, SAVED_AFTER))
    engine.save(folder / "saved")
    told["metrics"] += train(engine, ranks, range(SAVED_AFTER, UPDATES))
    told["end"] = weights(engine, folder / "end")
    x = micros(99, range(1))[0][0]
    with torch.no_grad():
        before = engine.module(x).clone()
        with engine.averaged():
            told["averaged_answer"] = engine.module(x).clone()
            told["inside"] = caught(lambda: engine.update(spoilt, bad_loss))
        told["restored"] = bool(torch.equal(before, engine.module(x)))
    told["answer"] = before
    told["gathered"] = engine.gather(torch.tensor([[i, i + 0.5] for i in ranks]))

    engine.load(folder / "saved")  # back in the same engine
    train(engine, ranks, range(SAVED_AFTER, UPDATES))
    told["rolled_back"] = weights(engine, folder / "rolled_back")
    other = make(OPTIM, 5, False)  # and in a new one, made with other weights
    other.load(folder / "saved")
    told["resumed_metrics"] = train(other, ranks, range(SAVED_AFTER, UPDATES))
    told["resumed"] = weights(other, folder / "resumed")

    third = make(OTHER, 6, False)  # and in one with other settings, which hold from then on
    third.load(folder / "saved")
    train(third, ranks, range(SAVED_AFTER, UPDATES))
    told["taken_over"] = weights(third, folder / "taken_over")

    stopped = make(OPTIM, 6, False)
    told["stops"] = [caught(lambda: stopped.update(spoilt, lambda m: bad_of(stopped, m, ranks))) for _ in range(MOST)]
    stopped.save(folder / "stopped")
    told["stopped_count"] = read_count(folder / "stopped")

    decayed = make(DECAY, 1, True)
    train(decayed, ranks, range(3))
    told["decayed"] = weights(decayed, folder / "decayed")

    # one forward and one backward an update, always the same: only then does ZeRO-3 keep weights gathered afterwards
    steady = make(OPTIM, 3, False)
    for i in range(UPDATES):
        steady.update(micros(i, ranks)[::MICROS], lambda m: ((steady.module(m[0]) - m[1]).square().mean(), {}))
    with torch.no_grad():
        told["steady"] = [steady.module(x).clone()]
        with steady.averaged():
            told["steady"] += [steady.module(x).clone()]
        told["steady"] += [steady.module(x).clone()]
    told["wrong_groups"] = caught(lambda: decayed.load(folder / "saved"))
    told["no_folder"] = caught(lambda: decayed.load(folder / "nowhere"))
    return told


def tell_muon(make: Callable[[OptimConfig, int, bool], Engine], ranks: range, folder: Path) -> dict[str, Any]:
    """The part that only engines with whole matrices can tell: Muon, and decay beside a layer without gradient."""
    engine = make(MUON, 2, False)
    train(engine, ranks, range(2))
    engine.save(folder / "muon_saved")
    train(engine, ranks, range(2, 4))
    other = make(MUON, 6, False)
    other.load(folder / "muon_saved")
    train(other, ranks, range(2, 4))
    return {"muon": weights(engine, folder / "muon"), "muon_resumed": weights(other, folder / "muon_resumed")}


def toy(seed: int, freeze: bool) -> Toy:
    made = Toy(seed)
    made.unused.requires_grad_(not freeze)
    return made


def local_story(folder: Path) -> dict[str, Any]:
    """One process with the micro-batches of both ranks."""

    def make(optim: OptimConfig, seed: int, freeze: bool) -> Engine:
        return LocalEngine(toy(seed, freeze), optim)

    return tell(make, range(RANKS), folder) | tell_muon(make, range(RANKS), folder)


def deepspeed_story(stage: int, rank: int, folder: Path) -> dict[str, Any]:
    """This rank's part. Ranks start from different weights, and rank 0's must win."""
    from base_model.engine_deepspeed import DeepSpeedEngine

    def make(optim: OptimConfig, seed: int, freeze: bool) -> Engine:
        return DeepSpeedEngine(toy(seed + 1000 * rank, freeze), optim, zero_stage=stage)

    mine = range(rank, rank + 1)
    told = tell(make, mine, folder)
    if stage == 0:
        told |= tell_muon(make, mine, folder)
    else:
        told["muon_refused"] = caught(lambda: make(MUON, 0, False))
        told["decay_refused"] = caught(lambda: train(make(DECAY, 0, False), mine, range(1)))
    engine = make(OPTIM, 0, False)
    told["uneven"] = caught(lambda: engine.update(micros(0, mine)[: rank + 1], lambda m: loss(engine, m)))
    told["other_names"] = caught(
        lambda: engine.update(micros(0, mine), lambda m: (loss(engine, m)[0], {f"of_rank_{rank}": 1.0}))
    )
    told["interrupted"] = caught(lambda: train(engine, mine, range(1)))
    engine = make(OPTIM, 0, False)
    inner = cast(nn.Module, engine.module.module)
    told["behind"] = caught(lambda: engine.update(micros(0, mine), lambda m: (inner(m[0]).mean(), {})))
    return told


def main(folder: Path) -> None:
    """Tell the story at every stage; each rank writes what it saw."""
    torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=180))
    rank = torch.distributed.get_rank()
    gc.freeze()  # DeepSpeed collects garbage with every engine, and most of what it looks through is what was imported
    for stage in STAGES:
        told = deepspeed_story(stage, rank, folder / f"stage_{stage}")
        torch.save(told, folder / f"stage_{stage}_rank_{rank}.pt")
        told = adapter_story.deepspeed(stage, range(rank, rank + 1), folder / f"adapter_{stage}")
        torch.save(told, folder / f"adapter_stage_{stage}_rank_{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
