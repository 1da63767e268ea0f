"""Rollouts without a signal make no update; what a run has done is counted in rollouts all the same."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from base_model.engine.mixed_precision import Memory
from experiments.experiment import Experiment
from experiments.progress import Progress
from experiments.record.record import read_run
from experiments.training import runner
from preference_data.records import Prompt
from rewards.scores import Scores
from rewards.serving.metering import Meter
from tests.experiments.training.test_faults import tiny_grpo
from tests.experiments.training.test_runner import tiny_pretrain

STEPS, GROUPS, SILENT = 4, 2, (1, 3)


class Judge:
    """Scores that differ by place; all alike in the updates `SILENT`."""

    name = "places"

    def __init__(self) -> None:
        self.meter, self.judged = Meter(), 0

    def submit(self, prompts: Sequence[Prompt], images_B3HW: np.ndarray) -> Future[Scores]:
        size = GROUPS * 4
        places = np.arange(self.judged, self.judged + len(prompts))
        self.judged += len(prompts)
        done: Future[Scores] = Future()
        values = np.where(np.isin(places // size, SILENT), 0.5, places % 4 / 4.0)
        done.set_result(Scores(values.astype(np.float64), {}))
        return done


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("silent") / "pretrain"
    runner.run(tiny_pretrain(steps=1), folder)
    return folder


def rounded() -> Experiment:
    """A run whose finished model is made from its last checkpoint."""
    return replace(tiny_grpo(STEPS), memory=Memory(bf16=True))


def go(folder: Path, parent: Path, judge: Judge) -> None:
    runner.run(rounded(), folder, parent, judge, Progress({rounded().name: 60.0}, io.StringIO()))  # type: ignore[arg-type]


def test_a_finished_run_with_silent_updates_is_finished(parent: Path, tmp_path: Path) -> None:
    folder, judge = tmp_path / "run", Judge()
    go(folder, parent, judge)
    last = folder / "checkpoints" / f"update_{STEPS:06d}"
    assert json.loads((last / "engine.json").read_text())["updates"] == STEPS - len(SILENT)
    assert judge.judged == STEPS * GROUPS * 4 and len(read_run(folder).metrics) == STEPS
    before = load_file(folder / "model" / "transformer.safetensors")
    go(folder, parent, judge)
    after = load_file(folder / "model" / "transformer.safetensors")
    assert judge.judged == STEPS * GROUPS * 4, "nothing is drawn again"
    assert all(torch.equal(x, after[name]) for name, x in before.items())


def test_a_run_that_died_while_it_was_finished_draws_nothing_again(
    parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, judge = tmp_path / "run", Judge()

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(runner, "save", dies)
        go(folder, parent, judge)
    assert read_run(folder).status != "finished" and judge.judged == STEPS * GROUPS * 4
    go(folder, parent, judge)
    found = read_run(folder)
    assert found.status == "finished" and [line["step"] for line in found.metrics] == [*range(STEPS)]
    assert judge.judged == STEPS * GROUPS * 4
