"""What goes wrong in the middle of a run ends in a clear message or goes on; nothing is learned from wrong numbers, and
no finished step is lost: afterwards the run goes on and ends where it would have ended."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from base_model.files.checkpoint import latest
from base_model.files.weights import load_model
from base_model.sample import Sampler
from experiments import cli
from experiments.configs import nano
from experiments.experiment import Experiment
from experiments.record.record import read_metrics, read_run
from experiments.training.runner import run
from preference_data.records import Prompt
from rewards.scores import Scores, checked
from rewards.serving.workers import ScorerPool, ScoringError
from rewards.weighted import MixtureScorer
from tests.experiments.training.test_runner import tiny_pretrain
from tests.fixtures.faulty_reward import BRIGHT, Faulty
from tests.fixtures.tiny.tiny_chain import short

LIMIT = {True: 5.0, False: 300.0}
"""Seconds for the scores of a few images: few where one hangs for good, and many on a loaded machine otherwise."""


def tiny_grpo(steps: int = 4) -> Experiment:
    """Two groups of four an update, a checkpoint after every update."""
    assert nano.grpo.prompts is not None
    small = replace(nano.grpo.algorithm, prompts=2, group=4, micro=8, sampler=Sampler(steps=6))
    few = replace(nano.grpo, algorithm=small, prompts=replace(nano.grpo.prompts, count=20))
    return replace(short(few, steps), save_every=1)


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults") / "pretrain"
    run(tiny_pretrain(steps=2), folder)
    return folder


@pytest.fixture(scope="module")
def healthy(parent: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("healthy") / "grpo"
    with ScorerPool(Faulty(), workers=1) as pool:
        run(tiny_grpo(), folder, parent, pool)
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_model(folder / "model").network.state_dict()


def differences(a: Path, b: Path) -> list[str]:
    """List what two runs differ in: tensors by name and greatest distance, rewards by update."""
    x, y = weights(a), weights(b)
    found = [f"{name}: {(x[name] - y[name]).abs().max():.3g}" for name in x if not torch.equal(x[name], y[name])]
    rewards = [[line["reward"] for line in read_metrics(folder)] for folder in (a, b)]
    return found if rewards[0] == rewards[1] else [f"rewards {rewards[0]} and {rewards[1]}", *found]


# --- rewards ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("raises", r"scorer worker 1 of 1 .* could not judge[\s\S]*too bright"),
        ("hangs", r"scorer worker 1 of 1 .* did not answer about 4 images within 5 s"),
        ("dies", r"scorer worker 1 of 1 .* died \(signal SIGKILL\)"),
        ("short", r"the reward faulty gave 3 scores for 4 images"),
        ("infinite", r"the reward faulty gave an infinite score"),
    ],
)
def test_a_faulty_reward_ends_the_run_and_costs_no_finished_step(
    fault: str, message: str, parent: Path, healthy: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "grpo"
    with (
        ScorerPool(Faulty(fault), workers=1, answer_timeout=LIMIT[fault == "hangs"]) as pool,
        pytest.raises(ScoringError, match=message),
    ):
        run(tiny_grpo(), folder, parent, pool)
    stopped = read_run(folder)
    assert stopped.status == "failed" and stopped.error is not None and "ScoringError" in stopped.error
    assert [line["step"] for line in stopped.metrics] == [0], "two groups an update: the fourth is in the second"
    newest = latest(folder / "checkpoints")
    assert newest is not None and newest.name == "update_000001"
    with ScorerPool(Faulty(), workers=1) as pool:
        run(tiny_grpo(), folder, parent, pool)
    assert differences(folder, healthy) == []


@pytest.mark.parametrize("fault", [pytest.param("hangs", marks=pytest.mark.slow), "dies"])
def test_with_restarts_the_run_goes_on_as_if_nothing_had_happened(
    fault: str, parent: Path, healthy: Path, tmp_path: Path
) -> None:
    faulty = Faulty(fault, once=str(tmp_path / "done"))
    with ScorerPool(faulty, workers=1, answer_timeout=LIMIT[fault == "hangs"], restarts=1) as pool:
        run(tiny_grpo(), tmp_path / "grpo", parent, pool)
        assert pool.restarted == 1
    assert differences(tmp_path / "grpo", healthy) == []


def test_a_reward_that_gives_nan_teaches_nothing_and_is_counted(parent: Path, healthy: Path, tmp_path: Path) -> None:
    with ScorerPool(Faulty("nan"), workers=1) as pool:
        run(tiny_grpo(), tmp_path / "grpo", parent, pool)
    lines, sound = read_metrics(tmp_path / "grpo"), read_metrics(healthy)
    assert [line["unjudged"] for line in lines] == [0.0, 0.5, 0.0, 0.0]
    assert lines[0]["reward"] == sound[0]["reward"] and lines[1]["reward"] != sound[1]["reward"]
    assert all(line["reward"] is not None and 0.0 < line["reward"] < 1.0 for line in lines)
    assert lines[1]["groups_without_spread"] >= 0.5


def test_a_part_of_a_mixture_with_the_wrong_count_is_named() -> None:
    """One score for many images would fill them all."""

    class OnlyOne:
        name = "only one"

        def __call__(self, prompts: Sequence[Prompt], images_B3HW: np.ndarray) -> Scores:
            return Scores(np.ones(1), {})

    scorer = MixtureScorer("one", [("one", OnlyOne())], lambda value_B, _, own_B: value_B + own_B, 0.0, BRIGHT)
    with pytest.raises(ValueError, match="the reward one gave 1 scores for 3 images"):
        scorer([Prompt.from_text("a")] * 3, np.zeros((3, 3, 4, 4), np.float32))
    assert checked(Scores(np.array([np.nan]), {}), 1, "x").value_B.shape == (1,)


def test_the_time_limit_is_for_a_chunk_and_must_be_positive() -> None:
    with pytest.raises(ValueError, match="answer_timeout is 0"):
        ScorerPool(Faulty(), workers=1, answer_timeout=0)


# --- checkpoints --------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk() -> Iterator[Callable[[int], None]]:
    """No file may grow beyond some bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("room", [100_000, pytest.param(12_000_000, marks=pytest.mark.slow)])
