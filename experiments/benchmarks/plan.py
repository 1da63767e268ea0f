"""Planned bytes beside counted ones, for every full-size recipe and every way to train it.

    python -m experiments.benchmarks.plan [--only NAME ...] [--own] [--whole]

A recipe runs on a card that is none (experiments/benchmarks/card): at few blocks, whose peaks are continued in a
straight line to the whole depth, or with --whole at its own depth. In its own way it runs whole, in the others opening,
rollouts and updates alone, because the rest does not depend on the engine. Counts that change no peak are small. --own
leaves the other ways out. The last line is one JSON object; `worst_ratio` is planned / counted where that is farthest
from 1.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from base_model.presets import PRESETS
from experiments.benchmarks.card.recipe import Counted, count_recipe
from experiments.configs.large_grpo import configs as grpo
from experiments.configs.large_tuning import configs as tuning
from experiments.experiment import Experiment
from experiments.plan import Account, Setup, alternatives
from experiments.planning import Asked, accounts

RECIPES = {experiment.name: experiment for experiment in (*grpo, *tuning)}
RANKS = 8
DEPTHS, DEPTHS_OF_OFFLOAD = (2, 3), (1, 2)
"""one process with offload keeps real masters and moments of all weights in this machine's memory"""
DEPTHS_OF_ZERO_3 = {"qwen_image": (8, 10), "sd35_medium": (28,)}
"""by preset: with less than about 2.5 billion weights stage 3 holds all of them gathered, which no line continues"""
PHASES = {"encoding": "encode", "sampling": "rollout", "decoding": "decode", "update": "update",
          "checkpoint samples": "look"}  # fmt: skip
"""planned phase -> counted phase"""


def own_way(experiment: Experiment) -> Setup:
    """How the experiment itself trains."""
    alone = experiment.engine == "local"
    return Setup(
        "h200-141gb", 1 if alone else RANKS, -1 if alone else experiment.zero_stage, experiment.memory.bf16,
        experiment.memory.offload, experiment.memory.recompute, experiment.lora.rank, 0.4,
        bool(experiment.optim.ema_decay), False, 0.0,
    )  # fmt: skip


def ways(experiment: Experiment) -> Iterator[Setup]:
    """Its own way first, then all others that the engines know."""
    own = own_way(experiment)
    yield own
    for gpus in (1, RANKS):
        for way in alternatives(replace(own, gpus=gpus)):
            if way != own and way.zero != 0:  # stage 0 refuses bfloat16
                yield way


def in_way(experiment: Experiment, way: Setup) -> Experiment:
    """The experiment trained in that way."""
    memory = replace(experiment.memory, offload=way.offload)
    if way.zero < 0:
        return replace(experiment, engine="local", memory=memory)
    return replace(experiment, engine="deepspeed", zero_stage=way.zero, memory=memory)


def depths_of(preset: str, way: Setup) -> tuple[int, ...]:
    """Numbers of blocks at which a way is counted, to be continued from the last two."""
    if way.zero == 3:
        return DEPTHS_OF_ZERO_3[preset]
    return DEPTHS_OF_OFFLOAD if way.zero < 0 and way.offload else DEPTHS


def counted(experiment: Experiment, way: Setup, whole_run: bool, whole_depth: bool) -> tuple[dict[str, float], int]:
    """Peaks by phase in GB at the whole depth, and the prompts' tokens."""
    depth = PRESETS[experiment.preset].num_layers
    depths = (depth,) if whole_depth else depths_of(experiment.preset, way)
    seen: list[Counted] = []
    for layers in depths:
        with tempfile.TemporaryDirectory() as folder:
            seen.append(count_recipe(in_way(experiment, way), Path(folder), layers, way.gpus, whole=whole_run))
    last, first = seen[-1], seen[0]
    peaks = {}
    for name in last.peaks:
        slope = (last.peaks[name] - first.peaks[name]) / max(1, depths[-1] - depths[0])
        peaks[name] = (last.peaks[name] + slope * (depth - depths[-1])) / 1e9
    return peaks, last.text_tokens


def planned(experiment: Experiment, way: Setup, text: int) -> Account:
    """The account of that way, with prompts of so many tokens."""
    asked = Asked(experiment.name, way, None, None, None, 0, 0, (0, 0), text, 0)
    return next(one for one in accounts(experiment, asked) if one.setup.label == way.label)


def compare(experiment: Experiment, way: Setup, whole_run: bool, whole_depth: bool) -> list[dict[str, object]]:
    """A row for the peak and one for every phase that was both planned and counted."""
    peaks, text = counted(experiment, way, whole_run, whole_depth)
    account = planned(experiment, way, text)
    shared = {phase: peaks[name] for phase, name in PHASES.items() if name in peaks and account.phases[phase]}
    if not whole_run:
        shared.pop("encoding", None)  # there was no language model
    rows = [("peak", max(account.phases[phase] for phase in shared), max(peaks[PHASES[p]] for p in shared))]
    rows += [(phase, account.phases[phase], gb) for phase, gb in shared.items()]
    return [
        {"recipe": experiment.name, "way": way.label, "of": of, "planned": plan, "counted": gb, "ratio": plan / gb}
        for of, plan, gb in rows
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[], choices=[*RECIPES, []])
    parser.add_argument("--own", action="store_true", help="each recipe in its own way alone")
    parser.add_argument("--whole", action="store_true", help="at whole depth instead of continuing a straight line")
    said = parser.parse_args()
    how = "run at whole depth" if said.whole else f"continued from {DEPTHS} blocks, ZeRO-3 from {DEPTHS_OF_ZERO_3}, "
    how += "" if said.whole else f"one process with offload from {DEPTHS_OF_OFFLOAD}"
    print(f"bytes alive on a card, rank 0 of {RANKS}, GB = 10^9; counted: {how}", flush=True)
    print(f"{'recipe':18}{'way':24}{'':20}{'planned':>10}{'counted':>10}{'ratio':>8}")
    rows: list[dict[str, object]] = []
    for name in said.only or RECIPES:
        for i, way in enumerate(ways(RECIPES[name])):
            if said.own and i:
                break
            for row in compare(RECIPES[name], way, i == 0, said.whole):
                rows.append(row)
                text = "{recipe:18}{way:24}{of:20}{planned:10.2f}{counted:10.2f}{ratio:8.3f}"
                print(text.format(**row), flush=True)
    peaks = [float(str(row["ratio"])) for row in rows if row["of"] == "peak"]
    worst = max(peaks, key=lambda ratio: abs(math.log(ratio)))
    print(json.dumps({"worst_ratio": round(worst, 4), "recipes": len(said.only or RECIPES), "ways": len(peaks)}))


if __name__ == "__main__":
    main()
