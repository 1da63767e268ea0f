"""The recogniser's own probability of the words: against a sum over all paths, and on real images."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from base_model.data.rendered_text import render, scene
from base_model.seeding import numpy_generator
from preference_data.records import Prompt
from rewards.text.ocr import Ocr
from rewards.text.ocr_likelihood import OcrLikelihood, ctc_likelihood


def by_all_paths(probabilities_LK: np.ndarray, target: tuple[int, ...]) -> float:
    """(1) as it is written: every path whose repeats and blanks collapse to the target."""
    total = 0.0
    for path in itertools.product(range(probabilities_LK.shape[1]), repeat=len(probabilities_LK)):
        if tuple(k for k, _ in itertools.groupby(path) if k) == target:
            total += float(np.prod([p[k] for p, k in zip(probabilities_LK, path, strict=True)]))
    return total


@pytest.mark.parametrize("target", [(1,), (1, 2), (1, 1), (2, 1, 2), (3, 3, 1), (1, 2, 3, 1, 2, 3)])
def test_likelihood_is_the_sum_over_all_paths(target):
    for seed in range(3):
        p = np.random.default_rng(seed).dirichlet(np.ones(4), 5)
        expected = by_all_paths(p, target) ** (1.0 / len(target))
        assert ctc_likelihood(p, [[k] for k in target]) == pytest.approx(expected, rel=1e-9)
    assert ctc_likelihood(p, []) == pytest.approx(by_all_paths(p, ()), rel=1e-9)


def test_characters_that_count_as_equal_share_their_probability():
    p = np.random.default_rng(0).dirichlet(np.ones(4), 6)
    merged = np.stack([p[:, 0], p[:, 1] + p[:, 3], p[:, 2]], 1)
    assert ctc_likelihood(p, [[1, 3], [2]]) == pytest.approx(ctc_likelihood(merged, [[1], [2]]), rel=1e-9)
    silent = np.stack([p[:, 0] + p[:, 3], p[:, 1], p[:, 2]], 1)
    assert ctc_likelihood(p, [[1], [2]], (0, 3)) == pytest.approx(ctc_likelihood(silent, [[1], [2]]), rel=1e-9)


@pytest.fixture(scope="module")
def judged():
    scenes = [scene(numpy_generator(5, i, 0, "likelihood"), 4) for i in range(24)]
    pictures = np.stack([render(s) for s in scenes]).astype(np.float32) / 255.0
    prompts = [Prompt.from_text(s.caption) for s in scenes]
    return prompts, pictures, OcrLikelihood().load()


def test_it_reads_as_the_ocr_reward_does(judged):
    prompts, pictures, scorer = judged
    mine, theirs = scorer(prompts, pictures), Ocr().load()(prompts, pictures)
    assert mine.parts["ned_score"].tolist() == theirs.value_B.tolist()
    assert np.allclose(mine.value_B, 0.5 * (mine.parts["ned_score"] + mine.parts["likelihood"]))
    assert np.median(mine.parts["likelihood"]) > 0.9, "clean words are sure"


def test_it_sees_what_the_edit_distance_does_not(judged):
    """A word that gets fainter is read until it is not; its likelihood falls all the way."""
    prompts, pictures, scorer = judged
    ground = np.median(pictures, axis=(2, 3), keepdims=True)
    noise = np.random.default_rng(0).standard_normal(pictures.shape).astype(np.float32)
    means, steps = [], []
    for share in (0.0, 0.1, 0.15, 0.2, 0.3):
        worse = np.clip((1 - share) * pictures + share * (ground + noise), 0.0, 1.0)
        scores = scorer(prompts, worse)
        means.append(float(scores.parts["likelihood"].mean()))
        steps.append(len(set(scores.parts["ned_score"].round(6))) < len(set(scores.parts["likelihood"].round(6))))
    assert means == sorted(means, reverse=True) and means[0] - means[-1] > 0.3
    assert all(steps)


def test_a_blank_picture_scores_zero_and_another_word_little(judged):
    prompts, pictures, scorer = judged
    blank = scorer(prompts[:2], np.ones_like(pictures[:2]))
    assert blank.value_B.tolist() == [0.0, 0.0]
    swapped = scorer(prompts[1:] + prompts[:1], pictures)
    assert np.median(swapped.parts["likelihood"]) < 0.05
