"""Prompts that are always or never done right wait, alike on all ranks and after an interruption."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from alignment.groups import sample_groups
from experiments.configs import nano
from experiments.experiment import Experiment
from experiments.record.record import RunRecord, read_success
from experiments.training.run_prompts import check_prompts
from experiments.training.runner import run
from preference_data.learnable_prompts import REST, LearnablePrompts
from preference_data.prompts import PromptSet
from rewards.serving.workers import ScorerPool
from rewards.text.ocr_contains import OcrContains
from tests.alignment.test_groups import FLAT, TINY
from tests.alignment.test_monitors import cut_after
from tests.experiments.training.test_faults import tiny_grpo
from tests.experiments.training.test_runner import tiny_pretrain
from tests.fixtures.tiny.tiny_model import tiny_model
from tests.fixtures.toy_alignment import SPREAD, Watching, listed

EIGHT = PromptSet.from_texts([f'"{word}"' for word in "ABCDEFGH"], seed=4)
HARD, EASY = {EIGHT[0].id, EIGHT[1].id}, {EIGHT[2].id, EIGHT[3].id}


def truth(name: str) -> float:
    return 0.0 if name in HARD else 1.0 if name in EASY else 0.5


def choice(steps: int, slots: int = 1, size: int = 2, history: list[Mapping[str, float]] | None = None) -> tuple:
    """(ids of every update, what was noted) of a run whose hard and easy prompts stay so."""
    noted, chosen = list(history or []), []
    prompts = LearnablePrompts(
        EIGHT, (0.1, 0.9), slots, size, lambda step, success: noted.append(dict(success)), list(noted)
    )
    for step in range(len(noted), steps):
        of_ranks = [[prompt.id for prompt in prompts.batch(step * slots + slot, size)] for slot in range(slots)]
        prompts.record(step, [[truth(name) for name in names] for names in of_ranks])
        chosen.append([name for names in of_ranks for name in names])
    return chosen, noted


def test_what_is_always_or_never_right_waits_and_comes_back() -> None:
    chosen, _ = choice(20)
    assert {name for names in chosen[:4] for name in names} == {prompt.id for prompt in EIGHT}, "all are tried first"
    later = [name for names in chosen[4:] for name in names]
    waiting = sum(name in HARD | EASY for name in later) / len(later)
    passes = REST + 1  # one time of three that the others are taken
    assert 0.0 < waiting < 1.5 / (1 + passes), "tried again, and seldom"
    assert all(len(set(names)) == len(names) for names in chosen)


def test_prompts_never_judged_do_not_wait_and_bounds_belong_to_what_is_learned() -> None:
    prompts = LearnablePrompts(EIGHT, (0.25, 0.75), 1, 4, lambda step, success: None)
    names, waited = [], 0.0
    for step, success in enumerate(([math.nan, 0.25, 0.75, 0.76], [0.5] * 4, [0.5] * 4, [0.5] * 4)):
        names.append([prompt.id for prompt in prompts.batch(step, 4)])
        waited += prompts.record(step, [success])["passed_over"]
    assert not set(names[0]) & set(names[1])
    assert set(names[0][:3]) <= {*names[2], *names[3]} and names[0][3] not in {*names[2], *names[3]}
    assert waited in (1.0, 2.0), "once in each pass over all"


def test_where_nothing_can_be_learned_the_run_goes_on() -> None:
    prompts = LearnablePrompts(EIGHT, (0.4, 0.6), 1, 4, lambda step, success: None)
    for step in range(9):
        assert len({prompt.id for prompt in prompts.batch(step, 4)}) == 4
        prompts.record(step, [[1.0] * 4])


def test_going_on_chooses_what_would_have_been_chosen() -> None:
    whole, noted = choice(12)
    for cut in (1, 5, 11):
        assert choice(12, history=json.loads(json.dumps(noted[:cut])))[0] == whole[cut:]
    with pytest.raises(ValueError, match="no longer those of its settings"):
        choice(12, history=[{"another": 0.5}])


def test_all_ranks_choose_alike_and_the_success_of_each_goes_to_its_own_prompts() -> None:
    """Rank 0's groups have no spread, so that both sample twice; here is rank 1."""
    noted: list[Mapping[str, float]] = []
    prompts = LearnablePrompts(EIGHT, (0.1, 0.9), 2 * 2, 1, lambda step, success: noted.append(success))
    cfg = replace(TINY, prompts=1, tries=2, success=(0.1, 0.9))
    judge = listed(SPREAD[0], SPREAD[2])
    found = sample_groups(tiny_model(), Watching(tiny_model(), 1, torch.tensor(FLAT)), prompts, judge, cfg, 0)
    names = [prompt.id for slot in range(4) for prompt in prompts.batch(slot, 1)]
    assert [requested[0].id for requested, _ in judge.requests] == names[2:] and found.metrics["passed_over"] == 0.0
    assert noted == [{names[0]: 0.5, names[1]: 0.5, names[2]: pytest.approx(0.4375), names[3]: pytest.approx(0.375)}]


def test_what_makes_no_sense_is_refused_before_weights_are_read(tmp_path: Path) -> None:
    for bounds in ((0.9, 0.1), (-0.1, 0.5), (0.5, 1.5), (0.5, 0.5)):
        wrong = replace(nano.grpo, algorithm=replace(nano.grpo.algorithm, success=bounds))
        with pytest.raises(ValueError, match="two numbers from 0 to 1, the lower one first"):
            check_prompts(wrong, tmp_path, None)
    cfg = replace(nano.grpo.algorithm, success=(0.1, 0.9))
    with pytest.raises(ValueError, match=r"brisque ranges from .*: leave it out"):
        check_prompts(replace(nano.grpo, reward="1.0*ocr+0.2*brisque", algorithm=cfg), tmp_path, None)
    with pytest.raises(ValueError, match="ocr has parts"):
        parts = replace(cfg, parts=(("ned", 1.0),))
        check_prompts(replace(nano.grpo, reward="ocr", algorithm=parts), tmp_path, None)
    sized = PromptSet([replace(prompt, size=(32, 96)) for prompt in EIGHT])
    with pytest.raises(ValueError, match="set success to None"):
        LearnablePrompts(sized, (0.1, 0.9), 1, 2, lambda step, success: None)


def choosing(steps: int) -> Experiment:
    experiment = tiny_grpo(steps)
    assert experiment.prompts is not None
    algorithm = replace(experiment.algorithm, success=(0.3, 0.9))
    few = replace(experiment.prompts, count=5)
    return replace(experiment, reward="ocr_contains", algorithm=algorithm, prompts=few)


@pytest.mark.slow
def test_a_run_that_was_interrupted_goes_on_with_its_choice_bit_for_bit(tmp_path: Path) -> None:
    run(tiny_pretrain(steps=2), tmp_path / "parent")
    with ScorerPool(OcrContains(), workers=1) as pool:
        run(choosing(6), tmp_path / "whole", tmp_path / "parent", pool)
        with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
            cut_after(3, patch)
            run(choosing(6), tmp_path / "cut", tmp_path / "parent", pool)
        run(choosing(6), tmp_path / "cut", tmp_path / "parent", pool)
    whole, cut = (read_success(tmp_path / name, 99) for name in ("whole", "cut"))
    assert whole == cut and len(whole) == 6
    metrics = [
        RunRecord.read(tmp_path / name).metrics().filter(regex="^(?!seconds|cost|images_per|memory)")
        for name in ("whole", "cut")
    ]
    assert metrics[0].equals(metrics[1]) and metrics[0]["passed_over"].sum() > 0
