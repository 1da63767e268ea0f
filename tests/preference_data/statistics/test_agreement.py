"""Agreement coefficients against their authors' worked examples, reference implementations and simple truths."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from preference_data.statistics.agreement import (
    Agreement,
    Answer,
    Coded,
    cohen_kappa,
    gwet_ac1,
    krippendorff_nominal,
    krippendorff_ordinal,
)

OBSERVERS = (
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
)
"""Krippendorff (2011), Computing Krippendorff's Alpha-Reliability, example C: 4 observers, 12 units."""
FIVE = {f"{i}": i for i in range(1, 6)}
COHEN = ((88, 14, 18), (10, 40, 10), (2, 6, 12))
"""Cohen (1960), table 1, times 200: kappa .492"""
GWET = ((118, 5), (2, 0))
"""Gwet (2008), two raters and 125 units: AC1 .9408 where kappa is -.0234"""


def observers() -> list[Answer]:
    return [
        (unit, rater, value)
        for rater, line in enumerate(OBSERVERS)
        for unit, value in enumerate(line.split())
        if value != "."
    ]


def crossed(table: tuple[tuple[int, ...], ...]) -> list[Answer]:
    """Answers of raters 0 and 1 that make this table."""
    cells = [(i, j) for i, row in enumerate(table) for j, count in enumerate(row) for _ in range(count)]
    return [answer for unit, (i, j) in enumerate(cells) for answer in ((unit, 0, f"c{i}"), (unit, 1, f"c{j}"))]


def test_alpha_gives_krippendorffs_own_example() -> None:
    nominal, ordinal = krippendorff_nominal(observers()), krippendorff_ordinal(observers(), FIVE)
    assert round(nominal.value, 3) == 0.743 and round(ordinal.value, 3) == 0.815
    # by hand, from the coincidence matrix that the paper prints: 40 pairable values, 9 + 13 + 10 + 5 + 3
    agreeing = Fraction(7) + 10 + 8 + 4 + 3
    chance = sum(Fraction(n * (n - 1)) for n in (9, 13, 10, 5, 3))
    exact = (39 * agreeing - chance) / (40 * 39 - chance)
    assert nominal.value == pytest.approx(float(exact), abs=1e-9)
    assert (nominal.units, nominal.answers) == (11, 40)


def test_alpha_equals_the_reference_implementation() -> None:
    reference = pytest.importorskip("krippendorff")
    random = np.random.default_rng(0)
    for _ in range(5):
        ratings = random.integers(1, 6, size=(6, 40)).astype(float)
        ratings[1:] = np.where(random.random((5, 40)) < 0.6, ratings[0], ratings[1:])
        ratings[random.random((6, 40)) < 0.3] = np.nan
        given = [(u, r, f"{int(v)}") for (r, u), v in np.ndenumerate(ratings) if not math.isnan(v)]
        nominal = reference.alpha(reliability_data=ratings, level_of_measurement="nominal")
        assert krippendorff_nominal(given).value == pytest.approx(nominal, abs=1e-6)
        ordinal = reference.alpha(reliability_data=ratings, level_of_measurement="ordinal")
        assert krippendorff_ordinal(given, FIVE).value == pytest.approx(ordinal, abs=1e-6)


def test_kappa_gives_cohens_own_example() -> None:
    found = cohen_kappa(crossed(COHEN))
    assert found.value == pytest.approx((0.70 - 0.41) / (1 - 0.41), abs=1e-9) and round(found.value, 3) == 0.492
    assert found.observed == pytest.approx(0.70) and found.units == 200


def test_ac1_gives_gwets_own_example_where_kappa_fails() -> None:
    found, kappa = gwet_ac1(crossed(GWET)), cohen_kappa(crossed(GWET))
    chance = 2 * 0.972 * 0.028
    assert found.value == pytest.approx((0.944 - chance) / (1 - chance), abs=1e-9) and round(found.value, 4) == 0.9408
    assert round(kappa.value, 4) == -0.0234


def test_ac1_counts_what_one_person_alone_answered_as_chance() -> None:
    """Of each item the shares of its answers, paired or not: here a half each, so agreeing in one of two is chance."""
    given = [("1", "ann", "a"), ("1", "bob", "a"), ("2", "ann", "a"), ("2", "bob", "b")]
    assert gwet_ac1([*given, ("3", "ann", "b")]).value == pytest.approx(0.0, abs=1e-12)
    assert gwet_ac1(given).value == pytest.approx((0.5 - 0.375) / (1.0 - 0.375))


