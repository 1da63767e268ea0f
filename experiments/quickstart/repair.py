"""Repair: what noisy captions did, mended by alignment from prompts alone and by clean images, all evaluated alike.

Every stage is an experiment in its own folder; whatever is finished is skipped, whatever was interrupted goes on. The
numbers of a run depend on the configuration alone, not on where it was interrupted.

DPO and GRPO begin from the pretrained model and see prompts alone; fine-tuning and its control see clean images. Two
processes share the work, one for each core: this one trains all but the control, the other evaluates finished stages
and trains the control, which needs nothing but the fine-tuned model.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from base_model.devices import best_device
from base_model.files.weights import load_model
from experiments.configs import nano
from experiments.evaluation.evaluate import compare, evaluate, is_judged, summarise
from experiments.experiment import THREADS, EvaluationPlan, Experiment, laid_out
from experiments.progress import Progress
from experiments.quickstart.peak_memory import PeakMemory
from experiments.quickstart.repair_notes import write_notes
from experiments.quickstart.side_process import SideProcess
from experiments.quickstart.stages import train_stage, wait_for
from experiments.record.record import RunRecord, write_json
from experiments.report.report import write_report
from experiments.training.runner import run
from rewards.serving.workers import ScorerPool
from rewards.text.ocr import Ocr, OcrGold

Chain = tuple[tuple[str, Experiment, str], ...]

CHAIN: Chain = (
    ("decoder", nano.decoder, ""),
    ("pretrain", nano.pretrain, "decoder"),
    ("sft", nano.sft, "pretrain"),
    ("dpo", nano.dpo, "pretrain"),
    ("grpo", nano.grpo, "pretrain"),
    ("control", nano.control, "sft"),
)
"""(stage, experiment, the stage it starts from)"""

PAIRED = (
    ("sft", "pretrain"), ("dpo", "pretrain"), ("grpo", "pretrain"), ("control", "pretrain"), ("grpo", "sft"),
    ("dpo", "sft"), ("grpo", "control"), ("dpo", "control"),
)  # fmt: skip
"""(a, b): the table says how much a is above b"""

CONTROL = "control"
"""The stage that is trained beside the others."""

REST_SECONDS = 40.0
"""Expected between the last stage's end and the last evaluation's; only for the remaining-time estimate."""


def expected_seconds(chain: Chain) -> dict[str, float]:
    """What the stages of this process are expected to take, and the rest of the other's."""
    return {name: e.minutes * 60.0 for name, e, _ in chain if name != CONTROL} | {"control, evaluation": REST_SECONDS}


def repair(folder: Path, chain: Chain = CHAIN, plan: EvaluationPlan = nano.evaluation) -> Path:
    """Run what is not done yet; the path of the report. Raises ValueError when the folder is something else."""
    torch.set_num_threads(THREADS)
    overall = RunRecord.open(
        folder, {"chain": {name: laid_out(experiment) for name, experiment, _ in chain}, "evaluation": plan}
    )
    if not overall.finished:
        with overall.running(), PeakMemory(folder / "memory.json"):
            run_chain(folder, chain, plan)
            write_json(folder / "summary.json", summary(folder, chain, plan, overall.seconds))
            write_notes(folder)
    print(*table_rows(json.loads((folder / "summary.json").read_text())), sep="\n")
    return write_report(folder)


def run_chain(folder: Path, chain: Chain, plan: EvaluationPlan) -> None:
    """Every stage in order, while the other process evaluates and trains the control."""
    bar = Progress(expected_seconds(chain))
    with SideProcess(partial(side_work, chain, plan), folder) as side:
        for name, experiment, parent in chain:
            if name != CONTROL:
                train_stage(replace(experiment, name=name), folder / name, folder / parent if parent else None, bar)
                side.check()
        left = [name for name, _, _ in chain if name != "decoder" and not is_judged(folder / name, plan)]
        with bar.stage("control, evaluation", len(left)):
            while left:
                done = side.wait(1.0)
                judged = [name for name in left if is_judged(folder / name, plan)]
                bar.advance(len(judged), {})
                left = [name for name in left if name not in judged]
                if done and left:
                    raise RuntimeError(f"{left} were not evaluated, and nothing says why; start again to go on")


