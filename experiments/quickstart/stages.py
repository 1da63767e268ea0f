"""What every chain of stages needs: training one, waiting for one, and evaluating one."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from experiments.experiment import Experiment
from experiments.progress import Progress
from experiments.record.record import RunRecord
from experiments.training.runner import run
from rewards.parse import named_reward
from rewards.scores import Reward
from rewards.serving.workers import ScorerPool


def train_stage(
    experiment: Experiment, folder: Path, parent: Path | None, bar: Progress, reward: Reward | None = None,
    workers: int = 2,
) -> None:  # fmt: skip
    """One stage, with scorers of its reward where it needs them; `reward` stands in for what its settings name."""
    if experiment.algorithm.learns_from == "images" or (
        experiment.algorithm.learns_from == "pairs" and experiment.pairs is None
    ):
        run(experiment, folder, parent, None, bar)
        return
    tqdm.write("starting the scorers", file=sys.stderr)
    with ScorerPool(reward or named_reward(experiment.reward), workers=workers) as pool:
        run(experiment, folder, parent, pool, bar)


def is_finished(stage: Path) -> bool:
    """Whether a stage has its model."""
    return (stage / "run.json").exists() and RunRecord.read(stage).finished


def wait_for(stage: Path) -> None:
    """Until the stage is finished."""
    while not is_finished(stage):
        time.sleep(0.2)


def wait_for_files(files: Iterable[Path]) -> None:
    """Until all of them are there."""
    for file in files:
        while not file.exists():
            time.sleep(0.2)
