"""The whole chain on one laptop: autoencoder, pretraining, fine-tuning, DPO, GRPO and a control, all judged alike.

Every stage is an experiment in its own folder; whatever is finished is skipped, whatever was interrupted goes on. The
numbers of a run depend on the configuration alone, not on where it was interrupted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from base_model.weights import load_model
from experiments.configs import nano
from experiments.evaluate import compare, evaluate, summarise
from experiments.experiment import EvaluationPlan, Experiment
from experiments.memory import PeakMemory
from experiments.notes import write_notes
from experiments.progress import Progress
from experiments.record import RunRecord, write_json
from experiments.report import write_report
from experiments.runner import run
from rewards.ocr import Ocr, OcrJudge
from rewards.workers import ScorerPool

Chain = tuple[tuple[str, Experiment, str], ...]

CHAIN: Chain = (
    ("decoder", nano.decoder, ""),
    ("pretrain", nano.pretrain, "decoder"),
    ("sft", nano.sft, "pretrain"),
    ("dpo", nano.dpo, "sft"),
    ("grpo", nano.grpo, "sft"),
    ("control", nano.control, "sft"),
)
"""(stage, experiment, the stage it starts from)"""

PAIRED = (
    ("sft", "pretrain"), ("dpo", "sft"), ("grpo", "sft"), ("control", "sft"), ("grpo", "control"), ("dpo", "control"),
)  # fmt: skip
"""(a, b): the table says how much a is above b"""

EVALUATION_SECONDS = 25.0
"""Expected for one stage; only for the remaining-time estimate."""

THREADS = 1
"""Of the trainer. The other core draws pictures and reads them; sums depend on this number, so it is fixed."""


def expected_seconds(chain: Chain) -> dict[str, float]:
    """What every stage and its evaluation are expected to take."""
    plan: dict[str, float] = {}
    for name, experiment, _ in chain:
        plan[name] = experiment.minutes * 60.0
        if name != "decoder":
            plan[f"{name} evaluation"] = EVALUATION_SECONDS
    return plan


def quickstart(folder: Path, chain: Chain = CHAIN, plan: EvaluationPlan = nano.evaluation) -> Path:
    """Run what is not done yet; the path of the report. Raises ValueError when the folder is something else."""
    torch.set_num_threads(THREADS)
    overall = RunRecord.open(folder, {"chain": {name: experiment for name, experiment, _ in chain}, "evaluation": plan})
    if not overall.finished:
        with overall.running(), PeakMemory(folder / "memory.json"):
            run_chain(folder, chain, plan)
            write_json(folder / "summary.json", summary(folder, chain, plan, overall.seconds))
            write_notes(folder)
    print_table(json.loads((folder / "summary.json").read_text()))
    return write_report(folder)


def run_chain(folder: Path, chain: Chain, plan: EvaluationPlan) -> None:
    """Every stage and its evaluation, in order."""
    bar = Progress(expected_seconds(chain))
    with ExitStack() as stack:
        tqdm.write("starting the OCR engines", file=sys.stderr)
        reward = stack.enter_context(ScorerPool(Ocr(), workers=2))
        judge = stack.enter_context(ScorerPool(OcrJudge(), workers=1))
        for name, experiment, parent in chain:
            run(replace(experiment, name=name), folder / name, folder / parent if parent else None, reward, bar)
            if name != "decoder":
                evaluate_stage(folder, name, plan, reward, judge, bar)


def evaluate_stage(
    folder: Path, name: str, plan: EvaluationPlan, reward: ScorerPool, judge: ScorerPool, bar: Progress
) -> None:
    """Judge a finished stage on the held-out prompts, unless it is done."""
    place = folder / name / "evaluation"
    if all((place / f"{sampler}.json").exists() for sampler, _ in plan.samplers):
        bar.skip(f"{name} evaluation")
        return
    with bar.stage(f"{name} evaluation", len(plan.samplers)):
        evaluate(load_model(folder / name / "model"), plan, place, reward, judge, bar)


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
    yield f"{'stage':10}{'exact':>8}{'95 %':>15}{'1-NED':>8}{'95 %':>15}{'judge':>8}{'guided':>9}{'seconds':>9}"
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


def print_table(result: dict) -> None:
    """To standard output."""
    for line in table_rows(result):
        print(line)
