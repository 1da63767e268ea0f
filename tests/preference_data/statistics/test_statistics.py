"""Intervals that hold for few prompts, tests that are exact, and ratings that are refused where they are infinite."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest

from preference_data.statistics.ranking import Comparison, Ranking, bradley_terry, davidson, rao_kupper
from preference_data.statistics.score_intervals import auc, bounded_ratio, clustered, rho_interval, student
from preference_data.statistics.shares import (
    Counted,
    adjusted,
    binomial_p,
    difference,
    effective,
    exact,
    needed,
    quantile_t,
    quantile_z,
    share,
    sign_flip,
)
from rewards.comparison.correlation import spearman
from rewards.comparison.resample import Clusters

PROMPTS, ACCURACIES = (5, 10, 20, 30, 60), (0.6, 0.8, 0.9, 0.95)


def right(rng: np.random.Generator, prompts: int, pairs: int, p: float, related: float) -> np.ndarray:
    """Whether each pair is judged rightly, prompt by prompt; `related` is their correlation within a prompt."""
    if related == 1.0:
        return np.repeat((rng.uniform(size=prompts) < p).astype(float), pairs)
    many = (1.0 - related) / related if related else math.inf
    ease = rng.beta(p * many, (1 - p) * many, size=prompts) if related else np.full(prompts, p)
    return (rng.uniform(size=(prompts, pairs)) < ease[:, None]).astype(float).ravel()


def coverage(prompts: int, pairs: int, p: float, related: float, studies: int, seed: int = 0) -> tuple[float, float]:
    """(how often the interval holds p, how much wider than Clopper and Pearson's of as many prompts it ever is)."""
    rng = np.random.default_rng([seed, prompts, pairs, round(100 * p), round(100 * related)])
    cluster, ones = np.repeat(np.arange(prompts), pairs), np.ones(prompts * pairs)
    held, wider = 0, -1.0
    for _ in range(studies):
        found = share(right(rng, prompts, pairs, p, related), ones, cluster)
        low, high = exact(found.value * prompts, prompts)
        held += found.low <= p <= found.high
        wider = max(wider, (found.high - found.low) - (high - low))
        assert found.low < found.high
    return held / studies, wider


def test_single_pairs_have_the_exact_coverage_of_their_interval_and_no_more_width() -> None:
    """One decided pair a prompt: the coverage is a sum over the binomial distribution, not a simulation."""
    stats = pytest.importorskip("scipy.stats")
    for prompts, p in itertools.product((1, 2, 3, *PROMPTS), (0.5, *ACCURACIES, 0.99)):
        counts = np.arange(prompts + 1)
        cluster = np.arange(prompts)
        found = [share((cluster < k).astype(float), np.ones(prompts), cluster) for k in counts]
        held = sum(float(stats.binom.pmf(k, prompts, p)) for k in counts if found[k].low <= p <= found[k].high)
        assert held >= 0.95, (prompts, p, held)
        for k in counts:
            reference = stats.binomtest(int(k), prompts).proportion_ci(method="exact")
            assert (found[k].low, found[k].high) == pytest.approx((reference.low, reference.high), abs=1e-9)


@pytest.mark.parametrize(
    ("prompts", "pairs", "p", "related"), [(5, 3, 0.9, 0.0), (10, 6, 0.95, 0.5), (20, 6, 0.9, 1.0)]
)
def test_pairs_of_a_prompt_are_covered_too(prompts: int, pairs: int, p: float, related: float) -> None:
    held, wider = coverage(prompts, pairs, p, related, 400)
    assert held >= 0.92 and wider <= 1e-9


@pytest.mark.slow
def test_every_share_is_covered_at_any_number_of_prompts() -> None:
    start, found = time.process_time(), {}
    for prompts, p, pairs, related in itertools.product(
        (2, 3, *PROMPTS), (0.5, *ACCURACIES), (1, 2, 6), (0.0, 0.2, 0.5, 1.0)
    ):
        if pairs > 1 or not related:
            found[prompts, p, pairs, related] = coverage(prompts, pairs, p, related, 500)
    print(f"least coverage {min(h for h, _ in found.values())}, {time.process_time() - start:.0f} s")
    assert all(held >= 0.92 for held, _ in found.values()), {k: v for k, v in found.items() if v[0] < 0.92}
    assert all(wider <= 1e-9 for _, wider in found.values())


def difference_coverage(prompts: int, pairs: int, a: float, b: float, alike: float, studies: int) -> float:
    """How often the interval of a - b holds the truth; a share `alike` of the pairs is easy or hard for both."""
    rng = np.random.default_rng([prompts, pairs, round(100 * a), round(100 * b), round(100 * alike)])
    cluster, ones = np.repeat(np.arange(prompts), pairs), np.ones(prompts * pairs)
    held = 0
    for _ in range(studies):
        luck = rng.uniform(size=(2, len(cluster)))
        luck[1] = np.where(rng.uniform(size=len(cluster)) < alike, luck[0], luck[1])
        found = difference((luck[0] < a).astype(float) - (luck[1] < b), ones, cluster)
        held += found.low - 1e-12 <= a - b <= found.high + 1e-12
        assert found.low <= found.value <= found.high and found.low < found.high
    return held / studies


@pytest.mark.parametrize(("prompts", "pairs", "a", "b"), [(5, 1, 0.95, 0.6), (20, 1, 0.9, 0.8), (10, 3, 0.95, 0.9)])
def test_differences_of_two_rewards_are_covered(prompts: int, pairs: int, a: float, b: float) -> None:
    assert all(difference_coverage(prompts, pairs, a, b, alike, 400) >= 0.92 for alike in (0.0, 0.9))


@pytest.mark.slow
def test_every_difference_is_covered_at_any_number_of_prompts() -> None:
    held = {
        (prompts, a, b, pairs, alike): difference_coverage(prompts, pairs, a, b, alike, 300)
        for prompts in PROMPTS
        for a, b in ((0.6, 0.6), (0.8, 0.6), (0.9, 0.8), (0.95, 0.9), (0.95, 0.6))
        for pairs in (1, 6)
        for alike in (0.0, 0.5, 0.9)
    }
    assert all(value >= 0.92 for value in held.values()), {k: v for k, v in held.items() if v < 0.92}


def test_one_prompt_that_holds_most_pairs_is_worth_little() -> None:
    cluster = np.array([0] * 900 + list(range(1, 21)) * 5)
    found = effective(np.random.default_rng(0).integers(0, 2, 1000).astype(float), np.ones(1000), cluster, 0.25)
    assert 1.0 < found < 60.0
    assert effective(np.ones(60), np.ones(60), np.repeat(np.arange(10), 6), 0.0) == pytest.approx(10)  # says nothing


def test_sign_flips_equal_the_enumeration_and_stay_true_when_some_prompts_are_large() -> None:
    rng = np.random.default_rng(0)
    for size in (1, 2, 5, 11):
        sums = rng.normal(size=size)
        signs = np.array(list(itertools.product((1, -1), repeat=size)))
        assert sign_flip(sums) == pytest.approx((np.abs(signs @ sums) >= abs(sums.sum()) - 1e-9).mean())
    assert sign_flip(np.ones(3)) == 0.25 and sign_flip(np.zeros(4)) == 1.0 and math.isnan(sign_flip(np.zeros(0)))
    for scale in (1.0, 50.0):  # also where five prompts have nearly all pairs
        size = np.where(np.arange(40) < 5, scale, 1.0)
        p = np.array([sign_flip(size * rng.choice([-1.0, 1.0], 40)) for _ in range(3000)])
        assert (p < 0.05).mean() <= 0.06 and (p < 0.02).mean() <= 0.027


def test_textbook_values() -> None:
    stats = pytest.importorskip("scipy.stats")
    assert adjusted([0.01, 0.04, 0.03, float("nan")])[:3] == pytest.approx([0.03, 0.06, 0.06])
    assert quantile_t(0.975, 4) == pytest.approx(stats.t.ppf(0.975, 4))
    assert binomial_p(8, 10) == pytest.approx(stats.binomtest(8, 10).pvalue) and binomial_p(0, 0) == 1.0
    # Fleiss: 0.6 against a half with a power of 80 % takes 194 trials; a gap of 0 is never found
    assert needed(0.1, 0.24, 0.25) == pytest.approx(193.8, abs=0.5) and needed(0.0, 0.2, 0.25) == math.inf
    rng = np.random.default_rng(1)  # and 194 trials find it in 80 % of studies
    found = np.abs(rng.binomial(194, 0.6, size=20_000) / 194 - 0.5) > 1.96 * math.sqrt(0.25 / 194)
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)


