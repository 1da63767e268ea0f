"""Answers about a model's own images: every file that training reads, the same every time, and for people as well."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.configs import CONFIGS
from experiments.evaluation.prompts_of_plan import OPEN, make_prompts
from experiments.experiment import AnswerPlan, PromptPlan
from experiments.images.image_sources import ImageSources, open_images
from experiments.preferences.first_campaign import prepare
from experiments.preferences.from_people import install
from experiments.preferences.own_answers import ANSWERS, CHOSEN, collect_answers
from experiments.preferences.simulated_people import facts, people
from experiments.progress import Progress
from experiments.record.record import read_png
from preference_data import comparisons, pairs
from preference_data.store.store import Store
from tests.fixtures.tiny.tiny_model import tiny_model

PLAN = AnswerPlan(PromptPlan(count=12, seed=3, levels=(4, 7), bare=1.0), people=3, seed=4)


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "answers"
    collect_answers(tiny_model(), PLAN, people(3, 4), folder, Progress({}))
    return folder


def test_every_prompt_has_an_answer_by_people_in_turns(answered: Path) -> None:
    answers = comparisons.load(answered / ANSWERS)
    assert [one.prompt.text for one in answers] == [p.text for p in make_prompts(PLAN.prompts)]
    assert all(one.prompt.category == (OPEN,) for one in answers)
    assert [one.annotator for one in answers[:4]] == [f"machine:simulated-{i}" for i in (1, 2, 3, 1)]


def test_the_preferred_image_is_first_in_pairs_and_the_one_that_is_chosen(answered: Path) -> None:
    answers, made = comparisons.load(answered / ANSWERS), pairs.load(answered / "pairs.jsonl")
    for one, pair in zip(answers, made, strict=True):
        better, worse = (one.left, one.right) if one.outcome == "left" else (one.right, one.left)
        assert (pair.chosen.sha256, pair.rejected.sha256) == (better.sha256, worse.sha256)
        assert (answered / CHOSEN / f"{better.sha256}.png").exists()
    own = open_images(ImageSources(folder=(str(answered / CHOSEN),), aspect=False))
    assert set(own.captions) == {one.prompt.text for one in answers}


def test_answers_follow_the_taste_of_whoever_answers(answered: Path) -> None:
    """With noise: in expectation, over all of them."""
    who = people(3, 4)
    certain = []
    for i, one in enumerate(comparisons.load(answered / ANSWERS)):
        left, right = (facts(read_png(answered / ref.path)) for ref in (one.left, one.right))
        likely = who[i % 3].probability(left, right)
        certain.append((likely if one.outcome == "left" else 1 - likely, likely))
    assert np.mean([given for given, _ in certain]) > 0.3  # noise alone would not be below it


def test_the_same_answers_every_time_and_what_is_there_is_kept(answered: Path, tmp_path: Path) -> None:
    again = tmp_path / "run" / "answers"
    collect_answers(tiny_model(), PLAN, people(3, 4), again, Progress({}))
    outcomes = [[one.outcome for one in comparisons.load(folder / ANSWERS)] for folder in (answered, again)]
    assert outcomes[0] == outcomes[1]
    before = (answered / ANSWERS).stat().st_mtime_ns
    collect_answers(tiny_model(), PLAN, people(3, 4), answered, Progress({}))
    assert (answered / ANSWERS).stat().st_mtime_ns == before


def test_training_takes_the_pairs_with_their_latents(answered: Path, tmp_path: Path) -> None:
    install(CONFIGS["taste_dpo"], [str(answered / "pairs.jsonl")], "", tmp_path / "dpo")
    assert (
        len(pairs.load(tmp_path / "dpo" / "pairs.jsonl")) == 12 and (tmp_path / "dpo" / "latents.safetensors").exists()
    )


def test_annotate_asks_people_about_the_same_images_without_the_answers(answered: Path, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    made = prepare(store, answered.parent)
    assert made.items == 12 and made.campaign == f"own images of {answered.parent.name}"
    kept = sorted(path.name for path in (store.images.root / "latents").iterdir())
    assert kept == sorted(path.name for path in (answered / "latents").iterdir())
    with Image.open(next((answered / "pictures").glob("*.png"))) as image:
        assert image.size[0] > 0
