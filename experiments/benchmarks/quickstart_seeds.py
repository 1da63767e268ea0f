"""What is asked of the quickstart, on more prompts than it has time for and for several seeds together.

Run:     OMP_NUM_THREADS=1 python -m experiments.benchmarks.quickstart_seeds --runs runs/quickstart runs/1 runs/2
         with the folders of `glyphlab quickstart` and `glyphlab quickstart --seed 1 -o runs/1`
Takes:   about 10 minutes a run on a core, for 1,024 open prompts and 1,024 full captions

Every stage is evaluated as in the quickstart, on its held-out prompts and further ones, from noise that depends on the
prompt alone. Evaluations are kept in --out, so that an interrupted benchmark goes on.

    asked    a line for each demand: every run with its 95 % interval over prompts, then all runs pooled (of each prompt
             the mean over runs), and in how many runs the demand holds by its value, and by its interval where the
             demand is of one. Intervals are of prompts and not of runs
    stages   means over runs

"Gold" is the engine that nothing is trained on. Its share of a gain is its own gain divided by that of the reward's
engine, and may be above 1; its interval has no end where nothing may have been gained. `--third
ocr_page:engine=tesseract` asks an engine of another family too, about English, and first about renderings of the
captions, through no model. Prints the tables, then one JSON line.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from base_model.data.rendered_chinese import is_chinese
from base_model.data.rendered_text import render
from base_model.devices import best_device
from base_model.files.weights import load_model
from base_model.generate import generate_chunks, prompted
from base_model.interface import FlowModel
from experiments.evaluation.evaluate import evaluate, fixed_noise, is_judged
from experiments.evaluation.found_model import fingerprint
from experiments.evaluation.prompts_of_plan import make_prompts, make_scenes
from experiments.experiment import THREADS, EvaluationPlan
from experiments.preferences.simulated_people import appearance
from experiments.progress import Progress
from experiments.quickstart.demands import CORE, KINDS, Evaluations, demands, spelt, won
from experiments.quickstart.quickstart import TasteChain, scorers
from experiments.quickstart.taste_summary import LANGUAGES
from experiments.record.intervals import in_brackets
from experiments.record.record import read_run
from experiments.record.whole_files import plain, write_bytes, write_json
from preference_data.records import Prompt
from rewards.parse import named_reward

NOTE = "evaluated.txt"
"""Beside a stage's evaluations: of which model they are, and how it was asked."""


@dataclass(frozen=True)
class Benchmark:
    """Which runs, and on how many prompts."""

    runs: tuple[Path, ...]
    """folders of finished quickstarts, one for each seed"""
    out: Path = Path("runs/seeds")
    prompts: int = 1024
    """of each kind, half in each language"""
    extras: tuple[str, ...] = ("nft_ocr", "dpo", "chosen", "nft_taste")
    """stages to evaluate beside the start and the aligned model"""
    beyond: int = 0
    """prompts of each kind to leave out of the tables, the first ones: 256 for those of the quickstart's own report"""
    third: str = ""
    """a reward that reads as well, such as ocr_page:engine=tesseract: its share of the gain in English"""

    def __post_init__(self) -> None:
        if not self.runs or self.prompts < 2:
            raise ValueError(f"runs={self.runs}, prompts={self.prompts}: at least one run and 2 prompts are needed")
        if not 0 <= self.beyond <= self.prompts - 2:
            raise ValueError(f"--beyond {self.beyond} leaves fewer than 2 of --prompts {self.prompts}")
        if self.out.exists() and not self.out.is_dir():
            raise ValueError(f"--out {self.out} is a file; name a folder")
        for run in self.runs:
            require_finished(run)
            if odd := [name for name in self.extras if name in CORE or name not in trained(run)]:
                there = " ".join(name for name in trained(run) if name not in CORE) or "none"
                raise ValueError(f"--extras {odd[0]}: {run} has no such stage beside {CORE}; it has {there}")
        starts = [str(self.folder(run)) for run in self.runs]
        if twice := next((run for run, own in zip(self.runs, starts, strict=True) if starts.count(own) > 1), None):
            raise ValueError(f"{twice} has the pretrained model of another of --runs; name every seed once")
        if self.third:
            named_reward(self.third)

    @property
    def stages(self) -> tuple[str, ...]:
        """All that is evaluated, the start first."""
        return *CORE, *self.extras

    @property
    def evaluations(self) -> list[Evaluations]:
        """Those of each run."""
        return [Evaluations(self.folder(run), self.beyond) for run in self.runs]

    def folder(self, run: Path) -> Path:
        """Where a run's evaluations are kept, whatever it is called and whichever others there are."""
        return self.out / f"{fingerprint(run / 'pretrain' / 'model')}-{self.prompts}"

    def plans(self, stage: str) -> dict[str, EvaluationPlan]:
        """How a stage is evaluated: as in the quickstart, on more prompts."""
        plans = TasteChain().plans(stage).items()
        return {name: replace(plan, prompts=replace(plan.prompts, count=self.prompts)) for name, plan in plans}

    @property
    def third_file(self) -> str:
        """The name of what the third engine read, without its end."""
        return re.sub(r"[^A-Za-z0-9]+", "_", self.third)


