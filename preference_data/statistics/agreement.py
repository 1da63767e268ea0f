"""How far annotators agree beyond chance, with intervals, and a sentence where a coefficient is undefined.

With n_uc answers c about unit u, m_u = sum_c n_uc, and n_c = sum_u n_uc over units with m_u >= 2, n = sum_c n_c:

    (A1) Krippendorff's alpha   1 - D_o / D_e,  D_o = sum_u sum_ck n_uc (n_uk - [c=k]) d_ck / (m_u - 1),
         (2011)                 D_e = sum_ck n_c (n_k - [c=k]) d_ck / (n - 1);  d nominal: [c != k],
                                ordinal: (sum_{g=c..k} n_g - (n_c + n_k) / 2)^2
    (A2) Cohen's kappa (1960)   (p_o - p_e) / (1 - p_e), p_e from each of two raters' own shares
    (A3) Gwet's AC1 (2008)      (p_a - p_g) / (1 - p_g), p_g = sum_c pi_c (1 - pi_c) / (Q - 1), Q categories

1 is perfect, 0 is chance, and whoever always disagrees is below 0. Alpha and kappa fall when nearly all answers are
alike, AC1 does not; reading them together tells disagreement from a lopsided scale. Intervals are percentile bootstraps
over units (Efron & Tibshirani 1993): units with the same counts are exchangeable, so whole groups of them are drawn.

Shapes: U units, C categories, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from preference_data.sentences import Sentence

RESAMPLES = 2000
FEWEST = 400
"""Resamples of each pair of raters, however many pairs there are."""
LEVEL = 0.95
NAN = float("nan")
ORDER = {"first": 0, "tie": 1, "both_good": 1, "both_bad": 1, "second": 2}
"""Outcomes of pairs as an ordinal scale: from one picture through no preference to the other."""

Answer = tuple[Hashable, Hashable, str]
"""(unit, rater, category)"""


@dataclass(frozen=True)
class Coded:
    """Answers as numbers from 0, made once for several coefficients: arrays [A] of unit, rater and category of each.

    `names` of the categories, `people` the raters, each by its number.
    """

    units: np.ndarray
    raters: np.ndarray
    columns: np.ndarray
    names: tuple[str, ...]
    people: tuple[Hashable, ...]


Answers = Iterable[Answer] | Coded


@dataclass(frozen=True)
class Agreement:
    """A coefficient with its interval. Where it is undefined all three are NaN and `why` says why.

    `units` with at least two answers, `answers` about them. `observed` is the share of agreeing pairs of answers, which
    needs no chance model; NaN without any pair.
    """

    name: str
    value: float
    low: float
    high: float
    observed: float
    units: int
    answers: int
    why: str = ""


def krippendorff_nominal(answers: Answers, seed: int = 0) -> Agreement:
    """(A1) with categories that are equal or not."""
    counts, categories = table(answers)
    return _coefficient("Krippendorff's alpha, nominal", counts, categories, _alpha(_nominal), seed)


def krippendorff_ordinal(answers: Answers, order: dict[str, int] | None = None, seed: int = 0) -> Agreement:
    """(A1) with categories in an order; `order` gives each category's place, categories with one place are equal.

    Raises ValueError for a category without a place. The default order is that of two pictures.
    """
    places = ORDER if order is None else order
    given = coded(answers)
    if unknown := sorted(set(given.names) - set(places)):
        raise ValueError(f"the categories {unknown} have no place in the order {places}")
    there = sorted({places[name] for name in given.names})
    column = np.array([there.index(places[name]) for name in given.names], dtype=np.int64)
    counts, categories = table(replace(given, columns=column[given.columns], names=tuple(map(str, there))))
    return _coefficient("Krippendorff's alpha, ordinal", counts, categories, _alpha(_ordinal), seed)


def gwet_ac1(answers: Answers, categories: int | None = None, seed: int = 0) -> Agreement:
    """(A3). `categories` is how many an annotator could choose from; those that were used when not given."""
    counts, names = table(answers)
    Q = max(categories or 0, len(names))
    return _coefficient("Gwet's AC1", counts, names, _ac1(Q), seed)


def cohen_kappa(answers: Answers, seed: int = 0) -> Agreement:
    """(A2) for two raters; for more, the mean over all pairs of raters that share units (Light 1971).

    Raters are compared on the units that both answered.
    """
    tables = _crossings(coded(answers))
    units, observed = int(sum(t.sum() for t in tables)), _mean([float(np.trace(t) / t.sum()) for t in tables])
    why: str = ""
    if not tables:
        why = Sentence("undefined: no two annotators answered the same item")
    defined = [_kappa(t[None])[0] for t in tables]
    defined = [k for k in defined if np.isfinite(k)]
    if tables and not defined:
        why = Sentence("undefined: every annotator gave one and the same answer, so nothing differs from chance")
    if why:
        return Agreement("Cohen's kappa", NAN, NAN, NAN, observed, units, 2 * units, why)
    random = np.random.default_rng(seed)
    count = max(RESAMPLES // len(tables), FEWEST)  # the mean over many pairs of raters needs fewer of each
    drawn = np.stack([_kappa(_resample(t.reshape(-1), random, count).reshape(-1, *t.shape)) for t in tables])
    missing = np.isnan(drawn)
    kept = ~missing.all(axis=0)
    means = np.where(missing, 0.0, drawn).sum(axis=0)[kept] / (~missing).sum(axis=0)[kept]
    low, high, why = _interval(means, count)
    return Agreement("Cohen's kappa", float(np.mean(defined)), low, high, observed, units, 2 * units, why)


def table(answers: Answers) -> tuple[np.ndarray, tuple[str, ...]]:
    """(counts [U, C], categories in their order). Raises ValueError when one rater answered a unit twice."""
    given = coded(answers)
    U, C = int(given.units.max(initial=-1)) + 1, len(given.names)
    counts = np.bincount(given.units * C + given.columns, minlength=U * C)
    return counts.reshape(U, C).astype(float), given.names


def coded(answers: Answers) -> Coded:
    """The answers as numbers, categories in alphabetical order; what is coded already stays as it is.

    Raises ValueError when one rater answered a unit twice.
    """
    if isinstance(answers, Coded):
        return answers
    given = list(answers)
    units, raters, said = zip(*given, strict=True) if given else ((), (), ())
    people, names = tuple(dict.fromkeys(raters)), tuple(sorted(set(said)))
    unit_A, rater_A = _numbers(units, dict.fromkeys(units)), _numbers(raters, people)
    if len(np.unique(unit_A * max(len(people), 1) + rater_A)) != len(given):
        raise ValueError("an annotator has two answers about one item; keep the newest revision")
    return Coded(unit_A, rater_A, _numbers(said, names), names, people)


def _numbers(values: Sequence[Hashable], order: Iterable[Hashable]) -> np.ndarray:
    """The place of each value in the order."""
    place = {value: i for i, value in enumerate(order)}
    return np.fromiter(map(place.__getitem__, values), np.int64, len(values))


def grouped(rows_NC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the different rows [G, C] in lexicographic order, how often each occurs [G]) of rows of counts.

    Small counts are the digits of one number a row, because whole numbers are sorted many times as fast as rows.
    """
    base, C = int(rows_NC.max(initial=0)) + 1, rows_NC.shape[1]
    if base**C >= 2**62:
        return np.unique(rows_NC, axis=0, return_counts=True)
    digits_C = base ** np.arange(C)[::-1]
    numbers_G, often_G = np.unique(rows_NC.astype(np.int64) @ digits_C, return_counts=True)
    return (numbers_G[:, None] // digits_C % base).astype(rows_NC.dtype), often_G


Coefficient = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(patterns [G, C], how often each occurs [R, G]) -> values [R], NaN where undefined."""


def _coefficient(name: str, counts: np.ndarray, names: Sequence[str], of: Coefficient, seed: int) -> Agreement:
    answers_U = counts.sum(axis=1)
    paired = counts[answers_U >= 2]
    units, answers = len(paired), int(paired.sum())
    if not units:
        why: str = Sentence("undefined: no item has two answers")
        return Agreement(name, NAN, NAN, NAN, NAN, 0, 0, why)
    pairs = answers_U[answers_U >= 2]
    observed = float(((paired * (paired - 1)).sum(axis=1) / (pairs * (pairs - 1))).mean())
    patterns, often = grouped(counts[answers_U >= 1])
    value = float(of(patterns, often[None].astype(float))[0])
    if not np.isfinite(value):
        why = Sentence("undefined: the paired answers are all alike, so agreement cannot be told from chance")
        if len(names) == 1:
            why = Sentence("undefined: every answer is {only!r}, so agreement cannot be told from chance",
                           {"only": names[0]})  # fmt: skip
        return Agreement(name, NAN, NAN, NAN, observed, units, answers, why)
    drawn = of(patterns, _resample(often, np.random.default_rng(seed)))
    low, high, why = _interval(drawn[np.isfinite(drawn)], RESAMPLES)
    return Agreement(name, value, low, high, observed, units, answers, why)


def _alpha(distance: Callable[[np.ndarray], np.ndarray]) -> Coefficient:
    """(A1) with d [R, C, C] from the totals n_c [R, C]."""

    def of(patterns_GC: np.ndarray, often_RG: np.ndarray) -> np.ndarray:
        m_G = patterns_GC.sum(axis=1)
        used = m_G >= 2
        patterns, often, m = patterns_GC[used], often_RG[:, used], m_G[used]
        C = patterns.shape[1]
        pairs = patterns[:, :, None] * (patterns[:, None, :] - np.eye(C)) / (m - 1)[:, None, None]
        o_RCC = np.einsum("rg,gck->rck", often, pairs)
        n_RC = often @ patterns
        n_R = n_RC.sum(axis=1)
        e_RCC = n_RC[:, :, None] * (n_RC[:, None, :] - np.eye(C)) / np.maximum(n_R - 1, 1e-300)[:, None, None]
        d = distance(n_RC)
        expected = (e_RCC * d).sum(axis=(1, 2))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(expected > 0, 1.0 - (o_RCC * d).sum(axis=(1, 2)) / expected, np.nan)

    return of


def _nominal(n_RC: np.ndarray) -> np.ndarray:
    return np.broadcast_to(1.0 - np.eye(n_RC.shape[1]), (len(n_RC), n_RC.shape[1], n_RC.shape[1]))


def _ordinal(n_RC: np.ndarray) -> np.ndarray:
    """(sum of n_g from c to k, ends included, minus half of both ends)^2"""
    upto = np.cumsum(n_RC, axis=1)
    middle = upto - n_RC / 2
    return (middle[:, :, None] - middle[:, None, :]) ** 2


def _ac1(Q: int) -> Coefficient:
    def of(patterns_GC: np.ndarray, often_RG: np.ndarray) -> np.ndarray:
        m_G = patterns_GC.sum(axis=1)
        used = m_G >= 2
        m = np.maximum(m_G, 2)
        agree_G = (patterns_GC * (patterns_GC - 1)).sum(axis=1) / (m * (m - 1))
        both = often_RG[:, used].sum(axis=1)
        pi_RC = often_RG @ (patterns_GC / m_G[:, None]) / often_RG.sum(axis=1)[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            p_a = often_RG[:, used] @ agree_G[used] / both
            p_g = (pi_RC * (1 - pi_RC)).sum(axis=1) / (Q - 1)
            return np.where((both > 0) & (Q > 1), (p_a - p_g) / (1 - p_g), np.nan)

    return of


def _crossings(given: Coded) -> list[np.ndarray]:
    """For every two raters that share units their table [C, C] of answers to those."""
    units, raters, columns = given.units, given.raters, given.columns
    R, C = len(given.people), len(given.names)
    order = np.lexsort((raters, units))
    units, raters, columns = units[order], raters[order], columns[order]
    tables = np.zeros(R * R * C * C)
    for step in range(1, int(np.bincount(units).max(initial=0))):  # each answer with the one `step` further on
        same = units[step:] == units[:-step]
        pair = raters[:-step][same] * R + raters[step:][same]
        cell = (pair * C + columns[:-step][same]) * C + columns[step:][same]
        tables += np.bincount(cell, minlength=len(tables))
    return [cross for cross in tables.reshape(R * R, C, C) if cross.any()]


def _kappa(tables_RCC: np.ndarray) -> np.ndarray:
    """(A2) of each table; NaN where chance alone agrees always."""
    n = tables_RCC.sum(axis=(1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        p = tables_RCC / n[:, None, None]
        observed = np.trace(p, axis1=1, axis2=2)
        chance = (p.sum(axis=2) * p.sum(axis=1)).sum(axis=1)
        return np.where(chance < 1.0 - 1e-12, (observed - chance) / (1.0 - chance), np.nan)


def _resample(often_G: np.ndarray, random: np.random.Generator, count: int = RESAMPLES) -> np.ndarray:
    """[R, G]: how often each group of equal units is drawn when as many units as there are are drawn again."""
    total = often_G.sum()
    return random.multinomial(int(total), often_G / total, size=count).astype(float)


def _interval(values: np.ndarray, asked: int) -> tuple[float, float, str]:
    """(low, high, why not): the percentiles, unless most resamples were undefined."""
    if len(values) < asked / 2:
        return NAN, NAN, Sentence("no interval: most resamples of the items leave the coefficient undefined")
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high), ""


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else NAN
