"""Runs one experiment by its name, and evaluates what came out of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch

from base_model.devices import best_device
from base_model.files.delta import is_derived
from base_model.files.weights import holds_model, load_model
from experiments.configs import CONFIGS, nano
from experiments.evaluation.evaluate import evaluate, is_judged
from experiments.evaluation.evaluate_file import Request, evaluate_file
from experiments.evaluation.outcome import JUDGED, outcome_lines, own_evaluation
from experiments.evaluation.prompt_files import RequestedPrompt, read_prompt_file
from experiments.evaluation.prompt_page import PAGE
from experiments.evaluation.sample_run import model_folder
from experiments.experiment import THREADS, EvaluationPlan, Experiment
from experiments.preferences.load_answers import has_answers
from experiments.progress import Progress
from experiments.record.record import RunRecord
from experiments.record.recorded_settings import rebuild
from experiments.report.report import REPORT, write_report
from experiments.training.heldout_images import compare_heldout
from experiments.training.heldout_reconstructions import compare_reconstructions
from experiments.training.own_prompts import scene_levels
from experiments.training.ranks import rank_of, ranks_of
from experiments.training.runner import run
from experiments.training.start_from import learns_autoencoder, require_startable
from preference_data.spelling import unknown
from rewards.parse import named_reward
from rewards.serving.workers import ScorerPool
from rewards.text.ocr import Ocr, OcrGold

RESTARTS = 2
"""Workers that are replaced when they die or hang, in all; what they were judging is judged again."""


def find(name: str) -> Experiment:
    """The experiment of that name. Raises ValueError listing the names there are."""
    if name not in CONFIGS:
        raise ValueError(unknown("experiment", name, CONFIGS, "glyphlab list experiments"))
    return CONFIGS[name]


def train(experiment: Experiment, folder: Path, parent: Path | None) -> Path:
    """Run an experiment in `folder` until it is finished; the path of its report."""
    torch.set_num_threads(THREADS)
    if experiment.algorithm.learns_from == "pairs" and experiment.pairs is None and not has_answers(folder):
        raise ValueError(
            f"{experiment.name} makes no pairs of its own: bring yours with --pairs PREFERRED REJECTED (two folders), "
            "--pairs FILE or --pairs store:CAMPAIGN"
        )
    require_startable(experiment, parent, ranks_of(experiment))
    with ExitStack() as stack:
        pool = None
        source = experiment.algorithm.learns_from
        if source == "rollouts" or (source == "pairs" and not has_answers(folder)):
            pool = stack.enter_context(
                ScorerPool(
                    named_reward(experiment.reward),
                    workers=2,
                    restarts=RESTARTS,
                    answer_timeout=60.0 * experiment.scorer_minutes,
                )
            )
        run(experiment, folder, parent, pool)
    return folder / REPORT if rank_of(experiment) else write_report(folder)


def conclude(folder: Path, report: Path, judged: bool = True) -> list[str]:
    """What came out of the run in `folder`, as lines; judged on held-out words first where it is to be and can be.

    Of several ranks, the first one does it. A run of several stages was judged by itself: then only its `report`.
    """
    config = RunRecord.read(folder).config
    if "experiment" not in config:
        return [f"report: {report}"]
    notes: list[str] = []
    experiment = rebuild(config["experiment"])
    if rank_of(experiment):
        return []
    if judged and learns_autoencoder(experiment) and getattr(experiment.data, "heldout", 0.0):
        notes = compare_own_images(folder, experiment, config["parent"])
    elif judged and (folder / JUDGED).exists():
        notes = [
            *compare_own_images(folder, experiment, config["parent"]),
            *evaluate_own(folder, experiment, config["parent"]),
        ]
    elif judged and not (notes := reasons_not_to_evaluate(folder)) and not is_judged(folder, nano.evaluation):
        print(f"{folder} is finished; it is evaluated now (--no-evaluate leaves this out)", file=sys.stderr)
        evaluate_run(folder)
    write_report(folder)
    return [*outcome_lines(folder), *notes]


def compare_own_images(folder: Path, experiment: Experiment, parent: str) -> list[str]:
    """Compare a finished run with what it began from on its held-out images, where it has such; why not, if not."""
    torch.set_num_threads(THREADS)
    compare = compare_reconstructions if learns_autoencoder(experiment) else compare_heldout
    try:
        compare(folder, experiment, parent)
    except (ValueError, FileNotFoundError) as error:  # no reason to call the training a failure
        return [f"not compared on held-out images: {error}"]
    return []


def evaluate_own(folder: Path, experiment: Experiment, parent: str) -> list[str]:
    """Evaluate a finished run on the prompts of its own that it kept, beside what it began from; why not, if not.

    An evaluation that is there is kept.
    """
    if (own_evaluation(folder) / PAGE).exists():
        return []
    prompts = read_prompt_file(folder / JUDGED)
    before = experiment.base or (str(folder / parent) if parent else "")
    print(f"evaluating on {len(prompts)} prompts of its own; --no-evaluate leaves it out", file=sys.stderr)
    torch.set_num_threads(THREADS)
    try:
        request, rewards = Request(folder / JUDGED), rewards_for(experiment, prompts)
        for _ in evaluate_file(str(folder), request, rewards, own_evaluation(folder), against=before):
            pass
    except ValueError as error:  # no reason to call the training a failure
        return [f"not evaluated on prompts of its own: {error}"]
    return []


def rewards_for(experiment: Experiment, prompts: Sequence[RequestedPrompt]) -> str:
    """What a run is evaluated by: the reward that it was trained on, where it was, and what reads pages, where the
    prompts ask for text; "" where nothing fits."""
    trained = [experiment.reward] if experiment.algorithm.learns_from != "images" else []
    chosen = [*trained, *(["ocr_page"] if "ocr_page" not in trained else [])]
    has_texts = any(each.prompt.spans for each in prompts)
    return ",".join(name for name in chosen if has_texts or "spans" not in named_reward(name).needs)


def reasons_not_to_evaluate(folder: Path) -> list[str]:
    """Why `train` does not sample held-out words from a run's model by itself, and what does; [] where it does."""
    model = folder / "model"
    if not holds_model(model):
        return [f"an autoencoder samples no words; for PSNR and SSIM: glyphlab evaluate-vae {folder}"]
    if "ImageSources" in str((RunRecord.read(folder).config["experiment"].get("data") or {}).get("class")):
        return [
            f"not evaluated on held-out words: it learned from your own images; to do it: glyphlab evaluate {folder}"
        ]
    if is_derived(model):
        return [f"not evaluated, which takes long at this size; to do it: glyphlab evaluate {folder}"]
    return []


def evaluate_run(folder: Path, plan: EvaluationPlan = nano.evaluation, target: Path | None = None) -> list[Path]:
    """Evaluate the model of a run on held-out prompts of its languages; the files written, in `target` or else in the
    run's own folder. What is finished is kept."""
    torch.set_num_threads(THREADS)
    path = model_folder(folder)
    config = RunRecord.read(path.parent).config if (path.parent / "run.json").exists() else {}
    if "experiment" in config:
        plan = replace(plan, prompts=replace(plan.prompts, levels=scene_levels(rebuild(config["experiment"]))))
    target = target or path.parent / "evaluation"
    bar = Progress({"evaluation": 30.0})
    with (
        ScorerPool(Ocr(), workers=2) as reward,
        ScorerPool(OcrGold(), workers=1) as scorer,
        bar.stage("evaluation", len(plan.samplers)),
    ):
        evaluate(load_model(path, best_device()), plan, target, reward, scorer, bar)
    return [target / f"{name}.json" for name, _ in plan.samplers]
