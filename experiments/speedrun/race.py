"""Runs an attempt at a task: its stages one after the other in this process, under a clock that counts CPU seconds."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from base_model.data.latents import EncodedStream, LatentStream
from base_model.engine.engine import Engine
from base_model.engine.step import Step
from base_model.files.weights import NANO_VAE, load_model, save_model, save_vae
from base_model.policy_model import PolicyModel
from base_model.train_vae import Autoencoder, standardised
from experiments.evaluation.evaluate import evaluate, summarise
from experiments.experiment import LOOPS, THREADS, Experiment, laid_out
from experiments.producers.batch_sources import is_finite
from experiments.progress import Progress
from experiments.record.record import write_json
from experiments.record.whole_files import plain
from experiments.speedrun.tasks import Task
from experiments.training.runner import equip_engine, image_stream
from experiments.training.start_from import open_either
from rewards.serving.workers import ScorerPool
from rewards.text.ocr import Ocr, OcrGold

SCALE_BATCHES = 8
"""of 64 images, on which the latents of a new encoder are measured"""
SEED_STEP = 1_000
"""Between the seeds of two attempts, so that no two of their parts are alike."""


@dataclass(frozen=True)
class Attempt:
    """What one seed reached."""

    task: str
    seed: int
    updates: int
    """of the transformer"""
    cpu_seconds: float
    """of all stages"""
    stage_seconds: dict[str, float]
    exact: float
    exact_ci: tuple[float, float]
    gold_exact: float
    passed: bool


def seeded(experiment: Experiment, seed: int) -> Experiment:
    """The experiment with other weights, images and noise for every seed."""
    by = SEED_STEP * seed
    data = experiment.data
    assert data is not None
    return laid_out(
        replace(
            experiment,
            seed=experiment.seed + by,
            data=replace(data, seed=data.seed + by),  # type: ignore[call-arg]
            algorithm=replace(experiment.algorithm, seed=experiment.algorithm.seed + by),
        )
    )


def run_attempt(
    task: Task, stages: Sequence[Experiment], seed: int, folder: Path, clock: Callable[[], float] = time.process_time
) -> Attempt:
    """Train the stages from random weights in `folder`, and evaluate the last. An attempt that is there is only read.

    Raises ValueError when the one that is there had other settings.
    """
    target, settings = folder / "attempt.json", json.loads(json.dumps([plain(seeded(each, seed)) for each in stages]))
    if target.exists():
        known = json.loads(target.read_text())
        if known.pop("settings") != settings:
            raise ValueError(f"{folder} holds an attempt with other settings; name another folder, or delete it")
        return Attempt(**known | {"exact_ci": tuple(known["exact_ci"])})
    torch.set_num_threads(THREADS)
    seconds: dict[str, float] = {}
    parent: Path | None = None
    for stage in (seeded(experiment, seed) for experiment in stages):
        own = folder / stage.name
        own.mkdir(parents=True, exist_ok=True)
        seconds[stage.name] = train(stage, own, parent, clock)
        parent = own
    assert parent is not None
    result = judged(task, load_model(parent / "model"), folder)
    attempt = Attempt(
        task.name, seed, stages[-1].algorithm.steps, sum(seconds.values()), seconds, result["exact"],
        tuple(result["exact_ci"]), result["judge_exact"],
        result["exact"] >= task.exact and result["judge_exact"] >= task.gold_exact,
    )  # fmt: skip
    write_json(target, asdict(attempt) | {"settings": settings})
    return attempt


def train(stage: Experiment, folder: Path, parent: Path | None, clock: Callable[[], float]) -> float:
    """One stage, whose model with the averaged weights is saved in `folder`/model: the CPU seconds that it took."""
    model = open_either(stage, parent, folder, "cpu")
    engine = equip_engine(stage, model)
    bar = Progress({stage.name: 60.0 * stage.minutes})
    with bar.stage(stage.name, stage.algorithm.steps):
        began = clock()
        for step in loop(stage, model, engine, parent):
            bar.advance(1, step.metrics)
    (folder / "model").mkdir(exist_ok=True)
    with engine.averaged():
        if isinstance(model, PolicyModel):
            took = clock() - began
            save_model(model, folder / "model")
            return took
        if not stage.algorithm.frozen_encoder:
            model = standardised(model, image_stream(stage, model), SCALE_BATCHES)
        took = clock() - began
        save_vae(model, folder / "model" / "vae.safetensors")
    return took


def loop(stage: Experiment, model: PolicyModel | Autoencoder, engine: Engine, parent: Path | None) -> Iterator[Step]:
    """The stage's training loop, whose images are rendered and encoded in this process."""
    if isinstance(model, Autoencoder):
        return LOOPS[type(stage.algorithm)](model, engine, image_stream(stage, model), stage.algorithm, 0)
    vae = parent / "model" / "vae.safetensors" if parent else NANO_VAE
    data = LatentStream(stage.data, vae)
    return LOOPS[type(stage.algorithm)](
        model, engine, EncodedStream(data) if is_finite(data) else data, stage.algorithm, 0
    )


def judged(task: Task, model: PolicyModel, folder: Path) -> dict[str, Any]:
    """Shares of held-out texts that two engines read exactly in what the model samples."""
    with ScorerPool(Ocr(), 1) as reward, ScorerPool(OcrGold(), 1) as gold:
        evaluate(model.sized_for_run(task.size), task.plan, folder / "evaluation", reward, gold, Progress({}))
    return summarise(json.loads((folder / "evaluation" / "unguided.json").read_text()), 0.0)
