"""Runs of the first version open as they did: `report`, `sample`, `evaluate` and `resume` know their names.

tests/fixtures/old_run was made before the modules moved: a finished nano_grpo and a nano_sft stopped after its third
update, on a parent of one block of width 16.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from experiments.cli import main
from experiments.commands.arguments import OLD_OPTIONS, with_current_options
from experiments.record import moved_names
from experiments.record.moved_names import (
    MOVED_CLASSES,
    MOVED_MODULES,
    current_name,
    current_setting,
    with_current_names,
)
from experiments.record.record import read_run
from experiments.record.recorded_settings import named, rebuild

OLD = Path(__file__).parents[2] / "fixtures" / "old_run"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return shutil.copytree(OLD, tmp_path / "old")


def test_settings_of_old_runs_are_rebuilt_as_todays(old: Path) -> None:
    from experiments.configs import nano

    settings = json.loads((old / "grpo" / "run.json").read_text())["config"]["experiment"]
    assert "base_model.masters.Memory" in json.dumps(settings), "the fixture has names of modules that moved"
    assert rebuild(settings) == rebuild(with_current_names(settings)), "whoever reads run.json directly may rebuild too"
    assert rebuild(settings).memory == nano.grpo.memory and rebuild(settings).positions is nano.grpo.positions
    assert "base_model.masters" not in json.dumps(read_run(old / "grpo").config)


def test_every_moved_module_is_where_the_table_says() -> None:
    import importlib

    for module in set(MOVED_MODULES.values()):
        importlib.import_module(module)
    for module, name in (path.rsplit(".", 1) for path in MOVED_CLASSES.values()):
        assert hasattr(importlib.import_module(module), name), name
    assert current_name("base_model.masters.Memory") == "base_model.engine.mixed_precision.Memory"
    assert current_name("alignment.grpo.Grpo") == "alignment.grpo.Grpo" and current_name("ocr") == "ocr"
    assert named("base_model.positions.msrope").__module__ == "base_model.qwen.positions"


def test_a_report_of_an_old_run_is_written(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(old / "grpo")]) == 0
    assert "nano_grpo" in (old / "grpo" / "report.html").read_text(encoding="utf-8")


def test_an_old_run_is_resumed_from_its_checkpoint(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (old / "sft" / "metrics.jsonl").read_text().splitlines()
    assert main(["resume", str(old / "sft"), "--no-evaluate"]) == 0, capsys.readouterr().err
    after = [json.loads(line) for line in (old / "sft" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in after] == [0, 1, 2, 3]
    told = json.loads(before[2])
    assert after[2]["loss"] == pytest.approx(told["loss"], rel=1e-5), "the third update is done again as it was"
    assert read_run(old / "sft").status == "finished"


def test_an_image_is_sampled_from_an_old_run(old: Path, tmp_path: Path) -> None:
    prompt = 'the word "EWO" in blue sans, small, top left, on grey'
    assert main(["sample", str(old / "grpo"), prompt, "-o", str(tmp_path / "x.png"), "--steps", "2"]) == 0
    assert (tmp_path / "x.png").stat().st_size > 0


def test_the_settings_of_a_reward_are_those_that_an_older_quickstart_recorded() -> None:
    from experiments.record.whole_files import plain
    from rewards.learned.reward_settings import TrainReward

    recorded = {**plain(TrainReward()), "class": "rewards.learned.train.TrainReward"}
    assert with_current_names({"reward": recorded}) == {"reward": plain(TrainReward())}


@pytest.mark.slow
def test_an_old_run_is_evaluated(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(old / "grpo")]) == 0
    assert (old / "grpo" / "evaluation" / "guided.json").exists()


def test_settings_of_another_name_are_found_under_todays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(moved_names.MOVED_FIELDS, "old_name", "new_name")
    assert with_current_names({"class": "x", "a": {"old_name": [1]}}) == {"class": "x", "a": {"new_name": [1]}}
    for old, new in (
        ("algorithm.old_name.noise", "algorithm.new_name.noise"), ("algorithm.older_name", "algorithm.older_name"),
        ("--algorithm.old-name.x=old_name", "--algorithm.new-name.x=old_name"), ("--old_name", "--new_name"),
        ("--old-name", "--new-name"), ("--no-old-names", "--no-old-names"), ("-o", "-o"),
    ):  # fmt: skip
        assert current_setting(old) == new


def test_an_option_of_another_name_works_and_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(OLD_OPTIONS, "--old-option", "--new-option")
    line = ["sample", "--old-option", "a", "--old_option=b", "old-option", "--", "-o", "x"]
    assert with_current_options(line) == ["sample", "--new-option", "a", "--new-option=b", *line[4:]]
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2 and "--old-option is called --new-option now" in told[0]
