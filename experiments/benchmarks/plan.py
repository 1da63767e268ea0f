"""Planned bytes beside counted ones, for every full-size recipe and every way to train it.

    python -m experiments.benchmarks.plan [--only NAME ...] [--resume FILE] [--own] [--whole]

A recipe runs on a card that is none (experiments/benchmarks/card): at few blocks, whose peaks are continued in a
straight line to the whole depth, or with --whole at its own depth. In its own way it runs whole, in the others opening,
rollouts and updates alone, because the rest does not depend on the engine. Counts that change no peak are small. --own
leaves the other ways out. With --resume every count is a line of that JSON-lines file as soon as it is made, and counts
that are there are not made again: the table can be made in pieces, and again when the plan alone has changed; a file of
other code's counts is to be deleted. The last line is one JSON object; `worst_ratio` is planned / counted where that is
farthest from 1, of peaks; `worst_phase_ratio` is that of all phases, those that are no peak included.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from alignment.groups import Groups
from alignment.guard import Guard
from base_model.qwen.presets import PRESETS
from experiments.benchmarks.card.recipe import count_recipe
from experiments.configs.families_online import configs as families
from experiments.configs.large_grpo import configs as grpo
from experiments.configs.large_tuning import configs as tuning
from experiments.experiment import Experiment
from experiments.planning.estimate import Account, Setup, alternatives
from experiments.planning.family_plan import family_behind
from experiments.planning.from_experiment import CommandLine, accounts
from experiments.planning.hollow_pipeline import depth_of

ALIKE = ("sd35m_pickscore_lora", "sd35m_geneval_lora")
"""recipes of which another has the same settings but for rewards and rates, and so the same bytes"""
RECIPES = {
    experiment.name: experiment
    for experiment in (*grpo, *tuning, *families)
    if not isinstance(experiment.algorithm, Guard) and experiment.name not in ALIKE  # Guard's bytes are Flow-GRPO's
}
RANKS = 8
DEPTHS = {
    "qwen_image": (2, 3), "sd35_medium": (4, 5), "stable-diffusion-3.5-medium": (14, 15), "FLUX.1-dev": (1, 2),
    "FLUX.2-klein-base-4B": (1, 2), "Z-Image": (2, 3), "Qwen-Image-2.1": (2, 3),
}  # fmt: skip
"""by preset, or by checkpoint: so many that a bucket of gradients is full. The first 13 blocks of SD3.5 medium have a
second attention"""
DEPTHS_OF_ZERO_3 = {
    "qwen_image": (8, 10), "sd35_medium": (28,), "stable-diffusion-3.5-medium": (24,), "FLUX.1-dev": (5, 6),
    "FLUX.2-klein-base-4B": (5,), "Z-Image": (14, 16), "Qwen-Image-2.1": (12, 14),
}  # fmt: skip
"""likewise: with less than about 2.5 billion weights stage 3 holds all of them gathered, which no line continues"""
PHASES = {"encoding": "encode", "sampling": "rollout", "decoding": "decode", "update": "update",
          "checkpoint samples": "look"}  # fmt: skip
"""planned phase -> counted phase"""


def own_way(experiment: Experiment) -> Setup:
    """How the experiment itself trains."""
    alone = experiment.engine == "local"
    return Setup(
        "h200-141gb", 1 if alone else RANKS, -1 if alone else experiment.zero_stage, experiment.memory.bf16,
        experiment.memory.offload, experiment.memory.recompute, experiment.lora.rank, 0.4,
        bool(experiment.optim.ema_decay), False, 0.0, experiment.memory.base_bits, experiment.memory.base_on_host,
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


def network_of(experiment: Experiment) -> tuple[str, int]:
    """The name by which the tables above know the network, and its depth."""
    family = family_behind(experiment.base)
    if family is None:
        return experiment.preset, PRESETS[experiment.preset].num_layers
    return family.folder.name, depth_of(family.network_config)


def depths_of(name: str, way: Setup) -> tuple[int, ...]:
    """Numbers of blocks at which a way is counted, to be continued from the last two."""
    return DEPTHS_OF_ZERO_3[name] if way.zero == 3 else DEPTHS[name]


def read_counts(file: Path) -> Iterator[dict[str, Any]]:
    """The counts of a file. What a run that was stopped wrote of a last line is cut off.

    Raises ValueError for any other line that is no count.
    """
    content = file.read_bytes()
    if (whole := content.rfind(b"\n") + 1) < len(content):
        content = content[:whole]
        file.write_bytes(content)
    for number, line in enumerate(content.decode().splitlines(), 1):
        try:
            row = json.loads(line)
            missing = [name for name in COLUMNS if name not in row]
        except (ValueError, TypeError) as error:
            raise ValueError(f"line {number} of {file} is not a count ({error}): delete it, or the file") from error
        if missing:
            raise ValueError(f"line {number} of {file} is not a count, it lacks {missing[0]}: delete it, or the file")
        yield row


KEY = ("recipe", "way", "layers", "ranks", "whole")
"""what a count depends on"""
COLUMNS = (*KEY, "peaks", "text")


class Book:
    """Counts, a line each in a file of JSON lines, so that none is made twice. Without a file they are not kept."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.rows = {self.key(row): row for row in (read_counts(file) if file and file.exists() else [])}

    def key(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        """What a count depends on."""
        return tuple(row[name] for name in KEY)

    def count(self, experiment: Experiment, way: Setup, layers: int, whole_run: bool) -> dict[str, Any]:
        """The peaks by phase in bytes and the prompts' tokens of one run at so many blocks."""
        row: dict[str, Any] = {"recipe": experiment.name, "way": way.label, "layers": layers, "ranks": way.gpus,
                               "whole": whole_run}  # fmt: skip
        if self.key(row) in self.rows:
            return self.rows[self.key(row)]
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            seen = count_recipe(in_way(experiment, way), Path(folder), layers, way.gpus, whole=whole_run)
        row |= {"peaks": dict(seen.peaks), "text": seen.text_tokens, "seconds": round(time.perf_counter() - begun, 1)}
        row["made_of"] = {phase: dict(lines.most_common(8)) for phase, lines in seen.at_peak.items()}
        self.rows[self.key(row)] = row
        if self.file:
            with self.file.open("a") as out:
                out.write(json.dumps(row) + "\n")
        return row


def counted(
    book: Book, experiment: Experiment, way: Setup, whole_run: bool, whole_depth: bool
) -> tuple[dict[str, float], int]:
    """Peaks by phase in GB at the whole depth, and the prompts' tokens."""
    name, depth = network_of(experiment)
    depths = (depth,) if whole_depth else depths_of(name, way)
    seen = [book.count(experiment, way, layers, whole_run) for layers in depths]
    last, first = seen[-1], seen[0]
    peaks = {}
    for name, peak in last["peaks"].items():
        slope = (peak - first["peaks"][name]) / max(1, depths[-1] - depths[0])
        peaks[name] = (peak + slope * (depth - depths[-1])) / 1e9
    return peaks, last["text"]


def planned(experiment: Experiment, way: Setup, text: int) -> Account:
    """The account of that way, with prompts of so many tokens."""
    requested = CommandLine(experiment.name, way, None, None, None, 0, 0, (0, 0), text, 0)
    return next(one for one in accounts(with_one_pass(experiment), requested) if one.setup.label == way.label)


def with_one_pass(experiment: Experiment) -> Experiment:
    """The experiment with as many prompts as a counted run has: those of a micro-batch."""
    cfg = experiment.algorithm
    if not isinstance(cfg, Groups):
        return experiment
    return replace(experiment, algorithm=replace(cfg, prompts=cfg.micro // cfg.group))


def compare(book: Book, experiment: Experiment, way: Setup, whole_run: bool, whole_depth: bool) -> list[dict[str, Any]]:
    """A row for the peak and one for every phase that was both planned and counted."""
    peaks, text = counted(book, experiment, way, whole_run, whole_depth)
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
    parser.add_argument("--resume", type=Path, help="a file of counts: those there are taken, others are appended")
    answer = parser.parse_args()
    book = Book(answer.resume)
    how = "run at whole depth" if answer.whole else f"continued from {DEPTHS} blocks, ZeRO-3 from {DEPTHS_OF_ZERO_3}"
    print(f"bytes alive on a card, rank 0 of {RANKS}, GB = 10^9; counted: {how}", flush=True)
    print(f"{'recipe':18}{'way':24}{'':20}{'planned':>10}{'counted':>10}{'ratio':>8}")
    rows: list[dict[str, Any]] = []
    for name in answer.only or RECIPES:
        for i, way in enumerate(ways(RECIPES[name])):
            if answer.own and i:
                break
            for row in compare(book, RECIPES[name], way, i == 0, answer.whole):
                rows.append(row)
                text = "{recipe:18}{way:24}{of:20}{planned:10.2f}{counted:10.2f}{ratio:8.3f}"
                print(text.format(**row), flush=True)
    print(json.dumps(summary(rows)))


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The ratios farthest from 1, and how much was compared."""

    def farthest(ratios: list[float]) -> float:
        return round(max(ratios, key=lambda ratio: abs(math.log(ratio))), 4)

    peaks = [row for row in rows if row["of"] == "peak"]
    return {
        "worst_ratio": farthest([row["ratio"] for row in peaks]),
        "worst_phase_ratio": farthest([row["ratio"] for row in rows]),
        "recipes": len({row["recipe"] for row in peaks}), "ways": len(peaks),
    }  # fmt: skip


if __name__ == "__main__":
    main()
