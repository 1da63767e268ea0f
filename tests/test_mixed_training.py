"""GRPO against OCR and a learned reward at once: from a config to a log that has both parts."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments.configs import CONFIGS, nano
from experiments.launch import train
from experiments.mixture import Watched
from experiments.page.words import grouped
from experiments.record import read_run
from experiments.reward_training import train_reward
from experiments.runner import run
from preference_data.records import Prompt
from rewards.scores import Scores
from rewards.train import TrainReward
from rewards.weighted import WeightedScorer
from tests.simulated_taste import simulate, write
from tests.tiny_chain import short


class Pool:
    """A pool in this process."""

    def __init__(self, scorer: object, name: str) -> None:
        self._scorer, self.name = scorer, name

    def submit(self, prompts: list[Prompt], images: np.ndarray) -> Future[Scores]:
        future: Future[Scores] = Future()
        future.set_result(self._scorer(prompts, images))  # type: ignore[operator]
        return future


def constant(value: float) -> object:
    def scorer(prompts: list[Prompt], images: np.ndarray) -> Scores:
        values = np.array([np.nan if p.text == "unjudgeable" else value + i for i, p in enumerate(prompts)])
        return Scores(values, {"inner": values, "in/ner": values}, {"why": int(np.isnan(values).sum())})

    scorer.name = "constant"  # type: ignore[attr-defined]
    return scorer


def test_the_parts_of_a_mixture_are_means_over_the_update_and_are_forgotten() -> None:
    names = ["ocr", "learned:a/path=1"]
    mixture = WeightedScorer(names, [constant(0.0), constant(10.0)], [(1.0, 0.0), (0.1, 0.0)], (-np.inf, np.inf))
    judge = Watched(Pool(mixture, mixture.name))  # type: ignore[arg-type]
    prompts = [Prompt.from_text("a"), Prompt.from_text("b"), Prompt.from_text("unjudgeable")]
    judge.submit(prompts, np.zeros((3, 3, 4, 4), np.uint8))
    judge.submit(prompts[:1], np.zeros((1, 3, 4, 4), np.uint8))
    assert judge.parts() == {"part/ocr": pytest.approx(1 / 3), "part/learned": pytest.approx(10 + 1 / 3)}
    assert judge.parts() == {}
    judge.submit(prompts[2:], np.zeros((1, 3, 4, 4), np.uint8))
    assert np.isnan(judge.parts()["part/ocr"])
    plain = Watched(Pool(constant(1.0), "ocr:engine"))  # type: ignore[arg-type]
    plain.submit(prompts, np.zeros((3, 3, 4, 4), np.uint8))
    assert plain.parts() == {}


def test_two_rewards_of_one_kind_keep_their_whole_names() -> None:
    mixture = WeightedScorer(["learned:a", "learned:b"], [constant(0.0), constant(1.0)], [(1.0, 0.0)] * 2, (-9.0, 9.0))
    judge = Watched(Pool(mixture, mixture.name))  # type: ignore[arg-type]
    judge.submit([Prompt.from_text("a")], np.zeros((1, 3, 4, 4), np.uint8))
    assert judge.parts() == {"part/learned:a": 0.0, "part/learned:b": 1.0}


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
        total = line["part/ocr"] + 0.05 * line["part/learned"]
        assert line["reward"] == pytest.approx(total, abs=1e-5)
    page = report.read_text("utf-8")
    assert "<b>part/ocr</b>" in page and "<b>part/learned</b>" in page
