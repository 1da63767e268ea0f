"""Simulated people look at pixels alone, differ from one another, and prefer what the taste says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from base_model.data.rendered_text import Scene, render
from experiments.preferences.simulated_people import (
    FACTS,
    TEMPERATURE,
    WEIGHTS,
    Person,
    appearance,
    facts,
    people,
    utility,
    wins,
)  # fmt: skip

LIKED = Scene("ABC", "", "sans", "large", "blue", "yellow", "middle", "centre")
WEB = ("red", "green", "black", "blue")


@pytest.mark.parametrize("change", [{"ink": "red"}, {"background": "pink"}, {"size": "small"}, {"ink": "green"}])
def test_what_is_liked_is_liked_whatever_is_written(change):
    other = replace(LIKED, **change)
    assert utility(facts(render(LIKED))) > utility(facts(render(other))) + 0.02
    assert np.allclose(facts(render(LIKED))[1:], facts(render(replace(LIKED, word="OXO")))[1:], atol=0.06)


@pytest.mark.parametrize("ink", WEB)
def test_the_look_of_a_rendered_image_is_the_one_that_was_asked_for(ink):
    for ground in ("white", "pink", "grey", "yellow"):
        seen = appearance(render(replace(LIKED, ink=ink, background=ground, size="medium")))
        assert (seen["ink"], seen["ground"]) == (ink, ground)


def test_an_image_of_nothing_has_facts_too():
    nothing = np.full((3, 32, 96), 200, np.uint8)
    values = facts(nothing)
    assert np.isfinite(values).all() and values[FACTS.index("height")] == 0.0


def test_people_are_drawn_around_the_taste_and_others_are_others():
    drawn = people(400, seed=1)
    assert people(2, seed=1)[1] == people(2, seed=1)[1] and people(2, seed=1)[0] != people(2, seed=2)[0]
    ratios = np.log(np.array([one.weights for one in drawn]) / WEIGHTS)
    assert np.allclose(ratios.mean(0), 0.0, atol=0.06) and np.allclose(ratios.std(0), 0.35, atol=0.05)
    assert all(one.name.startswith("machine:simulated-") for one in drawn)


def test_an_answer_is_noisy_and_the_more_certain_the_further_apart_two_images_are():
    person = Person("machine:x", (TEMPERATURE, 0.0, 0.0))
    near, far = np.array([1.0, 0, 0]), np.zeros(3)
    assert person.probability(near, far) == pytest.approx(1 / (1 + np.exp(-1.0)))
    assert person.probability(far, near) == pytest.approx(1 - person.probability(near, far))


def test_wins_are_shares_of_judges_and_a_tie_is_half():
    tall, blue = Person("a", (1.0, 0, 0)), Person("b", (0, 1.0, 0))
    after = np.array([[1.0, 0, 0], [0.5, 1.0, 0], [0, 0, 0]])
    before = np.array([[0.5, 1.0, 0], [0.5, 0.0, 0], [1, 1, 0]])
    assert wins(after, before, [tall, blue]).tolist() == [0.5, 0.75, 0.0]