def require_finished(run: Path) -> None:
    """Raises ValueError for a folder that is no finished quickstart."""
    if (
        not (run / "run.json").is_file()
        or (record := read_run(run)).status != "finished"
        or "quickstart" not in record.config
    ):
        raise ValueError(f"{run} is no finished quickstart; make it with `glyphlab quickstart -o {run}`")


def trained(run: Path) -> list[str]:
    """The stages of a run that have a model of their own to sample from."""
    return sorted(file.parts[-3] for file in run.glob("*/model/transformer.safetensors"))


def note_models(benchmark: Benchmark) -> None:
    """Note which models the evaluations are of, and how they are asked.

    Raises ValueError where there are evaluations of others, such as of a run that was trained again since.
    """
    for run, stage in itertools.product(benchmark.runs, benchmark.stages):
        folder = benchmark.folder(run) / stage
        wanted = f"{fingerprint(run / stage / 'model')}\n{benchmark.plans(stage)}\n"
        if folder.exists() and not ((folder / NOTE).exists() and (folder / NOTE).read_text() == wanted):
            raise ValueError(
                f"{folder} has evaluations of another model than {run / stage}, or by other settings; delete it, or "
                "choose another --out"
            )
        write_bytes(folder / NOTE, wanted.encode())


def make_evaluations(benchmark: Benchmark) -> None:
    """Evaluate what is not yet evaluated."""
    note_models(benchmark)
    bar = Progress({"stages": 1.0})
    with scorers() as pools, bar.stage("stages", len(benchmark.runs) * len(benchmark.stages)):
        for run, stage in itertools.product(benchmark.runs, benchmark.stages):
            target, plans = benchmark.folder(run) / stage, benchmark.plans(stage)
            if not all(is_judged(target, plan, inside) for inside, plan in plans.items()):
                model = load_model(run / stage / "model", best_device())
                for inside, plan in plans.items():
                    evaluate(model, plan, target / inside, *pools, Progress({}), measure=appearance)
            bar.advance(1, {})


def ask_third(benchmark: Benchmark) -> None:
    """Have the third engine read the English images of the start and of the aligned model."""
    engine = named_reward(benchmark.third).load("cpu")
    bar = Progress({"third engine": 1.0})
    with bar.stage("third engine", len(KINDS) * len(CORE) * len(benchmark.runs)):
        for run, inside, stage in itertools.product(benchmark.runs, KINDS, CORE):
            target = benchmark.folder(run) / stage / inside / f"{benchmark.third_file}.json"
            if not target.exists():
                model = load_model(run / stage / "model", best_device())
                indices, prompts, images = english_images(model, benchmark.plans(stage)[inside])
                exact = engine(prompts, images).parts["exact"]
                rows = [
                    {"index": i, "target": prompt.spans[0], "exact": float(own)}
                    for i, prompt, own in zip(indices, prompts, exact, strict=True)
                ]
                write_json(target, {"rows": rows})
            bar.advance(1, {})


