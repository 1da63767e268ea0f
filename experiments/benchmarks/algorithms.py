"""What an update of every online algorithm of the race costs: rollout, scoring and learning.

Run:     OMP_NUM_THREADS=1 python -m experiments.benchmarks.algorithms --parent runs/quickstart/pretrain
         and with --sweep runs/race --picture race.svg, once the race was run

Every algorithm has a model of its own, and they take their updates in turn, so what else the machine does slows all
alike; they share the OCR workers. The first update of each is left out. Fine-tuning, the last, scores nothing.

Prints a table, then one JSON line with the median seconds an update of each. With the folder of a finished race, whose
own clocks ran beside whatever else the machine did, its held-out scores are told by these times, in a table and an
image.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import torch
import tyro
from tyro.conf import arg

from base_model.engine.step import Step
from experiments.configs import nano_race
from experiments.experiment import THREADS, Experiment
from experiments.record.whole_files import write_bytes
from experiments.report.page_style import chart_svg
from experiments.studies import watched_runs
from experiments.studies.sweep import run_folder
from experiments.training.runner import equip_engine, updates
from experiments.training.start_from import open_either
from rewards.parse import named_reward
from rewards.serving.workers import ScorerPool


@dataclass(frozen=True)
class Options:
    """Settings of the measurement."""

    parent: Annotated[Path, arg(metavar="PATH")]
    """folder of the finished run whose model every algorithm starts from"""
    repeats: int = 6
    """updates of each that count"""
    sweep: Annotated[Path | None, arg(metavar="PATH")] = None
    """folder of the race, to tell its held-out scores by these times"""
    seeds: str = "0,1,2"
    """of the race"""
    picture: Annotated[Path | None, arg(metavar="PATH")] = None
    """where to put its curves, an SVG file"""


def loop(experiment: Experiment, parent: Path, folder: Path, pool: ScorerPool, stack: ExitStack) -> Iterator[Step]:
    """The experiment's updates, from its own copy of the parent's model."""
    folder.mkdir(parents=True)
    model = open_either(experiment, parent, folder)
    return stack.enter_context(updates(experiment, model, equip_engine(experiment, model), folder, 0, pool))


def measure(options: Options) -> dict[str, list[float]]:
    """Seconds of every update that counts, by experiment."""
    torch.set_num_threads(THREADS)
    took: dict[str, list[float]] = {}
    with TemporaryDirectory() as scratch, ExitStack() as stack:
        pool = stack.enter_context(ScorerPool(named_reward(nano_race.configs[0].reward), workers=2))
        loops = {
            config.name: loop(config, options.parent, Path(scratch) / config.name, pool, stack)
            for config in nano_race.configs
        }
        for round_ in range(options.repeats + 1):
            for name, steps in loops.items():
                start = time.perf_counter()
                next(steps)
                if round_:
                    took.setdefault(name, []).append(time.perf_counter() - start)
    return took


def table_lines(options: Options, medians: Mapping[str, float]) -> list[str]:
    """The table of the race by these times; its curves go to `options.picture`."""
    assert options.sweep is not None
    seeds = [int(seed) for seed in options.seeds.split(",")]
    variants = []
    for name, median in medians.items():
        result = watched_runs.variant(name, [run_folder(options.sweep, name, seed) for seed in seeds])
        if result is None:
            raise ValueError(f"{options.sweep} holds no finished run of {name} with the seeds {options.seeds}")
        variants.append(watched_runs.at_pace(result, median))
    if options.picture:
        inks = watched_runs.ink_of(list(medians))
        write_bytes(options.picture, chart_svg(watched_runs.figures(variants, inks), inks).encode())
    return watched_runs.table(variants)


def main() -> None:
    options = tyro.cli(Options, prog="python -m experiments.benchmarks.algorithms", description=__doc__)
    took = measure(options)
    medians = {name: statistics.median(values) for name, values in took.items()}
    first = next(iter(medians.values()))
    print(f"{'':24s} seconds an update   least   most   first / this")
    for name, median in medians.items():
        print(f"{name:24s} {median:17.2f} {min(took[name]):7.2f} {max(took[name]):6.2f} {first / median:14.2f}")
    if options.sweep:
        print("\n".join(table_lines(options, medians)))
    print(json.dumps({"seconds": medians}))


if __name__ == "__main__":
    main()
