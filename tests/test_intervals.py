"""Intervals keep their promise: 95 % hold the truth, pairing is used, and what was not judged counts nowhere."""

from __future__ import annotations

import math

import numpy as np
import pytest

from experiments.intervals import bootstrap_ci, paired_ci, unjudged

NAN = float("nan")


def test_coverage_of_a_share_and_of_a_skewed_mean() -> None:
    random = np.random.default_rng(0)
    held = {"share": 0, "skewed": 0}
    trials = 500
    for trial in range(trials):
        share = (random.random(192) < 0.3).astype(float)
        skewed = random.beta(0.6, 1.4, 192)  # like edit distances: many near 0, some near 1; mean 0.3
        for name, values in (("share", share), ("skewed", skewed)):
            low, high = bootstrap_ci(values, seed=trial, n=400)
            held[name] += low <= 0.3 <= high
    assert all(0.93 <= count / trials <= 0.97 for count in held.values()), held


def test_coverage_of_a_paired_difference() -> None:
    random = np.random.default_rng(1)
    trials, held, width, unpaired_width = 500, 0, 0.0, 0.0
    for trial in range(trials):
        difficulty = random.random(192)
        before = difficulty + 0.1 * random.normal(size=192)
        after = difficulty + 0.05 + 0.1 * random.normal(size=192)
        delta, low, high = paired_ci(before, after, seed=trial, n=400)
        assert low <= delta <= high
        held += low <= 0.05 <= high
        width += high - low
        a, b = bootstrap_ci(before, seed=trial, n=100), bootstrap_ci(after, seed=trial, n=100)
        unpaired_width += math.hypot(a[1] - a[0], b[1] - b[0])
    assert 0.93 <= held / trials <= 0.97, held / trials
    assert width < 0.6 * unpaired_width, "pairing must take the difficulty of prompts out of the interval"


def test_hand_cases() -> None:
    assert bootstrap_ci(np.full(10, 0.25), seed=0) == (0.25, 0.25)
    # the mean of two values resampled is 0, 1/2 or 1 with probability 1/4, 1/2, 1/4: both ends are reached at 95 %
    assert bootstrap_ci(np.array([0.0, 1.0]), seed=0) == (0.0, 1.0)
    assert bootstrap_ci(np.array([0.0, 1.0]), seed=0, level=0.4) == (0.5, 0.5)
    delta, low, high = paired_ci(np.array([0.1, 0.9, 0.4]), np.array([0.3, 1.1, 0.6]), seed=0)
    assert (delta, low, high) == pytest.approx((0.2, 0.2, 0.2)), "after - before, and every prompt gained the same"


def test_large_inputs_use_the_same_distribution_in_pieces() -> None:
    values = np.random.default_rng(0).normal(size=3000)
    low, high = bootstrap_ci(values, seed=0)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_unjudged_prompts_are_left_out_and_counted() -> None:
    before = np.array([0.1, NAN, 0.3, 0.5, NAN])
    after = np.array([0.2, 0.9, NAN, 0.4, NAN])
    whole = bootstrap_ci(np.array([0.1, 0.3, 0.5]), seed=3)
    assert bootstrap_ci(before, seed=3) == whole
    assert paired_ci(before, after, seed=3) == paired_ci(np.array([0.1, 0.5]), np.array([0.2, 0.4]), seed=3)
    assert (unjudged(before), unjudged(after), unjudged(before, after)) == (2, 2, 3)


@pytest.mark.parametrize("values", [[], [NAN, NAN], [0.5], [0.5, NAN]])
def test_undefined_is_nan_and_never_zero(values: list[float]) -> None:
    few = np.array(values)
    assert all(math.isnan(x) for x in (*bootstrap_ci(few, seed=0), *paired_ci(few, few, seed=0)))


def test_seeded() -> None:
    values = np.random.default_rng(0).random(50)
    assert bootstrap_ci(values, seed=1) == bootstrap_ci(values, seed=1)
    assert bootstrap_ci(values, seed=1) != bootstrap_ci(values, seed=2)


def test_errors_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="same prompt"):
        paired_ci(np.zeros(3), np.zeros(4), seed=0)
    with pytest.raises(ValueError, match="level=1"):
        bootstrap_ci(np.zeros(3), seed=0, level=1.0)
    with pytest.raises(ValueError, match="NaN"):
        bootstrap_ci(np.array([1.0, math.inf]), seed=0)
