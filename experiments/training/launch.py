"""Starting and going on with runs by name or by folder."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch

from alignment.dpo import Dpo
from alignment.groups import Groups
from base_model.devices import best_device
from base_model.files.delta import is_derived
from base_model.files.weights import holds_model, load_model
from experiments.configs import CONFIGS, nano
from experiments.evaluation.evaluate import evaluate
from experiments.evaluation.outcome import outcome_lines
from experiments.evaluation.sample_run import model_folder
from experiments.experiment import EvaluationPlan, Experiment, laid_out
from experiments.preferences.load_answers import has_answers
from experiments.progress import Progress
from experiments.quickstart.quickstart import THREADS, is_judged, quickstart
from experiments.record.record import RunRecord
from experiments.record.recorded_settings import rebuild
from experiments.report.report import REPORT, write_report
from experiments.training.ranks import rank_of
from experiments.training.runner import run
from preference_data.spelling import unknown
from rewards.parse import named_reward
from rewards.serving.workers import ScorerPool
from rewards.text.ocr import Ocr, OcrJudge

RESTARTS = 2
"""Workers that are replaced when they die or hang, in all; what they were judging is judged again."""


def find(name: str) -> Experiment:
    """The experiment of that name. Raises ValueError listing the names there are."""
    if name not in CONFIGS:
        raise ValueError(unknown("experiment", name, CONFIGS))
    return CONFIGS[name]


def train(experiment: Experiment, folder: Path, parent: Path | None) -> Path:
    """Run an experiment in `folder` until it is finished; the path of its report."""
    torch.set_num_threads(THREADS)
    with ExitStack() as stack:
        pool = None
        given = isinstance(experiment.algorithm, Dpo) and has_answers(folder)
        if isinstance(experiment.algorithm, Dpo | Groups) and not given:
            pool = stack.enter_context(
                ScorerPool(
                    named_reward(experiment.reward),
                    workers=2,
                    restarts=RESTARTS,
                    answer_timeout=60.0 * experiment.judge_minutes,
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
    if rank_of(rebuild(config["experiment"])):
        return []
    notes = reasons_not_to_judge(folder) if judged else []
    if judged and not notes and not is_judged(folder, nano.evaluation):
        evaluate_run(folder)
    write_report(folder)
    return [*outcome_lines(folder), *notes]


def reasons_not_to_judge(folder: Path) -> list[str]:
    """Why `train` does not draw held-out words with a run's model by itself, and what does; [] where it does."""
    model = folder / "model"
    if not holds_model(model):
        return [f"an autoencoder draws no words; for PSNR and SSIM: glyphlab evaluate-vae {folder}"]
    if is_derived(model):
        return [f"not evaluated, which takes long at this size; to do it: glyphlab evaluate {folder}"]
    return []


def resume(folder: Path, changes: Sequence[str] = ()) -> Path:
    """Go on with whatever run is in `folder`, with the settings it was started with; the path of its report.

    `changes` are settings that hold from here on, as SETTING=VALUE. Raises ValueError for one that cannot change.
    """
    config = RunRecord.read(folder).config
    if changes and "experiment" not in config:
        raise ValueError(
            f"{folder} is a run of several stages, whose settings stay; change those of one stage's folder"
        )
    if "chain" in config:
        return quickstart(folder)
    if "variants" in config:
        from experiments.studies.sweep import resume_sweep

        return resume_sweep(folder)
    parent = config["parent"]
    experiment = changed(rebuild(config["experiment"]), changes)
    return train(experiment, folder, folder / parent if parent else None)


def changed(experiment: Experiment, changes: Sequence[str]) -> Experiment:
    """The experiment with settings given as SETTING=VALUE; a schedule as long as the run stays so."""
    from experiments.overrides import override

    if odd := [text for text in changes if "=" not in text]:
        raise ValueError(f"--set {odd[0]!r} has no value; write SETTING=VALUE, such as optim.adamw_lr=1e-5")
    optim = experiment.optim
    if laid_out(replace(experiment, optim=replace(optim, steps=0))).optim == optim:
        experiment = replace(experiment, optim=replace(optim, steps=0))
    return override(experiment, dict(text.split("=", 1) for text in changes))


def evaluate_run(folder: Path, plan: EvaluationPlan = nano.evaluation) -> list[Path]:
    """Judge the model of a run on the held-out prompts; the files written. Finished evaluations are kept."""
    torch.set_num_threads(THREADS)
    place = model_folder(folder)
    target = place.parent / "evaluation"
    bar = Progress({"evaluation": 30.0})
    with (
        ScorerPool(Ocr(), workers=2) as reward,
        ScorerPool(OcrJudge(), workers=1) as judge,
        bar.stage("evaluation", len(plan.samplers)),
    ):
        evaluate(load_model(place, best_device()), plan, target, reward, judge, bar)
    return [target / f"{name}.json" for name, _ in plan.samplers]
