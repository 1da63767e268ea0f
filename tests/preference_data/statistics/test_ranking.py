"""Rating models: published examples, closed forms, another optimiser, and intervals that hold as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from preference_data.statistics.ranking import Comparison, Ranking, bradley_terry, davidson, rank_intervals, rao_kupper

PUDDINGS = (
    (1, 2, 19, 22, 16), (1, 3, 16, 19, 12), (2, 3, 19, 19, 10), (1, 4, 18, 23, 13), (2, 4, 23, 19, 9),
    (3, 4, 19, 20, 15), (1, 5, 13, 19, 18), (2, 5, 16, 20, 12), (3, 5, 16, 15, 17), (4, 5, 17, 14, 16),
    (1, 6, 18, 21, 12), (2, 6, 22, 20, 12), (3, 6, 13, 18, 10), (4, 6, 14, 19, 18), (5, 6, 11, 21, 12),
)  # fmt: skip
"""Davidson (1970): brands i and j of chocolate pudding, times i was preferred, j was, and neither."""

TEAMS = ("Milwaukee", "Detroit", "Toronto", "New York", "Boston", "Cleveland", "Baltimore")
BASEBALL = (
    (0, 7, 9, 7, 7, 9, 11), (6, 0, 7, 5, 11, 9, 9), (4, 6, 0, 7, 7, 8, 12), (6, 8, 6, 0, 6, 7, 10),
    (6, 2, 6, 7, 0, 7, 12), (4, 4, 5, 6, 6, 0, 6), (2, 4, 1, 3, 1, 7, 0),
)  # fmt: skip
"""Agresti, Categorical Data Analysis (1990), table 10.10: wins of row over column, American League East, 1987."""
MODELS = {"bradley_terry": bradley_terry, "davidson": davidson, "rao_kupper": rao_kupper}


def puddings() -> list[Comparison]:
    return [
        Comparison(f"{i}", f"{j}", outcome, float(count))
        for i, j, *counts in PUDDINGS
        for outcome, count in zip((1, -1, 0), counts, strict=True)
    ]


def probabilities(model: str, D: float, tie: float) -> tuple[float, float, float]:
    """(i wins, j wins, tie) as the papers write them, in worths p = exp(rating)."""
    p, q = math.exp(D), 1.0
    if model == "davidson":
        total = p + q + tie * math.sqrt(p * q)
        return p / total, q / total, tie * math.sqrt(p * q) / total
    if model == "rao_kupper":
        win, lose = p / (p + tie * q), q / (q + tie * p)
        return win, lose, (tie**2 - 1) * p * q / ((p + tie * q) * (q + tie * p))
    return p / (p + q), q / (p + q), 0.0


def test_bradley_terry_gives_the_published_ratings_and_errors_of_the_baseball_season() -> None:
    games = [Comparison(TEAMS[i], TEAMS[j], 1, float(BASEBALL[i][j])) for i in range(7) for j in range(7) if i != j]
    found = bradley_terry(games)
    published = {
        "Milwaukee": (1.5814, 0.3433), "Detroit": (1.4364, 0.3396), "Toronto": (1.2945, 0.3367),
        "New York": (1.2476, 0.3359), "Boston": (1.1077, 0.3339), "Cleveland": (0.6839, 0.3319),
    }  # fmt: skip
    for team, (rating, error) in published.items():
        value, low, high = found.difference(team, "Baltimore")
        assert (value, (high - low) / 2 / 1.959963985) == pytest.approx((rating, error), abs=5.1e-5)
    assert [r.name for r in found.ratings] == list(TEAMS)


def test_davidson_gives_the_published_worths_of_the_puddings() -> None:
    found = davidson(puddings())
    worth = dict(zip(found.names, np.exp(found.theta) / np.exp(found.theta).sum(), strict=True))
    # printed after a few of its author's iterations, hence not more digits
    assert [worth[b] for b in "123456"] == pytest.approx([0.1388, 0.1730, 0.1617, 0.1654, 0.1587, 0.2024], abs=6e-5)
    assert found.tie is not None and found.tie[0] == pytest.approx(0.7468, abs=6e-5)


@pytest.mark.parametrize("model", list(MODELS))
def test_estimates_solve_the_likelihood_equations_as_the_papers_write_them(model: str) -> None:
    """At the maximum no small step of any parameter raises the likelihood; the derivatives are taken numerically."""
    data = puddings()
    found = MODELS[model](data)
    tie = found.tie[0] if found.tie else 0.0

    def likelihood(theta: np.ndarray, tie: float) -> float:
        place = {name: i for i, name in enumerate(found.names)}
        total = 0.0
        for c in data:
            win, lose, tied = probabilities(model, theta[place[c.a]] - theta[place[c.b]], tie)
            share = math.log(win) / 2 + math.log(lose) / 2 if model == "bradley_terry" else math.log(tied or 1.0)
            total += c.weight * {1: math.log(win), -1: math.log(lose), 0: share}[c.outcome]
        return total

    theta, step = np.array(found.theta), 1e-4
    assert likelihood(theta, tie) == pytest.approx(found.log_likelihood, abs=1e-8)
    for i in range(len(theta)):
        up, down = theta.copy(), theta.copy()
        up[i] += step
        down[i] -= step
        assert (likelihood(up, tie) - likelihood(down, tie)) / (2 * step) == pytest.approx(0.0, abs=2e-5)
    if found.tie:
        slope = (likelihood(theta, tie + step) - likelihood(theta, tie - step)) / (2 * step)
        assert slope == pytest.approx(0.0, abs=2e-5)


@pytest.mark.parametrize("model", list(MODELS))
def test_estimates_equal_those_of_another_optimiser(model: str) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    data = puddings()
    found = MODELS[model](data)
    place = {name: i for i, name in enumerate(found.names)}

    def cost(x: np.ndarray) -> float:
        tie = math.exp(x[-1]) + (1.0 if model == "rao_kupper" else 0.0)
        theta, total = np.append(x[:-1], -x[:-1].sum()), 0.0
        for c in data:
            win, lose, tied = probabilities(model, theta[place[c.a]] - theta[place[c.b]], tie)
            half = model == "bradley_terry"
            total -= c.weight * (
                math.log(win) if c.outcome > 0 else math.log(lose) if c.outcome < 0
                else (math.log(win) + math.log(lose)) / 2 if half else math.log(tied)
            )  # fmt: skip
        return total

    best = optimize.minimize(cost, np.zeros(6), method="BFGS", options={"gtol": 1e-7})
    assert found.theta == pytest.approx(np.append(best.x[:-1], -best.x[:-1].sum()), abs=1e-6)
    if found.tie:
        other = math.exp(best.x[-1]) + (1.0 if model == "rao_kupper" else 0.0)
        assert found.tie[0] == pytest.approx(other, abs=2e-6)


def test_two_items_have_their_closed_forms() -> None:
    rows = [Comparison("a", "b", 1, 30), Comparison("a", "b", -1, 10), Comparison("a", "b", 0, 20)]
    assert bradley_terry(rows[:2]).difference("a", "b")[0] == pytest.approx(math.log(3), abs=1e-9)
    low, high = bradley_terry(rows[:2]).difference("a", "b")[1:]
    assert (high - low) / 2 == pytest.approx(1.959963985 * math.sqrt(1 / 30 + 1 / 10), abs=1e-6)
    found = davidson(rows)
    assert found.tie is not None
    assert (found.difference("a", "b")[0], found.tie[0]) == pytest.approx((math.log(3), 20 / math.sqrt(300)), abs=1e-8)
    kupper = rao_kupper(rows)
    assert kupper.tie is not None
    fitted = probabilities("rao_kupper", kupper.difference("a", "b")[0], kupper.tie[0])
    assert fitted == pytest.approx((0.5, 1 / 6, 1 / 3), abs=1e-8)


def simulate(model: str, theta: np.ndarray, tie: float, each: int, random: np.random.Generator) -> list[Comparison]:
    """`each` comparisons of every two items, from the model."""
    rows = []
    for i in range(len(theta)):
        for j in range(i):
            counts = random.multinomial(each, probabilities(model, theta[i] - theta[j], tie))
            rows += [Comparison(f"m{i}", f"m{j}", o, int(n)) for o, n in zip((1, -1, 0), counts, strict=True) if n]
    return rows


def truth_in(found: Ranking, theta: np.ndarray) -> list[bool]:
    place = {r.name: r for r in found.ratings}
    return [place[f"m{i}"].low <= theta[i] <= place[f"m{i}"].high for i in range(len(theta))]


@pytest.mark.parametrize(("model", "tie"), [("bradley_terry", 0.0), ("davidson", 0.8), ("rao_kupper", 1.6)])
def test_intervals_hold_the_truth_as_often_as_they_say(model: str, tie: float) -> None:
    theta = np.array([-1.0, -0.4, 0.1, 0.5, 0.8])
    random = np.random.default_rng(5)
    held, ties, ranks, means = [], [], [], []
    order = {i: 1 + int((theta > theta[i]).sum()) for i in range(5)}
    for _ in range(400):
        found = MODELS[model](simulate(model, theta, tie, 40, random))
        held += truth_in(found, theta)
        means.append(found.theta)
        ties.append(found.tie is None or found.tie[1] <= tie <= found.tie[2])
        ranks += [r.rank_low <= order[int(r.name[1])] <= r.rank_high for r in found.ratings]
    assert np.mean(means, axis=0) == pytest.approx(theta - theta.mean(), abs=0.04)
    assert 0.93 <= np.mean(held) <= 0.97
    assert not tie or 0.92 <= np.mean(ties) <= 0.98  # 400 intervals instead of 2,000
    assert np.mean(ranks) >= 0.95  # ranks are whole numbers: their intervals hold at least as often


def test_clusters_widen_intervals_where_answers_about_one_prompt_agree() -> None:
    random = np.random.default_rng(0)
    covered = {True: [], False: []}
    for _ in range(200):
        rows = []
        for p in range(60):  # eight answers that all follow the prompt's own taste
            taste = 1 if random.random() < 0.5 else -1
            rows += [Comparison("a", "b", taste if random.random() < 0.95 else -taste, 1.0, f"p{p}") for _ in range(8)]
        for clustered in covered:
            used = rows if clustered else [Comparison(c.a, c.b, c.outcome) for c in rows]
            low, high = bradley_terry(used).difference("a", "b")[1:]
            covered[clustered].append(low <= 0 <= high)
    assert np.mean(covered[True]) > 0.91 > 0.75 > np.mean(covered[False])


def test_a_maker_that_never_loses_is_named_and_a_prior_makes_it_finite() -> None:
    rows = [Comparison("best", "b", 1, 5), Comparison("b", "c", 1, 3), Comparison("b", "c", -1, 2)]
    with pytest.raises(ValueError, match="'best' never lost"):
        bradley_terry(rows)
    found = bradley_terry(rows, prior=1.0)
    assert found.ratings[0].name == "best" and math.isfinite(found.ratings[0].high)
    with pytest.raises(ValueError, match="never compared"):
        bradley_terry([Comparison("a", "b", 0), Comparison("c", "d", 0)])


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="itself"):
        Comparison("a", "a", 1)
    with pytest.raises(ValueError, match="outcome"):
        Comparison("a", "b", 2)
    with pytest.raises(ValueError, match="needs ties"):
        davidson([Comparison("a", "b", 1), Comparison("a", "b", -1)])
    with pytest.raises(ValueError, match="no comparison"):
        bradley_terry([])


def test_ranks_are_certain_when_ratings_are_far_apart_and_open_when_they_are_equal() -> None:
    far = rank_intervals(np.array([3.0, 1.0, -4.0]), np.eye(3) * 0.01)
    assert far[0].tolist() == far[1].tolist() == [1, 2, 3]
    near = rank_intervals(np.zeros(3), np.eye(3))
    assert near[0].tolist() == [1, 1, 1] and near[1].tolist() == [3, 3, 3]


def test_order_of_sides_and_of_rows_does_not_matter() -> None:
    rows = puddings()
    turned = [Comparison(c.b, c.a, -c.outcome, c.weight) for c in reversed(rows)]
    for model in MODELS.values():
        assert model(rows).theta == pytest.approx(model(turned).theta, abs=1e-9)