def test_textbook_formulas_equal_the_libraries_on_random_inputs() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    rng = np.random.default_rng(7)
    for size in (1, 2, 3, 5, 12, 40):
        p = np.round(rng.beta(0.4, 2.0, size), int(rng.integers(1, 9)))  # rounded, so that some are equal
        assert adjusted(list(p)) == pytest.approx(list(multitest.multipletests(p, method="holm")[1]), abs=1e-12)
        holes = np.insert(p, rng.integers(0, size + 1, 3), math.nan)
        found = np.array(adjusted(list(holes)))
        assert np.isnan(found[np.isnan(holes)]).all()
        assert found[~np.isnan(holes)] == pytest.approx(adjusted(list(p)), abs=1e-12)
    assert adjusted([]) == []
    for _ in range(200):
        n = float(rng.uniform(0.5, 200.0)) if rng.random() < 0.5 else float(rng.integers(1, 200))
        hits = float(rng.choice([0.0, n, rng.uniform(0.0, n), math.floor(n)]))
        level = float(rng.choice([0.8, 0.95, 0.99]))
        reference = proportion.proportion_confint(hits, n, 1.0 - level, method="beta")
        assert exact(hits, n, level) == pytest.approx(tuple(map(float, reference)), abs=1e-12)
    from scipy.stats import norm, t

    for p, freedom in zip(rng.uniform(0.001, 0.999, 100), rng.uniform(1.0, 300.0, 100), strict=True):
        assert quantile_t(p, freedom) == pytest.approx(t.ppf(p, freedom), rel=1e-12, abs=1e-12)
        assert quantile_z(p) == pytest.approx(norm.ppf(p), rel=1e-12, abs=1e-12)