def test_a_full_disk_at_a_checkpoint(
    room: int, parent: Path, healthy: Path, tmp_path: Path, small_disk: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Once in the weights, once in the optimizer's state, which is larger."""
    from experiments.training import runner

    folder, saved = tmp_path / "grpo", [0]
    atomically = runner.save_atomically

    def fill(place: Path, write: Callable[[Path], None], rank: int = 0) -> None:
        saved[0] += 1
        small_disk(room if saved[0] == 3 else resource.RLIM_INFINITY)
        atomically(place, write, rank)

    monkeypatch.setattr(runner, "save_atomically", fill)
    with ScorerPool(Faulty(), workers=1) as pool:
        with pytest.raises(OSError, match=r"update_000003 could not be written .*; .* update_000002, is whole"):
            run(tiny_grpo(), folder, parent, pool)
        small_disk(resource.RLIM_INFINITY)
        assert read_run(folder).status in ("failed", "interrupted") and len(read_metrics(folder)) == 3
        assert [p.name for p in sorted((folder / "checkpoints").iterdir())] == ["update_000001", "update_000002"]
        run(tiny_grpo(), folder, parent, pool)
    assert differences(folder, healthy) == []


def test_a_full_disk_at_a_line_of_metrics(
    parent: Path, healthy: Path, tmp_path: Path, small_disk: Callable[[int], None]
) -> None:
    from experiments.record.record import RunRecord

    folder, log = tmp_path / "grpo", RunRecord.log

    def full(self: RunRecord, step: int, metrics: dict[str, float]) -> None:
        if step == 2:
            small_disk((self.folder / "metrics.jsonl").stat().st_size + 7)
        log(self, step, metrics)

    with ScorerPool(Faulty(), workers=1) as pool:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(OSError, match="File too large"):
            patch.setattr(RunRecord, "log", full)
            run(tiny_grpo(), folder, parent, pool)
        assert [line["step"] for line in read_metrics(folder)] == [0, 1], "half a line is no line"
        small_disk(resource.RLIM_INFINITY)
        run(tiny_grpo(), folder, parent, pool)
    assert differences(folder, healthy) == []


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(parent: Path, healthy: Path, tmp_path: Path) -> None:
    folder = tmp_path / "grpo"
    with ScorerPool(Faulty("raises", at=8), workers=1) as pool, pytest.raises(ScoringError):
        run(tiny_grpo(), folder, parent, pool)
    module = folder / "checkpoints" / "update_000003" / "module.safetensors"
    content = bytearray(module.read_bytes())
    content[-1] ^= 1
    module.write_bytes(bytes(content))
    with (
        ScorerPool(Faulty(), workers=1) as pool,
        pytest.warns(UserWarning, match="update_000003: the content"),
    ):
        run(tiny_grpo(), folder, parent, pool)
    assert differences(folder, healthy) == []


def test_when_every_checkpoint_is_damaged_it_starts_again(parent: Path, healthy: Path, tmp_path: Path) -> None:
    folder = tmp_path / "grpo"
    with ScorerPool(Faulty("raises", at=4), workers=1) as pool, pytest.raises(ScoringError):
        run(tiny_grpo(), folder, parent, pool)
    (folder / "checkpoints" / "update_000001" / "optimizer.pt").unlink()
    with ScorerPool(Faulty(), workers=1) as pool, pytest.warns(UserWarning, match=r"optimizer\.pt is missing"):
        run(tiny_grpo(), folder, parent, pool)
    assert differences(folder, healthy) == []


# --- the process itself -------------------------------------------------------------------------------------------

KILLED = """
import sys
from pathlib import Path
from rewards.serving.workers import ScorerPool
from tests.fixtures.faulty_reward import Faulty
from tests.experiments.training.test_faults import die_at, run, tiny_grpo
if __name__ == "__main__":
    die_at(2)
    with ScorerPool(Faulty(), workers=1) as pool:
        run(tiny_grpo(), Path(sys.argv[1]), Path(sys.argv[2]), pool)
"""


def die_at(update: int) -> None:
    """Kill this process in the middle of that optimizer step: weights half moved, nothing logged."""
    from base_model.engine.engine import LocalEngine

    finish = LocalEngine._finish

    def dying(self: LocalEngine, means: dict[str, torch.Tensor]) -> dict[str, float]:
        if self.updates == update:
            next(iter(self.module.parameters())).data.zero_()
            os.kill(os.getpid(), signal.SIGKILL)
        return finish(self, means)

    LocalEngine._finish = dying  # type: ignore[method-assign]


def test_killed_in_the_middle_of_a_step(parent: Path, healthy: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "grpo"), str(parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert read_run(tmp_path / "grpo").status == "interrupted" and len(read_metrics(tmp_path / "grpo")) == 2
    with ScorerPool(Faulty(), workers=1) as pool:
        run(tiny_grpo(), tmp_path / "grpo", parent, pool)
    assert differences(tmp_path / "grpo", healthy) == []


@pytest.mark.parametrize(
    ("error", "said", "status"),
    [(ScoringError("worker 1 died"), "worker 1 died", 1),
     (OSError(28, "No space left on device"), "the disk is full; make room and run the command again", 1)],
)  # fmt: skip
def test_the_command_line_says_it_in_one_line(
    error: Exception, said: str, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(arguments: Sequence[str]) -> int:
        raise error

    monkeypatch.setattr(cli, "parsed", fail)
    assert cli.main(["doctor", "x"]) == status
    assert capsys.readouterr().err == f"glyphlab: {said}\n"
    with pytest.raises(type(error)):
        cli.main(["doctor", "x", "--traceback"])


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(arguments: Sequence[str]) -> int:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(cli, "parsed", fail)
    with pytest.raises(RuntimeError, match="shapes"):
        cli.main(["doctor", "x"])