@pytest.mark.slow  # its imports
def test_kappa_and_ac1_equal_the_reference_implementation() -> None:
    raw = pytest.importorskip("irrCAC.raw")
    pandas = pytest.importorskip("pandas")
    random = np.random.default_rng(1)
    ratings = random.integers(0, 4, size=(60, 3))
    ratings[:, 1:] = np.where(random.random((60, 2)) < 0.7, ratings[:, [0]], ratings[:, 1:])
    given = [(u, r, f"{v}") for (u, r), v in np.ndenumerate(ratings)]
    frame = pandas.DataFrame(ratings.astype(str))
    gwet = raw.CAC(frame, digits=10).gwet()["est"]["coefficient_value"]
    assert gwet_ac1(given).value == pytest.approx(gwet, abs=1e-6)
    pairs = [
        raw.CAC(frame[[a, b]], digits=10).conger()["est"]["coefficient_value"] for a, b in ((0, 1), (0, 2), (1, 2))
    ]
    assert cohen_kappa(given).value == pytest.approx(float(np.mean(pairs)), abs=1e-6)  # Conger's is Cohen's for two


def coefficients(answers: list[Answer]) -> list[Agreement]:
    return [f(answers) for f in (krippendorff_nominal, krippendorff_ordinal, cohen_kappa, gwet_ac1)]


def test_perfect_agreement_is_1_and_opposite_answers_are_below_0() -> None:
    sides = ("first", "second", "first", "second", "second", "first") * 4
    other = {"first": "second", "second": "first"}
    same = [(u, r, side) for u, side in enumerate(sides) for r in "ab"]
    opposite = [(u, r, side if r == "a" else other[side]) for u, side in enumerate(sides) for r in "ab"]
    for one, two in zip(coefficients(same), coefficients(opposite), strict=True):
        assert one.value == pytest.approx(1.0) and one.observed == 1.0
        assert two.value < 0 and two.high < 0 and two.observed == 0.0


def test_two_people_with_fixed_opposite_answers_are_below_0_too() -> None:
    answers = [(u, r, "first" if r == "a" else "second") for u in range(8) for r in "ab"]
    nominal, ordinal, _, ac1 = coefficients(answers)
    assert nominal.value == pytest.approx(-1 + 1 / 8) and ordinal.value < 0 and ac1.value == pytest.approx(-1.0)


def test_two_opposite_answers_to_the_only_item_are_no_more_than_chance() -> None:
    """Alpha and kappa take chance from these two answers, and one of each makes 0; Gwet's chance is another one.

    Alpha is below 0 from the second item on, kappa from the second that is opposite the other way.
    """
    only: list[Answer] = [(0, "a", "first"), (0, "b", "second")]
    nominal, ordinal, kappa, ac1 = coefficients(only)
    assert nominal.value == ordinal.value == kappa.value == 0.0 and ac1.value == pytest.approx(-1.0)
    assert all(found.observed == 0.0 for found in (nominal, ordinal, kappa, ac1))
    nominal, ordinal, kappa, ac1 = coefficients([*only, (1, "a", "second"), (1, "b", "first")])
    assert nominal.value == ordinal.value == pytest.approx(-0.5) and kappa.value == pytest.approx(-1.0)
    nominal, ordinal, kappa, _ = coefficients([*only, (1, "a", "first"), (1, "b", "second")])
    assert nominal.value == ordinal.value == pytest.approx(-0.5) and kappa.value == 0.0


def test_random_answers_agree_as_chance_does_and_intervals_hold_it() -> None:
    random = np.random.default_rng(2)
    held = []
    for _ in range(25):
        answers = [(u, r, str(random.choice(["first", "tie", "second"]))) for u in range(80) for r in range(3)]
        held += [c.low <= 0 <= c.high for c in coefficients(answers)]
    assert 0.90 <= np.mean(held) <= 0.99


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ([], "no item has two answers"),
        ([(0, "a", "first"), (1, "b", "first")], "no item has two answers"),
        ([(u, r, "tie") for u in range(4) for r in "ab"], "every answer is 'tie'"),
    ],
)
def test_undefined_says_why_and_is_no_number(answers: list[Answer], why: str) -> None:
    found = krippendorff_nominal(answers)
    assert math.isnan(found.value) and math.isnan(found.low) and why in found.why
    kappa = cohen_kappa(answers)
    assert math.isnan(kappa.value) and kappa.why.startswith("undefined")
    if answers:
        assert "undefined" in gwet_ac1(answers).why