def test_resamples_that_are_all_alike_are_no_interval() -> None:
    assert all(math.isnan(v) for v in student(np.full(5, 0.7))) and all(math.isnan(v) for v in student(np.ones(1)))
    clusters = Clusters(np.arange(3), 0)
    found = clusters.estimate(np.ones(3))
    assert found.low < 0.4 and found.high == 1.0  # three right answers are not certainty
    estimate, p = clusters.difference(np.zeros(3))
    assert estimate.low < 0 < estimate.high and p == 1.0


MODELS = {"bradley_terry": bradley_terry, "davidson": davidson, "rao_kupper": rao_kupper}


def bounded(model: str, rows: list[Comparison]) -> bool:
    """Whether the likelihood has a maximum, found by loosening a prior: do the ratings run off with it?"""
    tight, loose = (MODELS[model](rows, prior=prior) for prior in (30.0, 300.0))
    return max(abs(a - b) for a, b in zip(tight.theta, loose.theta, strict=True)) < 0.3


@pytest.mark.parametrize("model", ["davidson", "rao_kupper"])
def test_a_rating_is_refused_exactly_where_the_likelihood_has_no_maximum(model: str) -> None:
    rng = np.random.default_rng(3)
    refused = 0
    for _ in range(60):
        items = int(rng.integers(2, 5))
        rows = []
        for _ in range(int(rng.integers(3, 8))):
            a, b = rng.choice(items, 2, replace=False)
            rows.append(Comparison(f"m{a}", f"m{b}", int(rng.choice([1, 1, -1, 0, 0])), float(rng.integers(1, 4))))
        if not 0 < sum(c.outcome == 0 for c in rows) < len(rows):
            continue
        try:
            found: Ranking | None = MODELS[model](rows)
        except ValueError:
            found, refused = None, refused + 1
        assert (found is not None) == bounded(model, rows), rows
    assert 10 < refused < 55


