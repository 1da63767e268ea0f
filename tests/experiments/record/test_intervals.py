"""Intervals keep their promise: 95 % hold the truth, pairing is used, and what was not judged counts nowhere."""

from __future__ import annotations

import math

import numpy as np
import pytest

from experiments.record.intervals import bootstrap_ci, paired_ci, unjudged

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


def few(kind: str, rng: np.random.Generator, prompts: int) -> tuple[np.ndarray, float]:
    """Scores of so many prompts, and their mean in truth: words that are right or wrong, or how much of each is."""
    p = float(kind.split()[1])
    right = rng.random(prompts) < p
    if kind.startswith("beta"):  # nearly all at one end, whatever the mean
        return rng.beta(p, 1 - p, prompts), p
    if kind.startswith("exact"):
        return right.astype(float), p
    return np.where(right, 1.0, rng.beta(2, 2, prompts)), p + (1 - p) / 2


def coverage(kind: str, prompts: int, trials: int) -> tuple[float, float]:
    """(of the mean, of the paired difference of two such): how often the interval holds the truth."""
    rng, mean, paired = np.random.default_rng([prompts, len(kind), round(100 * float(kind.split()[1]))]), 0, 0
    for _ in range(trials):
        before, truth = few(kind, rng, prompts)
        after = np.where(rng.random(prompts) < 0.5, before, few(kind, rng, prompts)[0])  # half come out as before
        low, high = bootstrap_ci(before, 0)
        mean += low - 1e-12 <= truth <= high + 1e-12
        delta, low, high = paired_ci(before, after, 0)
        assert low <= delta <= high and low < high
        paired += low <= 0.0 <= high
    return mean / trials, paired / trials


@pytest.mark.parametrize(
    ("kind", "prompts"),
    [("exact .95", 5), ("exact .9", 10), ("ned .9", 5), ("ned .8", 20), ("beta .95", 30), ("beta .98", 60)],
)
def test_few_prompts_are_covered(kind: str, prompts: int) -> None:
    assert min(coverage(kind, prompts, 300)) >= 0.92


@pytest.mark.slow
def test_every_mean_and_difference_is_covered_at_any_number_of_prompts() -> None:
    kinds = [f"{name} {p}" for name in ("exact", "ned", "beta") for p in (0.05, 0.3, 0.6, 0.8, 0.9, 0.95)]
    found = {(kind, n): coverage(kind, n, 1000) for kind in kinds for n in (2, 5, 10, 20, 30, 60)}
    assert all(min(held) >= 0.92 for held in found.values()), {k: v for k, v in found.items() if min(v) < 0.92}


def test_decibels_of_few_prompts_are_covered() -> None:
    rng = np.random.default_rng(2)
    for prompts in (5, 10, 20):
        held = 0
        for trial in range(400):
            low, high = bootstrap_ci(rng.normal(25.0, 3.0, prompts), seed=trial, n=400)
            held += low <= 25.0 <= high
        assert held / 400 >= 0.92


def test_hand_cases() -> None:
    low, high = bootstrap_ci(np.ones(5), seed=0)  # five right words: Clopper & Pearson
    assert high == 1.0 and low == pytest.approx(0.025 ** (1 / 5))
    assert bootstrap_ci(np.zeros(5), seed=0) == pytest.approx((0.0, 1 - low))
    low, high = bootstrap_ci(np.full(10, 0.25), seed=0)
    assert 0.1 < low < 0.2 and 0.3 < high < 0.45
    delta, low, high = paired_ci(np.full(6, 0.5), np.full(6, 0.5), seed=0)
    assert delta == 0.0 and low == pytest.approx(-high) and -0.7 < low < -0.3  # six prompts do not show that none moves
    delta, low, high = paired_ci(np.array([10.0, 9.0, 4.0]), np.array([12.0, 11.0, 6.0]), seed=0)
    assert delta == pytest.approx(2.0) and math.isnan(low) and math.isnan(high), "after - before, in decibels"


@pytest.mark.parametrize("prompts", [2, 3, 10, 19, 20, 60])
def test_equal_decibels_have_no_interval_instead_of_one_without_width(prompts: int) -> None:
    same, shift = np.full(prompts, 25.1), np.random.default_rng(prompts).normal(25.0, 3.0, prompts)
    assert all(math.isnan(x) for x in bootstrap_ci(same, seed=0))
    for after in (shift, shift + 0.3):  # equal but for rounding
        delta, low, high = paired_ci(shift, after, seed=0)
        assert delta == pytest.approx(after[0] - shift[0]) and math.isnan(low) and math.isnan(high)
    low, high = bootstrap_ci(np.append(same, 25.2), seed=0)
    assert low < high


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
    values = np.random.default_rng(0).normal(size=50)
    assert bootstrap_ci(values, seed=1) == bootstrap_ci(values, seed=1)
    assert bootstrap_ci(values, seed=1) != bootstrap_ci(values, seed=2)


def test_errors_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="same prompt"):
        paired_ci(np.zeros(3), np.zeros(4), seed=0)
    with pytest.raises(ValueError, match="level=1"):
        bootstrap_ci(np.zeros(3), seed=0, level=1.0)
    with pytest.raises(ValueError, match="NaN"):
        bootstrap_ci(np.array([1.0, math.inf]), seed=0)
