"""From people's answers to a model that they prefer: draw, label through the service, train with DPO, compare."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from base_model.files.weights import load_model, load_vae, save_model
from base_model.generate import generate
from base_model.qwen.model import QwenImage, build
from base_model.qwen.presets import IMAGE_SIZES, PRESETS
from base_model.sample import Sampler
from experiments.cli import main
from experiments.evaluation.evaluate import fixed_noise
from experiments.evaluation.prompts_of_plan import make_prompts
from experiments.experiment import PromptPlan
from experiments.preferences.model_items import sample_items
from experiments.record.record import read_png
from preference_data.campaign.answering import answer
from preference_data.campaign.assignment import claim
from preference_data.campaign.assignment_view import View, image_path
from preference_data.campaign.campaigns import Item
from preference_data.campaign.outcomes import Answer
from preference_data.campaign.quality.reliability import wilson
from preference_data.pairs import load
from preference_data.store.store import Store
from tests.fixtures.desk import PLAIN, campaign, person


def parent_model(folder: Path) -> QwenImage:
    """The nano preset with random weights, so that text and noise reach the image, as a finished run."""
    model = build(PRESETS["nano"], load_vae(), IMAGE_SIZES["nano"], seed=0)
    chance = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.network.parameters():
            if weight.ndim == 2 and not weight.any():
                weight.normal_(std=0.05, generator=chance)
    (folder / "model").mkdir(parents=True)
    save_model(model, folder / "model")
    return model


def brightness(image: np.ndarray) -> float:
    """What the simulated annotators like."""
    return float(image.astype(np.float64).mean())


def label(store: Store, who: int, c: int, chance: random.Random) -> None:
    """An annotator who sees what a page shows, prefers the brighter image and errs once in ten times."""
    number = 0
    while (got := claim(store, who, c)).views:
        view: View = got.views[0]
        left, right = (brightness(read_png(image_path(store, who, p.handle))) for p in view.images)
        says = "tie" if abs(left - right) < 0.5 else "left" if (left > right) != (chance.random() < 0.1) else "right"
        answer(store, who, view.token, Answer(says, duration_ms=1500), f"{who}-{number:08d}")
        number += 1


@pytest.mark.slow
def test_dpo_on_peoples_answers_makes_pictures_that_they_prefer(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    old = parent_model(tmp_path / "old")
    store = Store.open(tmp_path / "store", chance=random.Random(0))
    items: list[Item] = sample_items(
        store, make_prompts(PromptPlan(count=64, seed=5)), [("old", old, "old")], seed=0, copies=2
    )
    c = campaign(store, items, dataclasses.replace(PLAIN, overlap=2, cap=3), name="loop")
    for i in range(3):
        label(store, person(store, f"a{i}"), c, random.Random(i))
    store.close()
    assert main(["train", "nano_dpo", "--parent", str(tmp_path / "old"), "--out", str(tmp_path / "new"),
                 "--pairs", "store:loop", "--store", str(tmp_path / "store"), "--algorithm.steps", "24",
                 "--algorithm.batch", "16", "--algorithm.micro", "16", "--optim.steps", "24",
                 "--no-evaluate"]) == 0  # fmt: skip
    pairs = load(tmp_path / "new" / "pairs.jsonl")
    assert len(pairs) > 30 and {p.source for p in pairs} == {"human:loop"}
    shown = [[brightness(read_png(tmp_path / "new" / ref.path)) for ref in (p.chosen, p.rejected)] for p in pairs]
    better = [chosen > rejected for chosen, rejected in shown]
    assert np.mean(better) > 0.8
    new = load_model(tmp_path / "new" / "model")
    prompts = make_prompts(PromptPlan(count=96, seed=9, heldout=True))
    noise, texts = fixed_noise(old, len(prompts), 3), [prompt.text for prompt in prompts]
    drawn = [generate(model, texts, noise, Sampler(steps=10)) for model in (old, new)]
    wins = [brightness(b) > brightness(a) for a, b in zip(*drawn, strict=True)]
    share = wilson(sum(wins), len(wins))
    print(f"the new model wins {share.value:.3f} ({share.low:.3f} to {share.high:.3f}) of {share.count}")
    assert share.low > 0.5