def test_a_model_that_ties_and_never_loses_has_no_davidson_rating_but_a_bradley_terry_one() -> None:
    rows = [Comparison("a", "b", 1, 2.0), Comparison("a", "b", 0, 1.0)]
    for model in (davidson, rao_kupper):
        with pytest.raises(ValueError, match="'a' never lost"):
            model(rows)
        assert math.isfinite(model(rows, prior=1.0).theta[0])
    assert bradley_terry(rows).difference("a", "b")[0] == pytest.approx(math.log(5))
    rows.append(Comparison("b", "a", 1))
    assert davidson(rows).ratings[0].name == "a"


def test_few_prompts_give_wide_ratings_and_one_gives_none() -> None:
    def rows(prompts: int) -> list[Comparison]:
        return [Comparison("a", "b", o, w, f"p{k}") for k in range(prompts) for o, w in ((1, 12.0), (-1, 8.0))]

    one = bradley_terry(rows(1))
    assert math.isnan(one.ratings[0].low) and (one.ratings[0].rank_low, one.ratings[0].rank_high) == (1, 2)
    assert all(math.isnan(v) for v in one.difference("a", "b")[1:])
    three = bradley_terry(rows(3)).difference("a", "b")
    assert three[1] < 0 < three[2]  # three prompts with equal shares are not certainty
    rng, held = np.random.default_rng(0), dict.fromkeys((3, 5, 8), 0)
    for prompts in held:
        for _ in range(300):
            found = []
            for p in range(prompts):
                wins = int(rng.binomial(20, 1 / (1 + math.exp(-0.5 - 0.6 * rng.normal()))))
                found += [Comparison("a", "b", o, w, f"p{p}") for o, w in ((1, wins), (-1, 20 - wins)) if w]
            low, high = bradley_terry(found).difference("a", "b")[1:]
            held[prompts] += low <= 0.47 <= high  # logit of the mean share
    assert all(value / 300 >= 0.92 for value in held.values()), held


def auc_study(rng: np.random.Generator, prompts: int, pairs: int, area: float) -> Counted:
    """Normal scores of both kinds; a prompt's scores have something in common, which moves both kinds alike."""
    from scipy.stats import norm

    cluster = np.repeat(np.arange(prompts), pairs)
    positive = rng.random(len(cluster)) < 0.6
    score = math.sqrt(0.7) * rng.normal(size=len(cluster)) + math.sqrt(0.3) * rng.normal(size=prompts)[cluster]
    return auc(score + norm.ppf(area) * math.sqrt(2.0) * positive, positive, cluster)


def brier_study(rng: np.random.Generator, prompts: int, pairs: int, accuracy: float) -> tuple[Counted, float]:
    """Predictions of the accuracy, which are right so often, more or less by prompt; and the truth of the mean."""
    ease = rng.beta(4 * accuracy, 4 * (1 - accuracy), prompts)[np.repeat(np.arange(prompts), pairs)]
    right = rng.random(len(ease)) < ease
    each = np.where(right, (1 - accuracy) ** 2, accuracy**2)
    return clustered(each, np.ones(len(each)), np.repeat(np.arange(prompts), pairs)), accuracy * (1 - accuracy)


def measured_coverage(prompts: int, pairs: int, p: float, studies: int) -> dict[str, float]:
    """How often the intervals of an AUC, of a Brier score and of a rank correlation hold the truth."""
    rng = np.random.default_rng([prompts, pairs, round(100 * p)])
    held: dict[str, list[bool]] = {"auc": [], "brier": [], "rho": []}
    r = 2 * p - 1
    truth = 6 / math.pi * math.asin(r / 2)
    for _ in range(studies):
        found = auc_study(rng, prompts, pairs, p)
        if found.value == found.value:
            held["auc"].append(found.low <= p <= found.high and found.low < found.high)
        brier, mean = brier_study(rng, prompts, pairs, p)
        held["brier"].append(brier.low <= mean <= brier.high and brier.low < brier.high)
        x = rng.normal(size=prompts)
        y = r * x + math.sqrt(1 - r * r) * rng.normal(size=prompts)
        limits = rho_interval(spearman(x, y), prompts)
        if not math.isnan(limits[0]):
            held["rho"].append(limits[0] <= truth <= limits[1])
    return {name: float(np.mean(each)) for name, each in held.items() if each}


