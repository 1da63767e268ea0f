"""GRPO against OCR and a learned reward at once: from a config to a log that has both parts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from experiments.configs import CONFIGS, nano
from experiments.record.record import read_run
from experiments.report.page_words import grouped
from experiments.reward_models.train_reward import train_reward
from experiments.training.launch import train
from experiments.training.runner import run
from rewards.learned.reward_settings import TrainReward
from tests.fixtures.simulated_taste import simulate, write
from tests.fixtures.tiny.tiny_chain import short


def test_the_report_puts_the_parts_beside_the_reward() -> None:
    group, members = grouped(["reward", "part/ocr", "part/learned", "lr"])[0]
    assert group == "What is learned" and members == ["reward", "part/ocr", "part/learned"]


@pytest.mark.slow
def test_grpo_with_ocr_and_a_learned_reward_runs_end_to_end(tmp_path: Path) -> None:
    parent = tmp_path / "pretrain"
    small = replace(nano.pretrain, algorithm=replace(nano.pretrain.algorithm, batch=8, micro=8))
    run(short(small, 2), parent)
    train_reward(write(simulate(120, seed=1), tmp_path), tmp_path / "reward", "pixels", TrainReward(heads=1, folds=2))
    config = CONFIGS["nano_grpo_mixed"]
    assert config.prompts is not None
    algorithm = replace(config.algorithm, prompts=2, group=4, micro=8)
    tiny = short(replace(config, algorithm=algorithm, prompts=replace(config.prompts, count=8)), 2)
    report = train(replace(tiny, reward=f"1.0*ocr+0.05*learned:{tmp_path}/reward"), tmp_path / "mixed", parent)
    lines = read_run(tmp_path / "mixed").metrics
    assert len(lines) == 2
    for line in lines:
        total = line["part/ocr"] + 0.05 * line[f"part/learned:{tmp_path}/reward"]
        assert line["reward"] == pytest.approx(total, abs=1e-5)
    page = report.read_text("utf-8")
    assert "<b>part/ocr</b>" in page and f"<b>part/learned:{tmp_path}/reward</b>" in page
