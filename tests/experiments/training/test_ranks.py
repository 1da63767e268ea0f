"""One run on two processes: a record of one, resumed after a death, stopped by SIGTERM, saved whole."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from base_model.files.weights import load_model
from experiments.configs import nano
from experiments.record.record import RunRecord, read_run
from experiments.training.ranks import Onlooker, digest, of_all_nodes, of_all_ranks
from experiments.training.runner import open_record, run
from tests.experiments.training.test_runner import tiny_pretrain

SECONDS = 1800
"""for a launch of half a minute on an idle machine, and many times that on a shared one"""


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    run(tiny_pretrain(steps=2), folder / "parent")
    return folder


def test_other_ranks_ignore_whatever_the_record_is_asked_to_write() -> None:
    """A run gives both the same calls: what the record takes, the others must take as well."""
    own = {name: method for name, method in vars(Onlooker).items() if inspect.isfunction(method)}
    assert {"log", "check", "rewind", "samples", "running"} <= own.keys()
    for name, method in own.items():
        theirs = inspect.signature(getattr(RunRecord, name)).parameters
        assert [*inspect.signature(method).parameters] == [*theirs], name


def launch(name: str, folder: Path, stage: int, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "tests.fixtures.tiny.tiny_ranks", name, str(folder), str(stage), *more]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as process:
        try:
            out, err = process.communicate(timeout=SECONDS)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # the launcher alone would leave its ranks behind
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def losses(folder: Path) -> list[float | None]:
    return [line["loss"] for line in read_run(folder).metrics]


def check_whole(folder: Path) -> None:
    """Finished, every update logged once, by one rank, and a model that learned."""
    found = read_run(folder)
    assert found.status == "finished"
    assert [line["step"] for line in found.metrics] == [0, 1, 2, 3, 4]
    before, after = load_model(folder.parent / "parent" / "model"), load_model(folder / "model")
    pairs = zip(before.network.state_dict().values(), after.network.state_dict().values(), strict=True)
    assert sum(not torch.equal(a, b) for a, b in pairs) > 20
    assert all(torch.isfinite(value).all() for value in after.network.state_dict().values())


@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
def test_a_run_of_two_ranks_goes_on_after_one_was_killed(home, stage):
    whole = launch("sft", home / f"whole{stage}", stage)
    assert whole.returncode == 0, whole.stderr[-3000:]
    check_whole(home / f"whole{stage}")
    cut = launch("sft", home / f"cut{stage}", stage, "--die-after", "3")
    assert cut.returncode != 0
    assert len(losses(home / f"cut{stage}")) < 5
    again = launch("sft", home / f"cut{stage}", stage)
    assert again.returncode == 0, again.stderr[-3000:]
    check_whole(home / f"cut{stage}")
    assert losses(home / f"cut{stage}") == pytest.approx(losses(home / f"whole{stage}"), rel=1e-6)
    a, b = (load_model(home / f"{name}{stage}" / "model").network.state_dict() for name in ("whole", "cut"))
    assert all(torch.allclose(a[name], b[name], atol=1e-6) for name in a)


@pytest.mark.slow
def test_ranks_leave_together_when_one_is_told_to(home):
    told = launch("sft", home / "told", 2, "--ask-after", "1")
    assert told.returncode != 0
    found = read_run(home / "told")
    assert found.status == "interrupted"
    assert len(found.metrics) == 1, "every rank left after the same update"
    assert (home / "told" / "checkpoints" / "update_000001" / "manifest.json").exists()
    assert launch("sft", home / "told", 2).returncode == 0
    check_whole(home / "told")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["grpo", "dpo"])
def test_alignment_runs_on_two_ranks(home, name):
    done = launch(name, home / name, 2)
    assert done.returncode == 0, done.stderr[-3000:]
    check_whole(home / name)
    first = read_run(home / name).metrics[0]
    if name == "grpo":
        assert [line["ratio_first"] for line in read_run(home / name).metrics] == [1.0] * 5
    else:
        assert first["loss"] == pytest.approx(0.6931472, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
def test_monitors_watch_a_run_of_two_ranks(home, stage):
    """Every look raises an alarm: all ranks go on with a higher beta, and the record is that of one run."""
    folder = home / f"watched_{stage}"
    done = launch("watched", folder, stage)
    assert done.returncode == 0, done.stderr[-3000:]
    check_whole(folder)
    looks = read_run(folder).monitors
    assert [look["step"] for look in looks] == [-1, 1, 3, 4]
    betas = [look["beta"] for look in looks[1:]]
    assert betas == sorted(set(betas)), "raised at every look, once"
    assert all(len(look["alarms"]) == 1 for look in looks[1:])


class Met:
    """One of several ranks, each a thread."""

    device = torch.device("cpu")
    brought: ClassVar[dict[int, torch.Tensor]] = {}

    def __init__(self, rank: int, both: threading.Barrier) -> None:
        self.rank, self.world_size, self._both = rank, both.parties, both

    def gather(self, x_B: torch.Tensor) -> torch.Tensor:
        self.brought[self.rank] = x_B
        self._both.wait(60.0)
        rows = torch.cat([self.brought[rank] for rank in range(self.world_size)])
        self._both.wait(60.0)
        return rows


def test_what_every_rank_brings_reaches_all_in_their_order():
    brought = [{"a": [1.5, 0.0]}, "ä" * 50, None]
    both = threading.Barrier(len(brought))
    with ThreadPoolExecutor(len(brought)) as threads:
        waiting = [threads.submit(of_all_ranks, Met(rank, both), value) for rank, value in enumerate(brought)]
        assert [future.result() for future in waiting] == [brought] * len(brought)


@pytest.mark.parametrize(
    ("name", "other", "refused"),
    [("seed", 7, "rank 1 was started with other settings than rank 0"), ("folder", ["/other/mount"], "")],
)
def test_ranks_with_other_settings_are_refused_before_a_run_is_made(name, other, refused, tmp_path, monkeypatch):
    """A second node with another rate or seed would train something else, and the record would not say so."""

    raw: list[dict[str, Any]] = []

    def seen(settings: dict[str, Any]) -> dict[str, Any]:
        raw.append(settings)
        return of_all_nodes(settings)

    def theirs() -> dict[str, Any]:
        experiment = raw[0]["experiment"]
        return of_all_nodes(raw[0] | {"experiment": experiment | {"data": experiment["data"] | {name: other}}})

    def reduced(bounds: torch.Tensor, op: object) -> None:
        bounds.copy_(torch.maximum(bounds, torch.tensor([digest(theirs()), -digest(theirs())])))

    monkeypatch.setattr("experiments.training.ranks.join", lambda _: "cpu")
    monkeypatch.setattr("experiments.training.ranks.of_all_nodes", seen)
    monkeypatch.setattr(torch.distributed, "all_reduce", reduced)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(
        torch.distributed, "all_gather_object", lambda each, mine: each.__setitem__(slice(None), [mine, theirs()])
    )
    monkeypatch.setattr(torch.distributed, "barrier", lambda: None)
    experiment = replace(nano.sft, engine="deepspeed", optim=replace(nano.sft.optim, muon_lr=0.0))
    with (
        pytest.raises(ValueError, match=rf"{refused} \(experiment.data.{name}: .* -> 7\)") if refused else nullcontext()
    ):
        open_record(experiment, tmp_path / "run", None)
    assert (tmp_path / "run").exists() == (not refused)


def test_an_engine_that_does_not_exist_is_named():
    with pytest.raises(ValueError, match="engine='fsdp' must be local or deepspeed"):
        replace(nano.grpo, engine="fsdp")
