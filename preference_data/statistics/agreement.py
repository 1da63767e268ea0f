"""How far annotators agree beyond chance, with intervals, and a sentence where a coefficient is undefined.

With n_uc answers c about unit u, m_u = sum_c n_uc, and n_c = sum_u n_uc over units with m_u >= 2, n = sum_c n_c:

    (A1) Krippendorff's alpha   1 - D_o / D_e,  D_o = sum_u sum_ck n_uc (n_uk - [c=k]) d_ck / (m_u - 1),
         (2011)                 D_e = sum_ck n_c (n_k - [c=k]) d_ck / (n - 1);  d nominal: [c != k],
                                ordinal: (sum_{g=c..k} n_g - (n_c + n_k) / 2)^2
    (A2) Cohen's kappa (1960)   (p_o - p_e) / (1 - p_e), p_e from each of two raters' own shares
    (A3) Gwet's AC1 (2008)      (p_a - p_g) / (1 - p_g), p_g = sum_c pi_c (1 - pi_c) / (Q - 1), Q categories

1 is perfect, 0 is chance, and whoever always disagrees is below 0. Alpha and kappa fall when nearly all answers are
alike, AC1 does not; reading them together tells disagreement from a lopsided scale. Intervals come from leaving out one
unit at a time, for all pairs of raters together: `preference_data.statistics.disagreement` says how, and where too few
units admit none.

Shapes: U units, G kinds of units, C categories, R sets of weights of the kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from preference_data.sentences import Sentence
from preference_data.statistics.disagreement import EXPECTED, coefficient_interval, rare_agreements

CHUNK = 2**22
"""Weights of kinds of units held at a time."""
LEVEL = 0.95
NAN = float("nan")
ORDER = {"first": 0, "tie": 1, "both_good": 1, "both_bad": 1, "second": 2}
"""Outcomes of pairs as an ordinal scale: from one image through no preference to the other."""

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


def krippendorff_nominal(answers: Answers) -> Agreement:
    """(A1) with categories that are equal or not."""
    counts, categories = table(answers)
    return _coefficient("Krippendorff's alpha, nominal", counts, categories, _alpha(_nominal), True)


def krippendorff_ordinal(answers: Answers, order: dict[str, int] | None = None) -> Agreement:
    """(A1) with categories in an order; `order` gives each category's place, categories with one place are equal.

    Raises ValueError for a category without a place. The default order is that of two images.
    """
    indices = ORDER if order is None else order
    codes = coded(answers)
    if unknown := sorted(set(codes.names) - set(indices)):
        raise ValueError(f"the categories {unknown} have no place in the order {indices}")
    there = sorted({indices[name] for name in codes.names})
    column = np.array([there.index(indices[name]) for name in codes.names], dtype=np.int64)
    counts, categories = table(replace(codes, columns=column[codes.columns], names=tuple(map(str, there))))
    return _coefficient("Krippendorff's alpha, ordinal", counts, categories, _alpha(_ordinal), True)


def gwet_ac1(answers: Answers, categories: int | None = None) -> Agreement:
    """(A3). `categories` is how many an annotator could choose from; those that were used when not given."""
    counts, names = table(answers)
    Q = max(categories or 0, len(names))
    return _coefficient("Gwet's AC1", counts, names, _ac1(Q), False)


def cohen_kappa(answers: Answers) -> Agreement:
    """(A2) for two raters; for more, the mean over all pairs of raters that share units (Light 1971).

    Raters are compared on the units that both answered.
    """
    tables, unit_E, pair_E, one_E, other_E = _crossings(coded(answers))
    pairs = len(unit_E)
    why: str = Sentence("undefined: no two annotators answered the same item")
    if not pairs:
        return Agreement("Cohen's kappa", NAN, NAN, NAN, NAN, 0, 0, why)
    n_P, rows_PC, columns_PC = tables.sum(axis=(1, 2)), tables.sum(axis=2), tables.sum(axis=1)
    alike_P, chance_P = np.trace(tables, axis1=1, axis2=2), (rows_PC * columns_PC).sum(axis=1)
    ratio_P = _ratio(alike_P, chance_P, n_P)
    defined = np.isfinite(ratio_P)
    observed = float((alike_P / n_P).mean())
    if not defined.any():
        why = Sentence("undefined: every annotator gave one and the same answer, so nothing differs from chance")
        return Agreement("Cohen's kappa", NAN, NAN, NAN, observed, pairs, 2 * pairs, why)
    ratio = float(ratio_P[defined].mean())
    # every pair of raters without one of the units that both answered
    same_E = (one_E == other_E).astype(float)
    chance_E = chance_P[pair_E] - columns_PC[pair_E, one_E] - rows_PC[pair_E, other_E] + same_E
    moved_E = np.nan_to_num(_ratio(alike_P[pair_E] - same_E, chance_E, n_P[pair_E] - 1.0) - ratio_P[pair_E])
    moved_U = np.bincount(np.unique(unit_E, return_inverse=True)[1], weights=moved_E) / defined.sum()
    expected = float((1.0 - chance_P / n_P**2)[defined].mean())
    rare = np.mean([
        rare_agreements(n, row / n, column / n) for n, row, column in zip(n_P, rows_PC, columns_PC, strict=True)
    ])  # fmt: skip
    low, high, why = _limits(ratio, expected, moved_U, np.ones(len(moved_U)), float(rare))
    return Agreement("Cohen's kappa", 1.0 - ratio, low, high, observed, pairs, 2 * pairs, why)


def table(answers: Answers) -> tuple[np.ndarray, tuple[str, ...]]:
    """(counts [U, C], categories in their order). Raises ValueError when one rater answered a unit twice."""
    codes = coded(answers)
    U, C = int(codes.units.max(initial=-1)) + 1, len(codes.names)
    counts = np.bincount(codes.units * C + codes.columns, minlength=U * C)
    return counts.reshape(U, C).astype(float), codes.names


def coded(answers: Answers) -> Coded:
    """The answers as numbers, categories in alphabetical order; what is coded already stays as it is.

    Raises ValueError when one rater answered a unit twice.
    """
    if isinstance(answers, Coded):
        return answers
    triples = list(answers)
    units, raters, answer = zip(*triples, strict=True) if triples else ((), (), ())
    people, names = tuple(dict.fromkeys(raters)), tuple(sorted(set(answer)))
    unit_A, rater_A = _numbers(units, dict.fromkeys(units)), _numbers(raters, people)
    if len(np.unique(unit_A * max(len(people), 1) + rater_A)) != len(triples):
        raise ValueError("an annotator has two answers about one item; keep the newest revision")
    return Coded(unit_A, rater_A, _numbers(answer, names), names, people)


def _numbers(values: Sequence[Hashable], order: Iterable[Hashable]) -> np.ndarray:
    """The place of each value in the order."""
    index = {value: i for i, value in enumerate(order)}
    return np.fromiter(map(index.__getitem__, values), np.int64, len(values))


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


Coefficient = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""(kinds of units [G, C], how often each occurs [R, G]) -> shares [R] of answers that differ, and would by chance."""