def side_work(chain: Chain, plan: EvaluationPlan, folder: Path) -> None:
    """Evaluate every stage when it is finished; the control is trained here first, as soon as its parent is there."""
    torch.set_num_threads(THREADS)
    with open(os.devnull, "w") as nowhere, ScorerPool(Ocr(), 1) as reward, ScorerPool(OcrGold(), 1) as scorer:
        silent = Progress({}, nowhere)
        for name, experiment, parent in sorted(chain, key=lambda stage: side_order(stage[0], chain)):
            if name == CONTROL:
                wait_for(folder / parent)
                run(replace(experiment, name=name), folder / name, folder / parent, reward, silent)
            elif name != "decoder":
                wait_for(folder / name)
            if name != "decoder" and not is_judged(folder / name, plan):
                model = load_model(folder / name / "model", best_device())
                evaluate(model, plan, folder / name / "evaluation", reward, scorer, silent)


def side_order(name: str, chain: Chain) -> float:
    """The control comes right after the stage that it starts from."""
    names = [stage for stage, _, _ in chain]
    parents = {stage: parent for stage, _, parent in chain}
    return names.index(parents[name]) + 0.5 if name == CONTROL else float(names.index(name))


def summary(folder: Path, chain: Chain, plan: EvaluationPlan, seconds: float) -> dict[str, object]:
    """The content of summary.json: unguided numbers at the top of every entry, guided ones under "guided"."""
    names = [name for name, _, _ in chain if name != "decoder"]
    results = {
        (name, sampler): json.loads((folder / name / "evaluation" / f"{sampler}.json").read_text())
        for name in names
        for sampler, _ in plan.samplers
    }
    took = {name: RunRecord.read(folder / name).seconds for name, _, _ in chain}
    stages = {
        name: {
            **summarise(results[name, "unguided"], took[name]),
            "guided": summarise(results[name, "guided"], took[name]),
        }
        for name in names
    }
    paired = {
        f"{a}_vs_{b}": {
            **compare(results[b, "unguided"], results[a, "unguided"]),
            "exact": compare(results[b, "unguided"], results[a, "unguided"], "exact"),
            "judge": compare(results[b, "unguided"], results[a, "unguided"], "judge_ned"),
            "guided": compare(results[b, "guided"], results[a, "guided"]),
        }
        for a, b in PAIRED
    }
    return {
        "stages": stages,
        "paired": paired,
        "decoder_seconds": took["decoder"],
        "total_seconds": seconds,
        "peak_memory_mb": json.loads((folder / "memory.json").read_text())["peak_mb"],
    }


def table_rows(result: dict) -> Iterator[str]:
    """The stage table as lines of text."""
    yield f"{'stage':10}{'exact':>8}{'95 %':>15}{'1-NED':>8}{'95 %':>15}{'gold':>8}{'guided':>9}{'seconds':>9}"
    for name, row in result["stages"].items():
        (a, b), (c, d) = row["exact_ci"], row["ned_score_ci"]
        yield (
            f"{name:10}{row['exact']:8.3f}{f'{a:.3f}-{b:.3f}':>15}{row['ned_score']:8.3f}{f'{c:.3f}-{d:.3f}':>15}"
            f"{row['judge_ned_score']:8.3f}{row['guided']['ned_score']:9.3f}{row['seconds']:9.0f}"
        )
    for name, row in result["paired"].items():
        low, high = row["ci"]
        yield f"{name.replace('_vs_', ' - '):20} 1-NED {row['delta']:+.3f} ({low:+.3f} to {high:+.3f})"
    yield f"{result['total_seconds']:.0f} s in all, {result['peak_memory_mb']:.0f} MB at most"