def test_ordinal_distance_forgives_a_step_more_than_a_reversal() -> None:
    near = [(u, r, "first" if r == "a" or u % 2 else "tie") for u in range(20) for r in "ab"]
    near += [(u, r, "second") for u in range(20, 30) for r in "ab"]
    far = [(u, r, "second" if v == "tie" else v) for u, r, v in near]
    assert krippendorff_ordinal(near).value > krippendorff_ordinal(far).value
    assert krippendorff_nominal(near).value < krippendorff_ordinal(near).value


def test_both_good_and_both_bad_differ_as_names_and_not_as_a_preference() -> None:
    answers = [(u, r, "both_good" if r == "a" else "both_bad") for u in range(5) for r in "ab"]
    answers += [(u, r, "first") for u in range(5, 10) for r in "ab"]
    assert krippendorff_nominal(answers).value < 0.5 and krippendorff_ordinal(answers).value == pytest.approx(1.0)


def test_mistakes_are_refused() -> None:
    with pytest.raises(ValueError, match="two answers about one item"):
        krippendorff_nominal([(0, "a", "first"), (0, "a", "second")])
    with pytest.raises(ValueError, match="no place"):
        krippendorff_ordinal([(0, "a", "perhaps"), (0, "b", "first")])


def study(
    rng: np.random.Generator, units: int, raters: int, shares: tuple[float, ...], sure: float, missing: float
) -> Coded:
    """Each answer is the unit's own category with probability `sure`, else any by its share; some are missing."""
    own = rng.choice(len(shares), p=shares, size=(units, 1))
    any_of = rng.choice(len(shares), p=shares, size=(units, raters))
    said = np.where(rng.random((units, raters)) < sure, own, any_of)
    unit, rater = np.nonzero(rng.random((units, raters)) >= missing)
    names = tuple(str(i) for i in range(len(shares)))
    return Coded(unit, rater, said[unit, rater], names, tuple(range(raters)))


def four(answers: Coded) -> list[Agreement]:
    places = {name: i for i, name in enumerate(answers.names)}
    return [krippendorff_nominal(answers), krippendorff_ordinal(answers, places), cohen_kappa(answers),
            gwet_ac1(answers, len(answers.names))]  # fmt: skip


def coverage(kind: tuple[tuple[float, ...], float, int, float], units: int, trials: int) -> list[tuple[float, float]]:
    """For each of the four coefficients (how often an interval is given, how often that holds the truth)."""
    shares, sure, raters, missing = kind
    rng = np.random.default_rng([units, round(100 * sure), raters, len(shares), round(100 * shares[0])])
    truth = [c.value for c in four(study(rng, 100_000, raters, shares, sure, missing))]
    printed, held = np.zeros(4), np.zeros(4)
    for _ in range(trials):
        for k, found in enumerate(four(study(rng, units, raters, shares, sure, missing))):
            if math.isfinite(found.low):
                printed[k] += 1
                held[k] += found.low - 1e-9 <= truth[k] <= found.high + 1e-9
                assert found.low - 1e-9 <= found.value <= found.high + 1e-9 and found.low < found.high
            else:
                assert "too few items" in found.why or "undefined" in found.why
    return [(p / trials, h / p if p else 1.0) for p, h in zip(printed, held, strict=True)]


@pytest.mark.parametrize(
    ("shares", "sure", "raters", "missing", "units"),
    [((0.5, 0.5), 0.9, 2, 0.0, 20), ((0.4, 0.2, 0.4), 0.8, 3, 0.0, 30), ((0.8, 0.2), 0.8, 3, 0.3, 60)],
)
def test_intervals_of_few_items_hold_the_truth(
    shares: tuple[float, ...], sure: float, raters: int, missing: float, units: int
) -> None:
    for printed, held in coverage((shares, sure, raters, missing), units, 150):
        assert held >= 0.9 or printed < 0.3  # 150 trials; the slow test has the bound