def rendered_exact(benchmark: Benchmark) -> float:
    """The share of clean renderings of the English full captions that the third engine reads.

    Raises ValueError for a reward that does not say which texts are exact.
    """
    scenes = [each for each in make_scenes(TasteChain().captions.prompts) if not is_chinese(each.word)]
    prompts = [Prompt.from_text(scene.caption) for scene in scenes]
    read_by = named_reward(benchmark.third).load("cpu")
    parts = read_by(prompts, np.stack([render(scene) for scene in scenes])).parts
    if "exact" not in parts:
        raise ValueError(f"--third {benchmark.third} does not say which texts are exact; choose ocr_page or the like")
    return float(np.nanmean(parts["exact"]))


def english_images(model: FlowModel, plan: EvaluationPlan) -> tuple[list[int], list[Prompt], np.ndarray]:
    """The plan's English prompts, their places in it, and what `evaluate` shows the engines for them, unguided."""
    prompts = make_prompts(plan.prompts)
    rows = [i for i, prompt in enumerate(prompts) if not is_chinese(prompt.spans[0])]
    noise = fixed_noise(model, len(prompts), plan.seed)[rows]
    sampler = dict(plan.samplers)["unguided"]
    requested = prompted(model, [prompts[i].text for i in rows], sampler.guidance)
    images = np.concatenate([made for _, _, made in generate_chunks(model, requested, noise, sampler)])
    return rows, [prompts[i] for i in rows], images


def demand_rows(benchmark: Benchmark) -> Iterator[dict[str, Any]]:
    """Every demand: its value and interval in each run, pooled, and in how many runs it holds."""
    for demand in demands(benchmark.stages, benchmark.third_file):
        runs = [demand.measured([run]) for run in benchmark.evaluations]
        pooled = demand.measured(benchmark.evaluations)
        yield {
            "demand": demand.name, "bounds": demand.bounds, "runs": runs, "pooled": pooled,
            "unjudged": int(np.isnan(np.mean([demand.values(each) for each in benchmark.evaluations], axis=0)).sum()),
            "holds": sum(demand.holds(*run) for run in runs),
        }  # fmt: skip


def stage_rows(benchmark: Benchmark) -> Iterator[str]:
    """Means over runs, as lines of a table."""
    runs = benchmark.evaluations
    heads = " | ".join(f"{language.title()} {kind}" for kind in KINDS.values() for language in LANGUAGES)
    yield f"| exact (gold) | wins | {heads} |\n|---|---|---|---|---|---|"
    for stage in benchmark.stages:
        for sampler in ("unguided", "guided"):
            if not all((run.folder / stage / "captions" / f"{sampler}.json").exists() for run in runs):
                continue
            engines = [partial(spelt, engine=each, sampler=sampler) for each in ("exact", "judge_exact")]
            cells = [
                "{:.3f} ({:.3f})".format(*(np.nanmean([of(stage, *each)(run) for run in runs]) for of in engines))
                for each in itertools.product(KINDS, LANGUAGES)
            ]
            win = f"{np.mean([won(stage)(run) for run in runs]):.3f}" if sampler == "unguided" else ""
            yield f"| {stage}, {sampler} | {win} | {' | '.join(cells)} |"


def main(benchmark: Benchmark) -> None:
    """Evaluate, and print the tables."""
    torch.set_num_threads(THREADS)
    if benchmark.third:
        print(f"{benchmark.third} reads {rendered_exact(benchmark):.3f} of clean renderings of English captions")
    make_evaluations(benchmark)
    if benchmark.third:
        ask_third(benchmark)
    rows = list(demand_rows(benchmark))
    print(f"| what is asked | bounds | {' | '.join(str(run) for run in benchmark.runs)} | pooled | holds |")
    print("|---" * (4 + len(benchmark.runs)) + "|")
    for row in rows:
        cells = [f"{run[0]:.3f} {in_brackets(*run[1:], '.3f')}" for run in (*row["runs"], row["pooled"])]
        left_out = f", {row['unjudged']} prompts left out" if row["unjudged"] else ""
        holds = f"{row['holds']} of {len(benchmark.runs)}{left_out}"
        print(f"| {row['demand']} | {row['bounds']} | {' | '.join(cells)} | {holds} |")
    print(*stage_rows(benchmark), sep="\n")
    print(json.dumps(plain({"prompts": benchmark.prompts, "beyond": benchmark.beyond, "asked": rows}), allow_nan=False))


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
