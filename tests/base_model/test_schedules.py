"""A schedule is as long as its run, unless it is told otherwise; settings that cannot be run are refused at once."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from alignment.groups import Groups
from base_model.engine.engine import LocalEngine, OptimConfig
from experiments.configs import CONFIGS, nano
from experiments.experiment import Experiment, laid_out
from experiments.settings import parse


def shares(experiment: Experiment) -> list[float]:
    """The share of the peak rate at every update of the run."""
    settled, cfg = laid_out(experiment), experiment.algorithm
    return [settled.optim.lr_share(i) for i in range(cfg.steps * getattr(cfg, "updates", 1))]


@pytest.mark.parametrize("steps", [1, 40, 200, 2000])
def test_a_longer_run_has_a_longer_schedule(steps, tmp_path):
    """The command of the README: 200 updates where the preset has 40."""
    chosen = parse(nano.sft, tmp_path, ["--algorithm.steps", str(steps)]).experiment
    assert laid_out(chosen).optim.steps == steps
    assert shares(chosen)[-1] == pytest.approx(chosen.optim.final_lr if steps >= 5 else 0.2 * 0.02)


def test_the_rate_of_the_readme_command_is_real(tmp_path):
    chosen = parse(nano.sft, tmp_path, ["--algorithm.steps", "200"]).experiment
    assert sum(shares(chosen)) == pytest.approx(148.5, abs=1.0)


def test_a_schedule_that_is_set_stays(tmp_path):
    chosen = parse(nano.sft, tmp_path, ["--algorithm.steps", "200", "--optim.steps", "40"]).experiment
    assert laid_out(chosen).optim.steps == 40
    assert laid_out(laid_out(chosen)) == laid_out(chosen)


@pytest.mark.parametrize("name", list(CONFIGS))
def test_every_experiment_has_its_whole_schedule(name):
    """Two updates a rollout are two steps of the schedule; nothing is left at its floor for most of a run."""
    cfg = CONFIGS[name].algorithm
    updates = cfg.steps * (cfg.updates if isinstance(cfg, Groups) else 1)
    assert laid_out(CONFIGS[name]).optim.steps == updates


def test_a_schedule_without_a_length_is_refused_before_the_first_update():
    with pytest.raises(ValueError, match="length of the schedule"):
        LocalEngine(torch.nn.Linear(2, 2), OptimConfig(decay_from=0.5))
    LocalEngine(torch.nn.Linear(2, 2), OptimConfig(decay_from=1.0))  # constant: it needs none


@pytest.mark.parametrize("setting, value", [("algorithm.steps", -5), ("algorithm.steps", 0), ("save_every", 0),
                                            ("minutes", -1.0), ("size", (-32, 96))])  # fmt: skip
def test_settings_that_cannot_be_run_are_refused(setting, value):
    *inner, last = setting.split(".")
    with pytest.raises(ValueError, match="must be at least"):
        if inner:
            replace(nano.sft, algorithm=replace(nano.sft.algorithm, **{last: value}))
        else:
            replace(nano.sft, **{last: value})


@pytest.mark.parametrize("value", ["-5", "0"])
def test_the_command_line_says_it_in_one_line(value, tmp_path, capsys):
    from experiments.cli import main

    assert main(["train", "nano_sft", "--algorithm.steps", value, "-o", str(tmp_path / "run")]) == 2
    assert f"algorithm.steps={value} must be at least 1" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_run_records_the_schedule_it_follows(tmp_path):
    """So the settings of runs that were made when every schedule was spelled out are the same settings still."""
    from experiments.record.record import read_run
    from experiments.training.runner import open_record

    open_record(CONFIGS["nano_guard"], tmp_path / "run", tmp_path)
    recorded = read_run(tmp_path / "run").config["experiment"]
    assert recorded["optim"]["steps"] == 2 * recorded["algorithm"]["steps"]
    spelled = replace(nano.sft, optim=replace(nano.sft.optim, steps=nano.SFT_STEPS))
    open_record(spelled, tmp_path / "old", None)
    open_record(nano.sft, tmp_path / "old", None)
