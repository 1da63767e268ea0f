"""What an update of every online algorithm of the race costs: rollout, judging and learning.

Run:     OMP_NUM_THREADS=1 python -m experiments.benchmarks.algorithms --parent runs/quickstart/sft

Every algorithm has a model of its own, and they take their updates in turn, so what else the machine does slows all
alike; they share the OCR workers. The first update of each is left out. Fine-tuning, the last, judges nothing.

Prints a table, then one JSON line with the median seconds an update of each.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import torch
import tyro
from tyro.conf import arg

from base_model.step import Step
from experiments.configs import nano_race
from experiments.experiment import Experiment
from experiments.launch import THREADS
from experiments.runner import equip_engine, updates
from experiments.starting import open_either
from rewards.named import named_reward
from rewards.workers import ScorerPool


@dataclass(frozen=True)
class Options:
    """How much is measured."""

    parent: Annotated[Path, arg(metavar="PATH")]
    """folder of the finished run whose model every algorithm starts from"""
    repeats: int = 6
    """updates of each that count"""


def loop(experiment: Experiment, parent: Path, folder: Path, pool: ScorerPool, stack: ExitStack) -> Iterator[Step]:
    """The experiment's updates, from its own copy of the parent's model."""
    folder.mkdir(parents=True)
    model = open_either(experiment, parent, folder)
    return stack.enter_context(updates(experiment, model, equip_engine(experiment, model), folder, 0, pool))


def measure(options: Options) -> dict[str, list[float]]:
    """Seconds of every update that counts, by experiment."""
    torch.set_num_threads(THREADS)
    took: dict[str, list[float]] = {}
    with TemporaryDirectory() as place, ExitStack() as stack:
        pool = stack.enter_context(ScorerPool(named_reward(nano_race.configs[0].reward), workers=2))
        loops = {
            config.name: loop(config, options.parent, Path(place) / config.name, pool, stack)
            for config in nano_race.configs
        }
        for round_ in range(options.repeats + 1):
            for name, steps in loops.items():
                start = time.perf_counter()
                next(steps)
                if round_:
                    took.setdefault(name, []).append(time.perf_counter() - start)
    return took


def main() -> None:
    took = measure(tyro.cli(Options, prog="python -m experiments.benchmarks.algorithms"))
    medians = {name: statistics.median(values) for name, values in took.items()}
    first = next(iter(medians.values()))
    print(f"{'':24s} seconds an update   least   most   first / this")
    for name, median in medians.items():
        print(f"{name:24s} {median:17.2f} {min(took[name]):7.2f} {max(took[name]):6.2f} {first / median:14.2f}")
    print(json.dumps({"seconds": medians}))


if __name__ == "__main__":
    main()
