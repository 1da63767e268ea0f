"""From the command, as it is typed, to the loss of Flow-GRPO: few files and few calls of ours."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alignment import grpo
from experiments import cli
from experiments.training import launch
from experiments.training.runner import run
from tests.experiments.training.test_algorithm_runs import Pool
from tests.experiments.training.test_runner import tiny_pretrain

ROOT = Path(__file__).parents[2]
FLOORS = ("experiments", "alignment", "rewards", "base_model", "preference_data")


class Reached(Exception):
    """The loss was reached."""


def test_from_the_command_to_the_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tiny_pretrain(steps=1), tmp_path / "parent")
    calls: list[tuple[str, str]] = []

    def reached(*_: Any) -> None:
        frames = [f for f in traceback.extract_stack() if Path(f.filename).is_relative_to(ROOT)]
        ours = [f for f in frames if Path(f.filename).relative_to(ROOT).parts[0] in FLOORS and f.name != "<listcomp>"]
        calls.extend((str(Path(f.filename).relative_to(ROOT)), f.name) for f in ours)
        raise Reached

    @contextlib.contextmanager
    def pool(*_: Any, **__: Any) -> Iterator[Pool]:
        yield Pool()

    monkeypatch.setattr(launch, "ScorerPool", pool)
    monkeypatch.setattr(grpo, "policy_now", reached)
    few = ["--algorithm.prompts", "1", "--algorithm.group", "2", "--algorithm.micro", "2", "--prompts.count", "2"]
    with pytest.raises(Reached):
        cli.main(["train", "nano_grpo", "--parent", str(tmp_path / "parent"), "-o", str(tmp_path / "run"), *few])
    assert calls == [
        ("experiments/cli.py", "main"),
        ("experiments/cli.py", "train"),
        ("experiments/training/launch.py", "train"),
        ("experiments/training/runner.py", "run"),
        ("alignment/grpo.py", "train"),
        ("base_model/engine/engine.py", "update"),
        ("alignment/grpo.py", "loss"),
    ]