@pytest.mark.slow
def test_every_interval_of_agreement_holds_the_truth_or_is_not_given() -> None:
    """Where it is given in a quarter of the studies it holds in .92 of these; a given one misses in .08 of all."""
    usual = ((0.5, 0.5), (0.4, 0.2, 0.4), (0.8, 0.2), (0.95, 0.05))
    cells = [((shares, sure, raters, missing), units)
             for shares, sure, (raters, missing) in itertools.product(usual, (0.0, 0.8), ((2, 0.0), (3, 0.3)))
             for units in (5, 20, 60)]  # fmt: skip
    cells += [((shares, sure, raters, 0.0), units) for sure in (0.5, 0.95) for shares, raters, units in (
        ((0.2,) * 5, 8, 30), ((0.7, 0.15, 0.15), 3, 120), ((0.45, 0.1, 0.45), 3, 30), ((0.8, 0.2), 2, 120),
        ((0.8, 0.2), 3, 60), ((0.95, 0.05), 3, 300))]  # fmt: skip
    found = {(*kind, units, k): each for kind, units in cells for k, each in enumerate(coverage(kind, units, 600))}
    assert all(held >= 0.92 for printed, held in found.values() if printed >= 0.25), {
        k: v for k, v in found.items() if v[1] < 0.92 and v[0] >= 0.25
    }
    assert all(printed * (1 - held) <= 0.08 for printed, held in found.values())


def test_lopsided_answers_have_no_interval_and_say_how_many_are_missing() -> None:
    answers = study(np.random.default_rng(0), 60, 3, (0.95, 0.05), 0.5, 0.0)
    nominal, _, kappa, ac1 = four(answers)
    for found in (nominal, kappa):
        assert math.isfinite(found.value) and math.isnan(found.low) and math.isnan(found.high)
        assert "too few items" in found.why and "5 are needed" in found.why
    assert ac1.low < ac1.value < ac1.high and ac1.why == ""  # its chance does not rest on the rare answers


@pytest.mark.parametrize("coefficient", [krippendorff_nominal, cohen_kappa, gwet_ac1])
def test_intervals_leave_out_whole_items(coefficient: Callable[[list[Answer]], Agreement]) -> None:
    """Against the jackknife by hand: an item leaves with all its answers, so in every pair of raters at once."""
    answers = study(np.random.default_rng(3), 30, 3, (0.5, 0.5), 0.6, 0.0)
    rows: list[Answer] = [(int(u), int(r), str(c)) for u, r, c in zip(answers.units, answers.raters, answers.columns,
                                                                      strict=True)]  # fmt: skip
    whole = coefficient(rows)
    moved = [coefficient([row for row in rows if row[0] != unit]).value - whole.value for unit in range(30)]
    error = math.sqrt(29 / 30 * sum(m * m for m in moved))
    assert (whole.high - whole.low) / 2 == pytest.approx(1.96 * error, rel=0.2)
    low, high = _by_hand(whole, moved, rows)
    assert (whole.low, whole.high) == pytest.approx((low, high), abs=1e-9)


def _by_hand(whole: Agreement, moved: list[float], rows: list[Answer]) -> tuple[float, float]:
    from scipy.stats import beta

    said = np.array([int(c) for _, _, c in rows]).reshape(30, 3)
    totals = said.sum()
    if whole.name.startswith("Krippendorff"):
        expected = 2 * totals * (90 - totals) / 90 / 89
    elif whole.name.startswith("Gwet"):
        expected = 1 - 2 * (totals / 90) * (1 - totals / 90)
    else:
        p = said.mean(0)
        expected = float(np.mean([1 - p[a] * p[b] - (1 - p[a]) * (1 - p[b]) for a, b in ((0, 1), (0, 2), (1, 2))]))
    d, n = (1 - whole.value) * expected, 30
    s = (n * d + 0.5) / (n + 1)
    v = (n - 1) * sum(m * m for m in moved) * expected**2 + s * (1 - s) / n
    worth = d * (1 - d) / v * n
    low = beta.ppf(0.025, d * worth, worth - d * worth + 1)
    high = beta.ppf(0.975, d * worth + 1, worth - d * worth)
    return 1 - high / expected, 1 - low / expected
