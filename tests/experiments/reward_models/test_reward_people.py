"""People's side of a comparison: every answer counts once, machines are not people, and chance is named."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from experiments.reward_models.people_side import leaderboard, people
from experiments.reward_models.train_reward import train_reward
from preference_data.comparisons import Comparison
from preference_data.records import ImageRef, Prompt, Provenance
from rewards.comparison.calibration import expected_calibration_error, reliability_bins, sigmoid, summary
from rewards.comparison.score_table import build
from rewards.learned.model_card import held_out_interval
from rewards.learned.reward_settings import TrainReward
from rewards.learned.train import Answers
from tests.fixtures.simulated_taste import digest, simulate, write


def two_models(prompts: int, votes: tuple[int, int, int]) -> list[Comparison]:
    """Of every prompt one pair of models A and B; so many people prefer A, call it a tie and prefer B."""
    found = []
    for g in range(prompts):
        a, b = (
            ImageRef(digest(f"{g}/{m}"), f"{g}{m}.png", 64, 64, Provenance(m, "1", 0, 1, 0.0, "r", 0)) for m in "AB"
        )
        said = [word for word, count in zip(("left", "tie", "right"), votes, strict=True) for _ in range(count)]
        turn = {"left": "right", "right": "left", "tie": "tie"}
        for who, word in enumerate(said):
            c = Comparison(Prompt.from_text(f"scene {g}"), a, b, word, f"human:{who}")
            found.append(replace(c, left=b, right=a, outcome=turn[word]) if g % 2 else c)
    return found


def lead(comparisons: list[Comparison]) -> tuple[str, float]:
    """(the rating model, by how much people rate A above B)."""
    pictures = {c.prompt.id + i.sha256 for c in comparisons for i in (c.left, c.right)}
    found = leaderboard(build(comparisons, {"any": np.zeros(len(pictures))}))["people"]
    rating = {r["name"]: r["rating"] for r in found["ratings"]}
    return found["model"], rating["A"] - rating["B"]


@pytest.mark.parametrize("votes", [(3, 0, 2), (6, 0, 4), (15, 0, 10), (3, 0, 1), (1, 0, 1), (2, 0, 3)])
def test_ratings_rest_on_answers_and_do_not_grow_with_answers_a_pair(votes: tuple[int, int, int]) -> None:
    model, gap = lead(two_models(12, votes))
    assert model == lead(two_models(12, (3, 0, 2)))[0] != lead(two_models(12, (3, 1, 2)))[0]
    assert gap == pytest.approx(math.log(votes[0] / votes[2]), abs=1e-4)
    a, _, b = (count / sum(votes) for count in votes)  # the same as one row an item, with its shares
    items = [replace(c, shares=(a, 0.0, b) if c.outcome == "left" else (b, 0.0, a)) for c in two_models(12, (1, 0, 0))]
    assert lead(items) == (model, pytest.approx(gap, abs=1e-4))


def test_two_who_disagree_said_no_tie() -> None:
    """Of twelve pairs with two answers each six go to A, two to B, and over four people disagree: A has 16 of 24."""
    split = [replace(c, prompt=replace(c.prompt, id=f"{n}-{c.prompt.id}"))
             for n, (prompts, votes) in enumerate([(6, (2, 0, 0)), (2, (0, 0, 2)), (4, (1, 0, 1))])
             for c in two_models(prompts, votes)]  # fmt: skip
    model, gap = lead(split)
    assert model == lead(two_models(12, (3, 0, 2)))[0] and gap == pytest.approx(math.log(2), abs=1e-4)


def test_only_what_people_called_a_tie_is_one() -> None:
    """Davidson's model: the shares of A, tie and B are p, nu sqrt(pq) and q, so the gap is the log of A to B."""
    for votes in ((3, 1, 2), (6, 2, 4)):
        assert lead(two_models(12, votes))[1] == pytest.approx(math.log(1.5), abs=1e-3)


def test_machines_change_neither_agreement_nor_ratings() -> None:
    asked = two_models(30, (3, 0, 2))
    asked = [replace(c, outcome={"left": "right", "right": "left"}[c.outcome]) if k % 7 == 0 else c
             for k, c in enumerate(asked)]  # fmt: skip
    machines = [replace(c, annotator=f"machine:{k}", outcome="left") for c in asked[::5] for k in range(3)]
    scores = {"any": np.zeros(60)}
    assert people([*asked, *machines]) == people(asked) == people([*machines, *asked])
    alone, mixed = leaderboard(build(asked, scores)), leaderboard(build([*machines, *asked], scores))
    for ours, theirs in zip(alone["people"]["ratings"], mixed["people"]["ratings"], strict=True):
        assert theirs.pop("name") == ours.pop("name") and theirs == pytest.approx(ours)
    assert "people" not in leaderboard(build(machines, scores))
    assert all(math.isnan(row["value"]) and row["answers"] == 0 for row in people(machines))


@pytest.mark.parametrize("answers", [30, 100, 300])
def test_the_calibration_error_that_chance_gives_is_that_of_a_perfect_reward(answers: int) -> None:
    rng = np.random.default_rng(answers)
    errors, named = [], []
    for _ in range(60):
        gap, ones = rng.normal(size=answers) * 1.5, np.ones(answers)
        won = (rng.uniform(size=answers) < sigmoid(gap)).astype(float)
        errors.append(expected_calibration_error(reliability_bins(sigmoid(gap), won, ones)))
        named.append(summary(gap, won, ones)["ece_by_chance"])
    assert np.mean(named) == pytest.approx(np.mean(errors), rel=0.15) and np.mean(named) > 0.05


def test_training_prints_the_calibration_error_beside_what_chance_gives(tmp_path: Path) -> None:
    pairs = write(simulate(200, seed=3), tmp_path)
    said = train_reward(pairs, tmp_path / "reward", "pixels", TrainReward(heads=0, decays=(0.1,), folds=3))
    held = json.loads((tmp_path / "reward/reward.json").read_text())["held_out"]
    assert 0.05 < held["ece_by_chance"] < 0.4
    line = next(line for line in said if "calibration error" in line)
    assert f"calibration error {held['ece']:.3f} (chance alone gives {held['ece_by_chance']:.3f})" in line
    card = (tmp_path / "reward/model_card.md").read_text()
    assert f"| calibration error that chance alone gives | {held['ece_by_chance']:.3f} |" in card


@pytest.mark.parametrize(("islands", "low"), [(15, 0.782), (5, 0.478)])
def test_answers_that_are_all_right_leave_the_held_out_accuracy_in_doubt(islands: int, low: float) -> None:
    """15 of 15 right is at least .78 by Clopper and Pearson, and 5 groups of three count as 5 of 5."""
    label_N3, none = np.tile([1.0, 0.0, 0.0], (15, 1)), np.zeros(15, int)
    answers = Answers(none, none, label_N3, none, np.zeros(15), np.arange(15) % islands, ("human:ada",))
    trained = SimpleNamespace(rows_held_out=np.arange(15), gap_held_out=np.ones(15), reliability_A=np.ones(1))
    assert held_out_interval(answers, trained) == pytest.approx((low, 1.0), abs=1e-3)  # type: ignore[arg-type]
