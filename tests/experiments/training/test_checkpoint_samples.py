"""What a run is looked at by: prompts of its own where it has a file, answers or images, held-out words elsewhere."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tqdm import tqdm

from base_model.data.rendered_chinese import is_chinese
from base_model.data.rendered_text import CHINESE, ENGLISH
from base_model.data.stream import Stage, TextStream
from base_model.generate import generate
from base_model.sample import Sampler
from experiments.configs import nano, nano_bilingual, nano_hacking, nano_race, nano_taste
from experiments.evaluation.evaluate import fixed_noise
from experiments.evaluation.prompts_of_plan import make_prompts
from experiments.experiment import Experiment, MonitorPlan, PromptPlan
from experiments.images.image_sources import ImageSources, open_images
from experiments.preferences.from_people import to_jsonl
from experiments.preferences.from_scores import PAIRS
from experiments.progress import Progress
from experiments.record.whole_files import write_png
from experiments.training import launch
from experiments.training.own_prompts import (
    FIXED_PROMPTS,
    checkpoint_prompts,
    monitored_prompts,
    own_prompts,
    readable,
    scene_levels,
)
from experiments.training.runner import open_record, sample_checkpoint
from experiments.training.watch import Watch
from preference_data.records import ImageRef, PreferencePair, Prompt, Provenance
from tests.fixtures.tiny.tiny_model import tiny_model

TEXTS = [f"the word {letter * 3} in red" for letter in "ABCDEFGHI"]


def plan_of(folder: Path, count: int, texts: list[str] = TEXTS) -> PromptPlan:
    (folder / "p.txt").write_text("\n".join(texts), encoding="utf-8")
    return PromptPlan(count=count, seed=5, file=str(folder / "p.txt"))


def with_prompts(plan: PromptPlan) -> tuple[Experiment, Experiment]:
    """GRPO and DPO on those prompts."""
    assert nano.dpo.pairs is not None
    return replace(nano.grpo, prompts=plan), replace(nano.dpo, pairs=replace(nano.dpo.pairs, prompts=plan))


def texts_of(prompts: list[Prompt]) -> list[str]:
    return [prompt.text for prompt in prompts]


@pytest.mark.parametrize(("there", "shown"), [(9, 6), (3, 3)])
def test_checkpoints_show_the_first_prompts_of_the_file_as_the_model_samples(there, shown, tmp_path):
    model = tiny_model(0)
    for experiment in with_prompts(plan_of(tmp_path, there, TEXTS[:there])):
        prompts = checkpoint_prompts(experiment, tmp_path)
        assert (texts := texts_of(prompts)) == TEXTS[:shown]
        images = sample_checkpoint(model, prompts)
        assert model.sampler == Sampler(10, 2.0)
        assert np.array_equal(
            images, generate(model, texts, fixed_noise(model, shown, FIXED_PROMPTS.seed), model.sampler)
        )


@pytest.mark.parametrize("experiment", [nano.grpo, nano.dpo, nano.sft], ids=lambda each: each.name)
def test_a_run_without_own_prompts_is_looked_at_by_held_out_words(experiment, tmp_path):
    assert checkpoint_prompts(experiment, tmp_path) == make_prompts(FIXED_PROMPTS)
    assert monitored_prompts(experiment, MonitorPlan(), tmp_path) == make_prompts(MonitorPlan().prompts)
    assert own_prompts(experiment, tmp_path).judged_by(9) == []


@pytest.mark.parametrize(("learned", "monitored"), [(4, TEXTS[4:]), (9, TEXTS)])
def test_monitors_take_what_the_file_has_beyond_what_is_learned_from(learned, monitored, tmp_path):
    for experiment in with_prompts(plan_of(tmp_path, learned)):
        assert texts_of(monitored_prompts(experiment, MonitorPlan(), tmp_path)) == monitored
        assert texts_of(own_prompts(experiment, tmp_path).judged_by(2)) == monitored[:2]
        few = MonitorPlan(prompts=PromptPlan(count=3, seed=1))
        assert texts_of(monitored_prompts(experiment, few, tmp_path)) == monitored[:3]


def test_a_file_of_the_monitors_own_comes_first(tmp_path):
    grpo, _ = with_prompts(plan_of(tmp_path, 4))
    (tmp_path / "m.txt").write_text("a fox\na bus\n", encoding="utf-8")
    plan = MonitorPlan(prompts=PromptPlan(count=2, seed=1, file=str(tmp_path / "m.txt")))
    assert texts_of(monitored_prompts(grpo, plan, tmp_path)) == ["a fox", "a bus"]


def test_answers_of_people_are_own_prompts_and_pairs_of_rendered_words_are_none(tmp_path):
    assert nano.dpo.pairs is not None
    (word,) = make_prompts(replace(nano.dpo.pairs.prompts, count=1))
    made = Provenance("m", "", 0, 1, 1.0, "", 0)
    one, two = (ImageRef(letter * 64, f"{letter}.png", 8, 8, made) for letter in "ab")
    for prompts, own in (([Prompt.from_text("a fox"), word], ["a fox", word.text]), ([word], [])):
        pairs = [PreferencePair(prompt, one, two, "human:ada", None, "left") for prompt in prompts]
        (tmp_path / PAIRS).write_text(to_jsonl(pairs), encoding="utf-8")
        assert texts_of(list(own_prompts(nano.dpo, tmp_path).learned)) == own


def test_captions_of_own_images_are_own_prompts(tmp_path):
    for i, text in enumerate(TEXTS):
        write_png(tmp_path / "images" / f"{i}.png", np.full((3, 32, 96), 20 * i, np.uint8))
        (tmp_path / "images" / f"{i}.txt").write_text(text, encoding="utf-8")
    data = open_images(ImageSources(folder=(str(tmp_path / "images"),)), True, lambda text: "", lambda a, b: None)
    experiment = replace(nano.sft, data=data)
    assert texts_of(checkpoint_prompts(experiment, tmp_path)) == TEXTS[:6]
    assert texts_of(monitored_prompts(experiment, MonitorPlan(), tmp_path)) == TEXTS


def test_prompts_that_a_small_preset_cannot_read_are_not_monitored():
    model, prompts = tiny_model(0), [Prompt.from_text(text) for text in ("the word A", "\u0416")]
    assert texts_of(readable(prompts, model)) == ["the word A"]
    with pytest.raises(ValueError, match="none of 1 prompts"):
        readable(prompts[1:], model)
    model.keeps_base = True
    assert readable(prompts, model) == prompts


def test_monitors_sample_as_the_model_does_unless_they_say_otherwise():
    """Studies whose numbers are in the documentation keep the settings that these were measured at."""
    model, rank = tiny_model(0), SimpleNamespace(rank=1)  # which loads no reward
    for sampler, used in ((None, model.sampler), (Sampler(3, 1.5), Sampler(3, 1.5))):
        plan = MonitorPlan(sampler=sampler)
        assert Watch(nano.grpo, plan, [], model, None, None, rank)._sampler == used  # type: ignore[arg-type]
    studies = [nano_hacking.config, nano_hacking.dpo]
    assert {each.monitors.sampler for each in studies if each.monitors} == {Sampler()}
    assert {each.monitors.sampler for each in nano_race.configs if each.monitors} == {nano_taste.SAMPLER}


def test_a_bar_that_is_hidden_goes_on_from_a_checkpoint(monkeypatch):
    monkeypatch.setattr("experiments.progress.tqdm", partial(tqdm, disable=True))  # as TQDM_DISABLE=1 does
    bar = Progress({"a": 60.0})
    with bar.stage("a", 4):
        bar.advance(2)
        bar.advance(1, {"loss": 1.0})
        assert bar._bar is not None and bar._bar.initial == 2


@pytest.mark.parametrize(("levels", "expected"), [
    ((1, 1, 1), (ENGLISH,)), ((1,), (ENGLISH,)), ((0, 0, 0, 0, 0, 0, 1), (CHINESE,)),
    ((1, 0, 1, 0, 0, 0, 1), (ENGLISH, CHINESE)),
])  # fmt: skip
def test_a_run_is_shown_and_judged_in_the_languages_that_it_learns(levels, expected):
    data = TextStream(seed=0, stages=(Stage(0, levels),))
    assert scene_levels(replace(nano.pretrain, data=data)) == expected
    asking = replace(nano.grpo, prompts=replace(nano.grpo.prompts, levels=expected))
    assert scene_levels(asking) == expected
    shown = checkpoint_prompts(replace(nano.pretrain, data=data), Path("nowhere"))
    chinese = [is_chinese(prompt.spans[0]) for prompt in shown]
    assert chinese == [expected[i % len(expected)] == CHINESE for i in range(6)]
    watched = monitored_prompts(replace(nano.pretrain, data=data), MonitorPlan(), Path("nowhere"))
    assert [is_chinese(prompt.spans[0]) for prompt in watched[:6]] == chinese


def test_a_finished_run_is_evaluated_in_its_languages(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(launch, "evaluate", lambda model, plan, *_: seen.append(plan.prompts.levels))
    monkeypatch.setattr(launch, "load_model", lambda *_: None)
    monkeypatch.setattr(launch, "ScorerPool", lambda *_, **__: nullcontext())
    monkeypatch.setattr(launch, "model_folder", lambda folder: folder / "model")
    for experiment in (nano.pretrain, nano_bilingual.chinese, nano_bilingual.pretrain):
        open_record(experiment, tmp_path / experiment.name, None)
        launch.evaluate_run(tmp_path / experiment.name)
    assert seen == [(ENGLISH,), (CHINESE,), (ENGLISH, CHINESE)]