@pytest.mark.parametrize(("prompts", "pairs", "p"), [(5, 1, 0.95), (10, 4, 0.9), (30, 1, 0.6)])
def test_measured_numbers_of_few_prompts_are_covered(prompts: int, pairs: int, p: float) -> None:
    assert all(held >= 0.92 for held in measured_coverage(prompts, pairs, p, 400).values())


@pytest.mark.slow
def test_every_measured_number_is_covered_at_any_number_of_prompts() -> None:
    found = {(prompts, pairs, p): measured_coverage(prompts, pairs, p, 1000)
             for prompts, pairs, p in itertools.product(PROMPTS, (1, 4), (0.5, *ACCURACIES))}  # fmt: skip
    assert all(min(held.values()) >= 0.92 for held in found.values()), {
        k: v for k, v in found.items() if min(v.values()) < 0.92
    }


def test_an_auc_is_that_of_all_pairs_and_its_limits_those_of_delong() -> None:
    rng = np.random.default_rng(0)
    value, positive = rng.integers(0, 6, 60).astype(float), rng.random(60) < 0.4
    found = auc(value, positive, np.arange(60))
    pairs = np.sign(value[positive][:, None] - value[~positive][None]) / 2 + 0.5
    assert found.value == pytest.approx(pairs.mean(), abs=1e-12)
    # DeLong, DeLong & Clarke-Pearson: the variances of the two kinds' means, here with n and not n - 1
    v = pairs.mean(1).var() / positive.sum() + pairs.mean(0).var() / (~positive).sum()
    rarer = min(positive.sum(), (~positive).sum())
    smooth = (rarer * found.value + 0.5) / (rarer + 1)
    assert found.worth == pytest.approx(
        found.value * (1 - found.value) / (v + smooth * (1 - smooth) / rarer**2), rel=1e-9
    )
    perfect = auc(np.array([0.0, 0, 1, 1, 1]), np.array([0, 0, 1, 1, 1]), np.arange(5))
    assert perfect.value == perfect.high == 1.0 and perfect.low == pytest.approx(exact(2, 2)[0])
    together = auc(value, positive, np.repeat(np.arange(6), 10))
    assert together.value == found.value and together.worth < found.worth
    assert math.isnan(auc(value, np.ones(60), np.arange(60)).value)


@pytest.mark.parametrize(("prompts", "up", "down", "confirmed"), [(503, 0.045, 0.005, 0.8), (128, 0.2, 0.0, 0.6)])
def test_the_interval_of_a_ratio_covers_it_where_little_was_gained(prompts, up, down, confirmed):
    random, hits = np.random.default_rng(3), 0
    for _ in range(60):
        chance = random.random(prompts)
        of = (chance < up) * 1.0 - (chance > 1.0 - down)
        top = (of > 0) * (random.random(prompts) < confirmed)
        _, low, high = bounded_ratio(top, of)
        hits += low <= confirmed * up / (up - down) <= high
    assert hits >= 57


def test_the_interval_of_a_ratio_narrows_and_has_no_end_where_nothing_may_have_been_gained():
    of = np.repeat([1.0, 0.0], [200, 800])
    top = of * (np.arange(1000) % 2)
    value, low, high = bounded_ratio(top, of)
    assert value == 0.5 and 0.38 < low < 0.45 and 0.55 < high < 0.65
    gained_five = np.repeat([1.0, 0.0], [5, 495])
    value, low, high = bounded_ratio(gained_five, gained_five)
    assert value == 1.0 and low < 0.5 and high == math.inf
    assert bounded_ratio(np.repeat([1.0, 0.0], [4, 499]), np.repeat([1.0, 0.0], [5, 498]))[0] == 0.8


def test_a_loss_has_no_share_and_a_ratio_is_of_what_both_judged():
    assert np.isnan(bounded_ratio(np.array([-1.0, 0.0]), np.array([-1.0, -1.0]))).all()
    assert np.isnan(bounded_ratio(np.ones(2), np.zeros(2))).all()
    of = np.repeat([1.0, math.nan], [20, 80])
    top = np.repeat([1.0, 0.0], [16, 84])
    assert bounded_ratio(top, of)[0] == 0.8
