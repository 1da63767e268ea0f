"""Whose answers can be relied on: checks, repeats, side bias, and agreement with everybody else.

    known answers       share right on gold items and attention checks, with Clopper and Pearson's interval (1934)
    repeats             share of items answered alike when they came again with the sides swapped
    sides               share of decided answers for the left, and the exact binomial test of one half: sides are
                        random, so a preference for one is the annotator's and not the images'
    others              kappa of the annotator against all others on the items they share, with the interval of
                        `preference_data.statistics.disagreement`

Nobody is punished here: the result names who should be looked at, and says why in a sentence.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from preference_data.campaign.quality.annotators import Person
from preference_data.sentences import Sentence
from preference_data.statistics.agreement import LEVEL, NAN, Answers, coded, grouped, table
from preference_data.statistics.disagreement import EXPECTED, coefficient_interval, rare_agreements
from preference_data.statistics.shares import adjusted, binomial_p, exact

ALPHA = 0.01
"""Level of the side test over all annotators together (Holm 1979)."""
FEWEST = 20
"""Answers below which nothing is said about an annotator."""
HASTE = 0.25
"""An annotator is reported who is faster than this fraction of the others' median time."""


@dataclass(frozen=True)
class Share:
    """A share with its interval; NaN when nothing was counted."""

    value: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Conduct:
    """One annotator. `left_p` is the side test's p-value, `kappa` agreement with the others beyond chance.

    `spammer` and `position_biased` name whom to look at; `why` says it in sentences.
    """

    person: Person
    gold: Share
    attention: Share
    repeats: Share
    left: Share
    left_p: float
    kappa: Share
    spammer: bool
    position_biased: bool
    why: tuple[Sentence, ...]


def conduct(people: Sequence[Person], answers: Answers) -> list[Conduct]:
    """What is known about each annotator. `answers` are (item, account id, canonical outcome) of the work."""
    against = kappa_against_others(answers)
    tests = [binomial_p(p.left, p.left + p.right) for p in people]
    biased = holm(tests, ALPHA)
    nothing = Share(NAN, NAN, NAN, 0)
    results = []
    for person, p_value, side in zip(people, tests, biased, strict=True):
        kappa, at_most = against.get(person.account, (nothing, NAN))
        others = [against[o.account][0].value for o in people if o.account != person.account and o.account in against]
        spam = _spam(person, kappa, at_most, [k for k in others if math.isfinite(k)], people)
        why = list(spam)
        if side and person.left + person.right >= FEWEST:
            share = person.left / (person.left + person.right)
            count = person.left + person.right
            why.append(Sentence(
                "chose the left side in {share:.0%} of {count} decided answers, where half is expected (p = {p:.1g})",
                {"share": share, "count": count, "p": p_value},
            ))  # fmt: skip
        results.append(Conduct(
            person, counted(person.gold_right, person.gold), counted(person.attention_right, person.attention),
            counted(person.repeats_same, person.repeats), counted(person.left, person.left + person.right), p_value,
            kappa, bool(spam), len(why) > len(spam), tuple(why),
        ))  # fmt: skip
    return results


def _spam(
    person: Person, kappa: Share, at_most: float, others: Sequence[float], people: Sequence[Person]
) -> list[Sentence]:
    """Sentences that speak for answers without looking; [] when none does."""
    why: list[Sentence] = []
    usual = median(others) if others else NAN
    if kappa.count >= FEWEST and usual > 0.1 and at_most < usual / 2:
        why.append(Sentence(
            "agrees with the others hardly more than chance does (kappa {kappa:.2f}, at most {high:.2f}), while they "
            "agree among each other (median {usual:.2f})",
            {"kappa": kappa.value, "high": at_most, "usual": usual},
        ))  # fmt: skip
    if person.gold >= 5 and wilson(person.gold_right, person.gold).high < 0.75:
        why.append(Sentence("answered {right} of {count} gold items as expected",
                            {"right": person.gold_right, "count": person.gold}))  # fmt: skip
    if person.attention >= 5 and wilson(person.attention_right, person.attention).high < 0.75:
        why.append(Sentence("answered {right} of {count} attention checks as expected",
                            {"right": person.attention_right, "count": person.attention}))  # fmt: skip
    speeds = [p.median_seconds for p in people if p.account != person.account and p.median_seconds]
    own = person.median_seconds
    if person.answers >= FEWEST and speeds and own is not None and own < HASTE * median(speeds):
        why.append(Sentence("takes {own:.1f} s an answer where the others take {others:.1f} s",
                            {"own": own, "others": median(speeds)}))  # fmt: skip
    return why


