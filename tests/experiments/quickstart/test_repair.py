"""The study of repair in miniature, interrupted in every stage, against the same chain left alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from base_model.files.weights import load_model
from experiments.record.record import read_run
from tests.fixtures.tiny.tiny_chain import tiny_chain

pytestmark = pytest.mark.slow
GOLDEN = Path(__file__).parent / "golden" / "tiny_repair.json"
MEASURED = {"seconds", "total_seconds", "decoder_seconds", "peak_memory_mb"}


def start(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fixtures.tiny.tiny_run", str(folder), "--repair", *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)


def scores(value: object) -> object:
    """A summary without what was measured by a clock or a memory meter."""
    if isinstance(value, dict):
        return {name: scores(item) for name, item in value.items() if name not in MEASURED}
    return value


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("alone") / "repair"
    done = start(folder)
    assert done.returncode == 0, done.stderr
    return folder


def check_interrupted(folder: Path, alone: Path, plan: Sequence[tuple[str, str, str]]) -> None:
    """Signals arrive after an update, and checkpoints come after every second: what came after one is done again."""
    for stage, updates, name in plan:
        if status(folder / stage) == "finished":
            assert stage == "control", "the process beside may have been quicker"
            continue
        done = start(folder, "--die-in", stage, updates, name)
        assert done.returncode != 0, "it should have been interrupted"
        while status(folder / "control") == "running":  # the process beside needs a moment to see that it is alone
            time.sleep(0.1)
        quick = stage == "control" and status(folder / stage) == "finished"  # done before it saw that it was alone
        assert quick or status(folder / stage) == "interrupted"
    done = start(folder)
    assert done.returncode == 0, done.stderr
    assert scores(summary(folder)) == scores(summary(alone))
    for stage, _, _ in tiny_chain():
        assert losses(folder / stage) == losses(alone / stage)


def test_killed_while_it_aligns_it_ends_with_the_same_numbers(alone, tmp_path):
    """From where DPO was finished, and nothing judged yet."""
    folder = tmp_path / "repair"
    later = shutil.ignore_patterns("grpo", "control", "evaluation", "summary.json", "report.html")
    shutil.copytree(alone, folder, ignore=later)
    settings = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**settings, "status": "interrupted"}))
    check_interrupted(folder, alone, [("grpo", "3", "SIGKILL")])


def test_interrupted_in_every_stage_it_ends_with_the_same_numbers(alone, tmp_path):
    plan = [("decoder", "4", "SIGKILL"), ("pretrain", "5", "SIGINT"), ("sft", "3", "SIGKILL"), ("dpo", "1", "SIGINT"),
            ("grpo", "3", "SIGKILL"), ("control", "1", "SIGKILL"), ("control", "1", "SIGINT")]  # fmt: skip
    check_interrupted(tmp_path / "repair", alone, plan)


def test_every_stage_leaves_what_the_report_needs(alone):
    result = summary(alone)
    assert set(result["stages"]) == {"pretrain", "sft", "dpo", "grpo", "control"}
    for row in result["stages"].values():
        for name in ("exact", "exact_ci", "ned_score", "ned_score_ci", "judge_exact", "judge_ned_score", "diversity"):
            assert name in row and name in row["guided"]
        assert row["seconds"] > 0 and row["prompts"] == 6
    assert {"grpo_vs_sft", "dpo_vs_sft", "grpo_vs_control"} <= set(result["paired"])
    assert all(len(pair["ci"]) == 2 for pair in result["paired"].values())
    assert 0 < result["peak_memory_mb"] < 4096
    page = (alone / "report.html").read_text()
    assert "data:image/png;base64," in page and "http://" not in page.replace("http://www.w3.org", "")


def test_the_first_ratio_is_exactly_one(alone):
    lines = read_run(alone / "grpo").metrics
    updated = [line for line in lines if "ratio_first" in line]
    assert all(line["ratio_first"] == 1.0 and line["ratio_gap_first"] == 0.0 for line in updated)
    assert {line["window"] for line in lines} <= {0.0, 1.0, 2.0} and len({line["window"] for line in lines}) > 1


@pytest.mark.parametrize("stage", [stage for stage, _, _ in tiny_chain()])
def test_losses_are_the_golden_ones(alone, stage):
    """A refactoring leaves these alone. A change of science changes them, and brings a report (CONTRIBUTING.md).

    `python -m tests.fixtures.tiny.tiny_run FOLDER --repair` makes the run; the tolerance is for other processors, not
    for other code.
    """
    golden = json.loads(GOLDEN.read_text())[stage]
    assert losses(alone / stage) == pytest.approx(golden, rel=2e-3, abs=1e-6)


def test_dpo_starts_at_log_two(alone):
    assert read_run(alone / "dpo").metrics[0]["loss"] == pytest.approx(np.log(2.0), abs=1e-6)


def test_alignment_changes_the_network_and_nothing_else(alone):
    before, after = load_model(alone / "sft" / "model"), load_model(alone / "dpo" / "model")
    moved = [n for (n, a), b in zip(before.network.named_parameters(), after.network.parameters(), strict=True)
             if not a.equal(b)]  # fmt: skip
    assert moved
    assert all(
        a.equal(b) for a, b in zip(before.vae.state_dict().values(), after.vae.state_dict().values(), strict=True)
    )


def test_a_finished_run_is_left_alone(alone):
    weights = alone / "sft" / "model" / "transformer.safetensors"
    before = weights.stat().st_mtime_ns, (alone / "summary.json").read_text()
    assert start(alone).returncode == 0
    assert (weights.stat().st_mtime_ns, (alone / "summary.json").read_text()) == before


def test_other_settings_in_the_same_folder_are_refused(alone):
    from experiments.quickstart.repair import repair

    with pytest.raises(ValueError, match="other settings"):
        repair(alone)


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def status(folder: Path) -> str:
    return read_run(folder).status if (folder / "run.json").exists() else "absent"


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in read_run(folder).metrics if "loss" in line]