def _coefficient(name: str, counts: np.ndarray, names: Sequence[str], of: Coefficient, with_chance: bool) -> Agreement:
    """`with_chance`: chance is that of the answers' own shares, and hardly known where few are not alike."""
    answers_U = counts.sum(axis=1)
    paired = counts[answers_U >= 2]
    units, answers = len(paired), int(paired.sum())
    if not units:
        why: str = Sentence("undefined: no item has two answers")
        return Agreement(name, NAN, NAN, NAN, NAN, 0, 0, why)
    pairs = answers_U[answers_U >= 2]
    observed = float(((paired * (paired - 1)).sum(axis=1) / (pairs * (pairs - 1))).mean())
    kinds, often = grouped(counts[answers_U >= 1])
    often = often.astype(float)
    differing, expected = (float(x[0]) for x in of(kinds, often[None]))
    if not expected > 0:
        why = Sentence("undefined: the paired answers are all alike, so agreement cannot be told from chance")
        if len(names) == 1:
            why = Sentence("undefined: every answer is {only!r}, so agreement cannot be told from chance",
                           {"only": names[0]})  # fmt: skip
        return Agreement(name, NAN, NAN, NAN, observed, units, answers, why)
    ratio = differing / expected
    shares = paired.sum(axis=0) / answers
    rare = rare_agreements(units, shares, shares) if with_chance else np.inf
    used = kinds.sum(axis=1) >= 2  # a unit with one answer says nothing of how far two agree
    moved_G = _without_one(of, kinds, often)[used] - ratio
    low, high, why = _limits(ratio, expected, np.nan_to_num(moved_G), often[used], rare)
    return Agreement(name, 1.0 - ratio, low, high, observed, units, answers, why)


