"""Starting and going on with runs by name or by folder."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from alignment.dpo import Dpo
from alignment.groups import Groups
from base_model.weights import load_model
from experiments.answers import has_answers
from experiments.configs import CONFIGS, nano
from experiments.evaluate import evaluate
from experiments.experiment import EvaluationPlan, Experiment
from experiments.progress import Progress
from experiments.quickstart import THREADS, quickstart
from experiments.ranks import rank_of
from experiments.record import RunRecord
from experiments.report import REPORT, write_report
from experiments.runner import run
from experiments.sampling import model_folder
from rewards.named import named_reward
from rewards.ocr import Ocr, OcrJudge
from rewards.workers import ScorerPool

RESTARTS = 2
"""Workers that are replaced when they die or hang, in all; what they were judging is judged again."""
FUNCTIONS = ("alignment.tied_dpo.", "base_model.flow.", "base_model.positions.", "base_model.sight.")
"""Where settings that are functions live."""


def find(name: str) -> Experiment:
    """The experiment of that name. Raises ValueError listing the names there are."""
    if name not in CONFIGS:
        raise ValueError(f"there is no experiment {name!r}; there are {', '.join(CONFIGS)}")
    return CONFIGS[name]


def train(experiment: Experiment, folder: Path, parent: Path | None) -> Path:
    """Run an experiment in `folder` until it is finished; the path of its report."""
    torch.set_num_threads(THREADS)
    with ExitStack() as stack:
        pool = None
        given = isinstance(experiment.algorithm, Dpo) and has_answers(folder)
        if isinstance(experiment.algorithm, Dpo | Groups) and not given:
            pool = stack.enter_context(ScorerPool(named_reward(experiment.reward), workers=2, restarts=RESTARTS))
        run(experiment, folder, parent, pool)
    return folder / REPORT if rank_of(experiment) else write_report(folder)


def resume(folder: Path) -> Path:
    """Go on with whatever run is in `folder`, with the settings it was started with; the path of its report."""
    config = RunRecord.read(folder).config
    if "chain" in config:
        return quickstart(folder)
    if "variants" in config:
        from experiments.sweep import resume_sweep

        return resume_sweep(folder)
    parent = config["parent"]
    return train(rebuild(config["experiment"]), folder, folder / parent if parent else None)


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
        evaluate(load_model(place), plan, target, reward, judge, bar)
    return [target / f"{name}.json" for name, _ in plan.samplers]


def rebuild(settings: Any) -> Any:
    """Settings as run.json has them, back to the dataclasses and functions that they were.

    Raises ValueError when a class or a field no longer exists.
    """
    if isinstance(settings, list):
        return tuple(rebuild(item) for item in settings)
    if isinstance(settings, str) and settings.startswith(FUNCTIONS):
        return named(settings)
    if not isinstance(settings, Mapping):
        return settings
    fields = {name: rebuild(value) for name, value in settings.items() if name != "class"}
    if "class" not in settings:
        return fields
    try:
        return named(settings["class"])(**fields)
    except TypeError as error:
        raise ValueError(f"the run was made with another version of {settings['class']}: {error}") from error


def named(path: str) -> Any:
    """The object of a dotted path. Raises ValueError when it is gone, or not ours."""
    module, _, name = path.rpartition(".")
    if module.split(".")[0] not in {"base_model", "alignment", "experiments"}:
        raise ValueError(f"run.json names {path!r}, which is no part of this project")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"the run was made with a version that had {path}, which is gone") from error