def kappa_against_others(answers: Answers) -> dict[Hashable, tuple[Share, float]]:
    """For each rater the kappa between their answers and every other's on shared units, and what it is at most.

    `count` is of shared units. Chance is what the two sides' own shares of categories would give; where too few answers
    are rare ones to know it, the share has no interval, and its upper end serves suspicion alone.
    """
    codes = coded(answers)
    units, raters, columns = codes.units, codes.raters, codes.columns
    counts, _ = table(codes)
    rest = counts[units]
    rest[np.arange(len(units)), columns] -= 1.0
    shared = rest.sum(axis=1) > 0
    entries = {}
    for number, rater in enumerate(codes.people):
        mine = shared & (raters == number)
        if mine.any():
            entries[rater] = _kappa(columns[mine], rest[mine])
    return entries


def _kappa(mine_N: np.ndarray, rest_NC: np.ndarray) -> tuple[Share, float]:
    """Of one rater's N answers and the counts of what the others said; a unit weighs 1, spread over the others."""
    N, C = rest_NC.shape
    kinds, often = grouped(np.column_stack([mine_N, rest_NC]))
    patterns = np.zeros((len(kinds), C, C))
    others = kinds[:, 1:]
    patterns[np.arange(len(kinds)), kinds[:, 0].astype(int)] = others / others.sum(axis=1, keepdims=True)
    total = np.tensordot(often, patterns, 1)
    kappa = float(_of(total[None] / N)[0])
    if not math.isfinite(kappa):
        return Share(NAN, NAN, NAN, N), NAN
    moved_G = kappa - _of((total - patterns) / max(N - 1, 1))
    one, other = total.sum(axis=1) / N, total.sum(axis=0) / N
    expected = 1.0 - float(one @ other)
    low, high = coefficient_interval(1.0 - kappa, expected, np.nan_to_num(moved_G), often.astype(float), LEVEL)
    known = rare_agreements(N, one, other) >= EXPECTED
    return Share(kappa, low if known else NAN, high if known else NAN, N), high


def _of(p_RCC: np.ndarray) -> np.ndarray:
    observed = np.trace(p_RCC, axis1=1, axis2=2)
    chance = (p_RCC.sum(axis=2) * p_RCC.sum(axis=1)).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(chance < 1 - 1e-12, (observed - chance) / (1 - chance), np.nan)


def counted(right: int, count: int) -> Share:
    """A share with its exact interval (Clopper & Pearson 1934); NaN when `count` is 0."""
    return Share(right / count, *exact(right, count), count) if count else Share(NAN, NAN, NAN, 0)


def wilson(right: int, count: int) -> Share:
    """A share with Wilson's score interval (1927), which suspects sooner than the exact one; NaN when `count` is 0."""
    from scipy.stats import binomtest

    if not count:
        return Share(NAN, NAN, NAN, 0)
    interval = binomtest(right, count).proportion_ci(LEVEL, method="wilson")
    return Share(right / count, float(interval.low), float(interval.high), count)


def holm(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Which hypotheses are rejected at `alpha` for all together (Holm 1979)."""
    return [p <= alpha for p in adjusted(p_values)]
