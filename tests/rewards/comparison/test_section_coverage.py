"""The intervals of every section of a comparison hold the truth as often as they promise, or are not given.

Each study draws fresh scores and answers over the same images. What is counted: (studies with an interval, how many
of those hold the truth).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from preference_data.campaign.quality.reliability import kappa_against_others
from rewards.comparison.accuracy import by_slice
from rewards.comparison.best_of_n_choice import best_of_n
from rewards.comparison.calibration import squared_distance
from rewards.comparison.checks.bias import between_prompts, bias, contextual
from rewards.comparison.correlation import correlation, spearman
from rewards.comparison.probability import _limits, calibration
from rewards.comparison.resample import Clusters, of_prompts
from rewards.comparison.score_table import Table, build
from tests.preference_data.statistics.test_agreement import study
from tests.rewards.comparison.test_reward_certainty import answered

LEAST = 0.92
Found = tuple[float, float, float]
"""(low, high, truth)"""
Study = Callable[[np.random.Generator], Found]


def coverage(one: Study, trials: int) -> tuple[float, float]:
    """(share of studies with an interval, share of these that hold the truth)."""
    rng = np.random.default_rng(trials)
    found = [one(rng) for _ in range(trials)]
    given = [low - 1e-9 <= truth <= high + 1e-9 for low, high, truth in found if not math.isnan(low)]
    return len(given) / trials, float(np.mean(given)) if given else 1.0


def pictures(prompts: int, pairs: int, rewards: tuple[str, ...] = ("r",)) -> Table:
    comparisons, truth = answered(prompts, pairs, 1)
    return build(comparisons, {name: np.zeros(len(truth)) for name in rewards})


def ends(row: Mapping[str, Any], truth: float) -> Found:
    return float(row["low"]), float(row["high"]), truth


def votes(left_N: np.ndarray) -> np.ndarray:
    return np.stack([left_N, np.zeros(len(left_N)), ~left_N], 1).astype(float)


def gain(prompts: int, pairs: int, rare: float) -> Study:
    """Of the best of all images by a reward; gold is normal, or 1 for a share `rare` of images."""
    table = pictures(prompts, pairs, ("gold", "proxy"))
    place = np.unique([p.prompt.id for p in table.images], return_inverse=True)[1]

    def scores(rng: np.random.Generator, place: np.ndarray) -> np.ndarray:
        easy = rng.normal(size=place.max() + 1)[place]
        gold = math.sqrt(0.3) * easy + math.sqrt(0.7) * rng.normal(size=len(place))
        proxy = 0.6 * gold + 0.8 * rng.normal(size=len(place))
        return np.array([gold > _quantile(1 - rare) if rare else gold, proxy], dtype=float)

    many = scores(np.random.default_rng(0), np.repeat(np.arange(100_000), 2 * pairs))
    best = many[1].reshape(-1, 2 * pairs).argmax(1)
    gold = many[0].reshape(-1, 2 * pairs)
    truth = float((gold[np.arange(len(gold)), best].mean() - gold.mean()) / gold.std())

    def one(rng: np.random.Generator) -> Found:
        found = best_of_n(replace(table, score_RP=scores(rng, place)), "gold")["rewards"]
        return ends(found[0]["points"][-1]["gold"], truth) if found else (math.nan, math.nan, truth)

    return one


def _quantile(p: float) -> float:
    from scipy.stats import norm

    return float(norm.ppf(p))


def within(prompts: int, pairs: int, r: float) -> Study:
    table = pictures(prompts, pairs, ("a", "b"))

    def one(rng: np.random.Generator) -> Found:
        a = rng.normal(size=table.score_RP.shape[1])
        b = r * a + math.sqrt(1 - r * r) * rng.normal(size=len(a))
        found = correlation(replace(table, score_RP=np.array([a, b])))
        i, j = found["names"].index("a"), found["names"].index("b")
        return found["within_low"][i][j], found["within_high"][i][j], 2 / math.pi * math.asin(r)

    return one


def slice_of(prompts: int, pairs: int, p: float, related: float) -> Study:
    """Accuracy on every third prompt."""
    table = pictures(prompts, pairs)
    shown = tuple(
        replace(x, prompt=replace(x.prompt, category=("third",))) if k // (2 * pairs) % 3 == 0 else x
        for k, x in enumerate(table.images)
    )
    table = replace(table, images=shown)
    clusters = Clusters(table.prompt_N, 0, 2)

    def one(rng: np.random.Generator) -> Found:
        own = rng.random(prompts) < p
        each = np.where(rng.random(len(table.prompt_N)) < math.sqrt(related), own[table.prompt_N],
                        rng.random(len(table.prompt_N)) < p)  # fmt: skip
        gap = np.where(each, 1.0, -1.0) * table.label_N
        row = next(s for s in by_slice(replace(table, gap_RN=gap[None]), clusters) if s["slice"] == "third")
        return ends(row["accuracy"][0], p)

    return one


def leaning(prompts: int, pairs: int, reward: float, people: float, covariate: str) -> Study:
    """Excess of the reward for the left side, or for what the left image has more of."""
    table = pictures(prompts, pairs)
    clusters = Clusters(table.prompt_N, 0, 2)
    facts = {"brightness": np.tile([1.0, 0.0], len(table.prompt_N))} if covariate == "brightness" else {}

    def one(rng: np.random.Generator) -> Found:
        luck = rng.random(len(table.prompt_N))
        other = np.where(rng.random(len(luck)) < 0.5, luck, rng.random(len(luck)))
        drawn = replace(table, vote_N3=votes(luck < people), gap_RN=np.where(other < reward, 1.0, -1.0)[None])
        row = next(r for r in bias(drawn, facts, clusters)["rows"] if r["covariate"] == covariate)
        return ends(row["excess"], reward - people)

    return one


def context(prompts: int, pairs: int, b: float, common: float) -> Study:
    """A coefficient; a share `common` of the covariate's variance is that of the prompt, whose answers lean one way."""
    table = pictures(prompts, pairs)

    def draw(rng: np.random.Generator, prompt_N: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        n, C = len(prompt_N), prompt_N.max() + 1
        x = math.sqrt(common) * rng.normal(size=C)[prompt_N] + math.sqrt(1 - common) * rng.normal(size=n)
        gap = rng.normal(size=n)
        lean = common * rng.normal(size=C)[prompt_N]
        return gap, x, rng.random(n) < 1 / (1 + np.exp(-(gap + b * x + lean)))

    gap, x, left = draw(np.random.default_rng(0), np.arange(200_000) // pairs)
    many = replace(table, vote_N3=votes(left), prompt_N=np.arange(len(gap)) // pairs)
    truth = contextual(gap, {"x": x}, many)["x"]["value"]

    def one(rng: np.random.Generator) -> Found:
        gap, x, left = draw(rng, table.prompt_N)
        found = contextual(gap, {"x": x}, replace(table, vote_N3=votes(left)))
        return ends(found["x"], truth) if found else (math.nan, math.nan, truth)

    return one


def length(prompts: int, r: float) -> Study:
    """Spearman's rho with the prompt's length, of which there are few different ones."""
    table = pictures(prompts, 1)

    def draw(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        own = rng.normal(size=n)
        return np.clip(np.round(2 * own), -3, 3) + 20, r * own + math.sqrt(1 - r * r) * rng.normal(size=n)

    truth = spearman(*draw(np.random.default_rng(0), 200_000))

    def one(rng: np.random.Generator) -> Found:
        letters, score = draw(rng, prompts)
        shown = tuple(
            replace(x, prompt=replace(x.prompt, text="x" * int(letters[k // 2]))) for k, x in enumerate(table.images)
        )
        rows = between_prompts(replace(table, images=shown, score_RP=np.repeat(score, 2)[None]))
        return ends(rows[0]["prompt_length"], truth) if rows else (math.nan, math.nan, truth)

    return one


def against(units: int, shares: tuple[float, ...], sure: float, raters: int) -> Study:
    """One annotator's kappa against all others."""
    many = study(np.random.default_rng(0), 100_000, raters, shares, sure, 0.2)
    truth = kappa_against_others(many)[0][0].value

    def one(rng: np.random.Generator) -> Found:
        found = kappa_against_others(study(rng, units, raters, shares, sure, 0.2)).get(0)
        return (found[0].low, found[0].high, truth) if found else (math.nan, math.nan, truth)

    return one


def bar(prompts: int, pairs: int, related: float) -> Study:
    """A bar of a reward that is as sure of every pair; the halves have a temperature each, and so a bar."""
    table = pictures(prompts, pairs)
    clusters = Clusters(table.prompt_N, 0, 2)

    def one(rng: np.random.Generator) -> Found:
        own = rng.random(prompts) < 0.75
        n = len(table.prompt_N)
        each = np.where(rng.random(n) < math.sqrt(related), own[table.prompt_N], rng.random(n) < 0.75)
        label = np.where(rng.random(n) < 0.5, 1.0, -1.0)
        drawn = replace(table, vote_N3=votes(label > 0), gap_RN=np.where(each, label, -label)[None])
        rows = calibration(drawn, clusters, 0)
        total = [b for row in rows for b in row["bins"]]
        return total[0]["interval"][0], total[0]["interval"][1], 0.75

    return one


CELLS: dict[str, Callable[[], Study]] = {
    **{f"gain {n} {m} {rare}": partial(gain, n, m, rare)
       for n in (5, 10, 20, 60) for m, rare in ((1, 0.0), (2, 0.0), (2, 0.1), (2, 0.5))},
    **{f"tau {n} {m} {r}": partial(within, n, m, r) for n in (5, 20) for m, r in ((1, 0.9), (2, 0.5))},
    **{f"slice {n} {m} {p} {rel}": partial(slice_of, n, m, p, rel)
       for n in (15, 60) for m, p, rel in ((1, 0.9, 0.0), (4, 0.9, 0.5), (4, 0.6, 0.2))},
    **{f"{what} {n} {m} {a} {b}": partial(leaning, n, m, a, b, what)
       for n in (5, 20) for m, a, b in ((1, 0.9, 0.6), (3, 0.6, 0.5)) for what in ("brightness", "left side")},
    **{f"context {n} {m} {b} {c}": partial(context, n, m, b, c)
       for n, m in ((5, 8), (10, 4), (20, 3), (60, 1)) for b, c in ((0.0, 0.0), (0.8, 0.5), (0.8, 1.0))},
    **{f"length {n} {r}": partial(length, n, r) for n in (10, 20, 60) for r in (0.0, 0.6, 0.95)},
    **{f"against {n} {s} {sure} {k}": partial(against, n, s, sure, k)
       for n in (40, 100) for s in ((0.5, 0.5), (0.4, 0.2, 0.4), (0.8, 0.2)) for sure in (0.5, 0.9)
       for k in (2, 4)},
    **{f"bar {n} {m} {rel}": partial(bar, n, m, rel)
       for n in (10, 30) for m, rel in ((1, 0.0), (5, 0.0), (5, 0.5))},
}  # fmt: skip


@pytest.mark.slow
def test_every_section_s_intervals_hold_the_truth_or_are_not_given() -> None:
    """Where one is given in a quarter of the studies it holds in .92 of these; a given one misses in .08 of all."""
    found = {name: coverage(cell(), 500) for name, cell in CELLS.items()}
    wrong = {k: v for k, v in found.items() if (v[0] >= 0.25 and v[1] < LEAST) or v[0] * (1 - v[1]) > 1 - LEAST}
    assert not wrong, wrong
    silent = {k.split()[0] for k in CELLS} - {k.split()[0] for k, v in found.items() if v[0] > 0.5}
    assert not silent, f"no cell of {silent} has intervals"


@pytest.mark.parametrize("name", ["gain 10 2 0.1", "gain 5 2 0.0", "bar 10 5 0.5", "left side 5 3 0.6 0.5"])
def test_a_few_sections_hold_the_truth(name: str) -> None:
    given, held = coverage(CELLS[name](), 250)
    assert given > 0.1 and held >= 0.9  # 250 studies; the slow test has the bound


def test_few_prompts_have_a_coefficient_without_an_interval() -> None:
    low, high, _ = context(5, 8, 0.8, 1.0)(np.random.default_rng(0))
    assert math.isnan(low) and math.isnan(high)
    low, high, truth = context(10, 4, 0.8, 1.0)(np.random.default_rng(0))
    assert low < truth < high


def test_a_mean_of_mostly_zeros_needs_some_that_are_not() -> None:
    few, enough = np.zeros(12), np.zeros(12)
    few[:2], enough[:3] = np.arange(2) + 1.0, np.arange(3) + 1.0
    assert math.isnan(of_prompts(few).low) and of_prompts(few).value == few.mean()
    assert of_prompts(enough).low < enough.mean() < of_prompts(enough).high
    assert of_prompts(np.array([1.0, 2.0])).low < 1.5  # two that both tell something keep Student's


def test_a_bar_counts_its_own_pairs_and_a_shared_answer_as_its_parts() -> None:
    right, weight = np.repeat([1.0, 0.0], 20), np.ones(40)
    for member, (least, most) in ((np.arange(20), (0.8, 1.0)), (np.arange(20, 40), (0.0, 0.2))):
        low, high = _limits(Clusters(np.arange(40), 0), right, weight, member)
        assert least <= low < high <= most
    found = squared_distance(np.array([0.8, 0.8, 0.5]), np.array([1.0, 0.75, 0.5]))
    assert found == pytest.approx([0.04, 0.75 * 0.04 + 0.25 * 0.64, 0.25])