def _without_one(of: Coefficient, kinds_GC: np.ndarray, often_G: np.ndarray) -> np.ndarray:
    """[G]: the ratio of both shares without one unit of each kind; NaN where chance then gives none."""
    G = len(often_G)
    results = []
    for start in range(0, G, max(CHUNK // G, 1)):
        rows = np.arange(start, min(start + max(CHUNK // G, 1), G))
        weights = np.repeat(often_G[None], len(rows), axis=0)
        weights[np.arange(len(rows)), rows] -= 1.0
        differing, expected = of(kinds_GC, weights)
        results.append(np.where(expected > 0, differing / np.where(expected > 0, expected, 1.0), np.nan))
    return np.concatenate(results)


def _limits(
    ratio: float, expected: float, moved_G: np.ndarray, often_G: np.ndarray, rare: float
) -> tuple[float, float, str]:
    """(low, high, why there are none) of a coefficient."""
    if not rare >= EXPECTED:
        return NAN, NAN, Sentence(
            "no interval: too few items, or too few with rarer answers (chance makes two agree on one of these in "
            "{rare:.1f} items, and {least:.0f} are needed)", {"rare": rare, "least": EXPECTED},
        )  # fmt: skip
    return *coefficient_interval(ratio, expected, moved_G, often_G, LEVEL), ""


def _alpha(distance: Callable[[np.ndarray], np.ndarray]) -> Coefficient:
    """(A1) with d [R, C, C] from the totals n_c [R, C]; both shares of the largest distance."""

    def of(kinds_GC: np.ndarray, often_RG: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        m_G = kinds_GC.sum(axis=1)
        used = m_G >= 2
        kinds, often, m = kinds_GC[used], often_RG[:, used], m_G[used]
        C = kinds.shape[1]
        pairs = kinds[:, :, None] * (kinds[:, None, :] - np.eye(C)) / (m - 1)[:, None, None]
        o_RCC = np.einsum("rg,gck->rck", often, pairs)
        n_RC = often @ kinds
        n_R = n_RC.sum(axis=1)
        e_RCC = n_RC[:, :, None] * (n_RC[:, None, :] - np.eye(C)) / np.maximum(n_R - 1, 1e-300)[:, None, None]
        d = distance(n_RC)
        size_R = np.maximum(d.max(axis=(1, 2)) * n_R, 1e-300)
        return (o_RCC * d).sum(axis=(1, 2)) / size_R, (e_RCC * d).sum(axis=(1, 2)) / size_R

    return of


def _nominal(n_RC: np.ndarray) -> np.ndarray:
    return np.broadcast_to(1.0 - np.eye(n_RC.shape[1]), (len(n_RC), n_RC.shape[1], n_RC.shape[1]))


def _ordinal(n_RC: np.ndarray) -> np.ndarray:
    """(sum of n_g from c to k, ends included, minus half of both ends)^2"""
    upto = np.cumsum(n_RC, axis=1)
    middle = upto - n_RC / 2
    return (middle[:, :, None] - middle[:, None, :]) ** 2


def _ac1(Q: int) -> Coefficient:
    def of(kinds_GC: np.ndarray, often_RG: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        m_G = kinds_GC.sum(axis=1)
        used = m_G >= 2
        m = np.maximum(m_G, 2)
        agree_G = (kinds_GC * (kinds_GC - 1)).sum(axis=1) / (m * (m - 1))
        both_R = often_RG[:, used].sum(axis=1)
        pi_RC = often_RG @ (kinds_GC / m_G[:, None]) / np.maximum(often_RG.sum(axis=1), 1.0)[:, None]
        alike_R = often_RG[:, used] @ agree_G[used] / np.maximum(both_R, 1.0)
        chance_R = (pi_RC * (1 - pi_RC)).sum(axis=1) / max(Q - 1, 1)
        return 1.0 - alike_R, np.where((both_R > 0) & (Q > 1), 1.0 - chance_R, 0.0)

    return of


def _crossings(codes: Coded) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(for every two raters that share units their table of answers [P, C, C], and for every unit that they share its
    number, theirs, and both answers [E])."""
    C, R = len(codes.names), len(codes.people)
    order = np.lexsort((codes.raters, codes.units))
    units, raters, columns = codes.units[order], codes.raters[order], codes.columns[order]
    parts: list[tuple[np.ndarray, ...]] = []
    for step in range(1, int(np.bincount(units).max(initial=0))):  # each answer with the one `step` further on
        same = units[step:] == units[:-step]
        parts.append((units[step:][same], raters[:-step][same] * R + raters[step:][same], columns[:-step][same],
                      columns[step:][same]))  # fmt: skip
    none = np.zeros(0, dtype=np.int64)
    unit_E, person_E, one_E, other_E = (np.concatenate([none, *each]) for each in (zip(*parts, strict=True) if parts
                                                                                else [()] * 4))  # fmt: skip
    there, pair_E = np.unique(person_E, return_inverse=True)
    tables = np.bincount((pair_E * C + one_E) * C + other_E, minlength=len(there) * C * C).astype(float)
    return tables.reshape(len(there), C, C), unit_E, pair_E, one_E, other_E


def _ratio(alike: np.ndarray, chance: np.ndarray, n: np.ndarray) -> np.ndarray:
    """1 - kappa of n units, of which so many are alike, and by chance chance / n; NaN where all are by chance."""
    n = np.maximum(n, 1e-9)
    differing, expected = 1.0 - alike / n, 1.0 - chance / n**2
    known = (expected > 1e-12) & (n >= 1.0)
    return np.where(known, differing / np.where(known, expected, 1.0), np.nan)
