"""People's answers out of the store, and a reward model out of them, by the commands that a user types."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

import pytest
import torch

from base_model.generate import generate
from base_model.sample import Sampler
from experiments.cli import main
from experiments.evaluation.evaluate import fixed_noise
from experiments.evaluation.prompts_of_plan import make_prompts
from experiments.experiment import PromptPlan
from experiments.preferences.model_items import sample_items
from preference_data.campaign.quality.reliability import wilson
from preference_data.pixels import to_float
from preference_data.store.store import Store
from rewards.learned.reward import Learned
from tests.fixtures.desk import PLAIN, campaign, person
from tests.preference_data.campaign.test_closed_loop import brightness, label, parent_model


@pytest.mark.slow
def test_a_reward_learned_from_exported_answers_agrees_with_who_gave_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The annotators like brightness and err once in ten times; so does, on images nobody saw, the reward."""
    torch.set_num_threads(1)
    model = parent_model(tmp_path / "old")
    store = Store.open(tmp_path / "store", chance=random.Random(0))
    items = sample_items(store, make_prompts(PromptPlan(count=64, seed=5)), [("old", model, "old")], seed=0, copies=2)
    c = campaign(store, items, dataclasses.replace(PLAIN, overlap=2, cap=3), name="loop")
    for i in range(3):
        label(store, person(store, f"a{i}"), c, random.Random(i))
    store.close()
    answers, folder = tmp_path / "export" / "answers.jsonl", tmp_path / "reward"
    assert main(["pairs", "export", "loop", "-o", str(answers), "--store", str(tmp_path / "store")]) == 0
    lines = [json.loads(line) for line in answers.read_text("utf-8").splitlines()]
    assert len(lines) > 120 and len({line["annotator"] for line in lines}) == 3
    assert not any(name in answers.read_text("utf-8") for name in ('"a0"', '"a1"', '"a2"')), "names stay in the store"
    assert main(["train-reward", "--pairs", str(answers), "-o", str(folder)]) == 0
    assert "held" in capsys.readouterr().out
    prompts = make_prompts(PromptPlan(count=64, seed=9, heldout=True))
    scorer = Learned(str(folder)).load()
    drawn = [
        generate(model, [prompt.text for prompt in prompts], noise, Sampler(steps=10))
        for noise in (fixed_noise(model, len(prompts), seed) for seed in (3, 4))
    ]
    a, b = (scorer(prompts, to_float(images)).value_B for images in drawn)
    brighter = [brightness(y) > brightness(x) for x, y in zip(*drawn, strict=True)]
    share = wilson(sum((y > x) == truth for x, y, truth in zip(a, b, brighter, strict=True)), len(prompts))
    print(f"right in {share.value:.3f} ({share.low:.3f} to {share.high:.3f}) of {share.count} pairs nobody saw")
    assert share.low > 0.6
