"""The benchmark of GRPO iterations: both sides do what they say, and its command ends with one line of JSON."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch

from base_model.seeding import generator
from experiments.benchmarks import rollout
from experiments.benchmarks.rollout import Benchmark, Clock, TimedEngine, common_iteration, common_loss, common_rollout
from preference_data.prompts import PromptSet
from rewards.scores import Scores
from tests.fixtures.tiny.tiny_model import Spy, same, tiny_model, weights

TINY = Benchmark(prompts=2, group=2, micro=2, steps=4, window=1, within=2, guidance=2.0, workers=1, repeats=1)
TEXTS = ('the word "AB" in red', 'the word "AB" in red')


def test_the_common_recipe_shares_nothing_and_guides_by_two_passes() -> None:
    model = tiny_model()
    with Spy(model) as spy:
        kept, x0 = common_rollout(model, TEXTS, TINY, generator(0, 0, 0, "test"), slice(0, 2))
    assert len(kept) == 3, "every step but the last"
    assert [len(x) for x in spy.x] == [2] * 8, "two passes a step, of an image each"
    assert not torch.equal(kept[0].x_BSC[0], kept[0].x_BSC[1]), "own noise"
    assert x0.shape == kept[0].x_BSC.shape


def test_its_ratio_is_one_before_the_first_update_and_it_learns() -> None:
    model = tiny_model()
    kept, _ = common_rollout(model, TEXTS, TINY, generator(0, 0, 0, "test"), slice(0, 2))
    loss, metrics = common_loss(model, kept[1]._replace(advantage_B=torch.tensor([1.0, -1.0])), TINY)
    assert metrics["ratio_gap"] == 0 and loss == 0 and loss.requires_grad
    prompts = PromptSet.from_texts(['the word "AB" in red', 'the word "C" in blue'])
    before, engine = weights(model), TimedEngine(model, Clock())
    scorer = lambda prompts, images: Scores(images.mean((1, 2, 3)).astype(np.float64), {})  # noqa: E731
    common_iteration(model, engine, prompts, scorer, TINY, 0)  # type: ignore[arg-type]
    assert not same(before, weights(model)) and min(engine.clock.seconds.values()) > 0


def test_the_command_at_a_tiny_size(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(rollout, "measure", lambda cfg, whole=rollout.measure: whole(cfg, tiny_model()))
    options = ["--prompts", "2", "--group", "2", "--micro", "2", "--steps", "4", "--window", "1", "--within", "2",
               "--workers", "1", "--repeats", "1"]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["rollout", *options])
    rollout.main()
    lines = capsys.readouterr().out.splitlines()
    numbers = json.loads(lines[-1])
    assert numbers["ratio"] == pytest.approx(numbers["common_seconds"] / numbers["ours_seconds"], rel=0.02)
    for side in ("ours", "hybrid", "common"):
        parts = sum(numbers[f"{side}_{part}_seconds"] for part in rollout.PARTS)
        assert parts == pytest.approx(numbers[f"{side}_seconds"], rel=0.01)
        assert numbers[f"{side}_pictures_per_second"] == pytest.approx(4 / numbers[f"{side}_seconds"], rel=0.01)
    assert numbers["hybrid_ratio"] == pytest.approx(numbers["common_seconds"] / numbers["hybrid_seconds"], rel=0.02)
    assert [line.split()[0] for line in lines[1:4]] == ["ours", "hybrid", "common"]


def test_sizes_that_cannot_be_measured() -> None:
    with pytest.raises(ValueError, match="repeats=0"):
        Benchmark(repeats=0)
    with pytest.raises(ValueError, match="micro=3"):
        Benchmark(micro=3).grpo(1)
