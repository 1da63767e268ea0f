"""Intervals of coefficients 1 - D / E: D the share of pairs of answers that differ, E that which chance would give.

(1)  D is as sure as a share of n' = n D (1 - D) / v counted items, v = E^2 n (n - 1) sum_u (r_u - r)^2 with r = D / E
     and r_u without item u (the jackknife of Quenouille and Tukey); it has the interval of Clopper & Pearson (1934)
(2)  to v belongs one further item that wholly agrees or wholly differs, because few items that came out alike do not
     show that the next one will
(3)  alpha and kappa take chance from the answers: two agree by it on other than the most frequent one in
     n sum_c pi_c^2 items. Where that is less than `EXPECTED`, the rule of Cochran (1954) for expected counts, E is
     hardly known, no interval holds what it promises, and none is given
"""

from __future__ import annotations

import numpy as np

from preference_data.statistics.shares import exact

EXPECTED = 5.0
"""Items in which chance alone must be expected to make two answers agree on a rarer one, for (3)."""


def coefficient_interval(
    ratio: float, expected: float, moved_G: np.ndarray, often_G: np.ndarray, level: float
) -> tuple[float, float]:
    """(low, high) of 1 - D / E by (1) and (2), `ratio` = D / E and `expected` = E.

    `moved_G`: change of the ratio without one item of each kind; `often_G`: items of the kind.
    """
    items = float(often_G.sum())
    differing = min(max(ratio * expected, 0.0), 1.0)
    smooth = (items * differing + 0.5) / (items + 1.0)
    variance = (items - 1.0) * float(often_G @ moved_G**2) * expected**2 + smooth * (1.0 - smooth) / items
    single = differing * (1.0 - differing)
    worth = single / variance * items if single > 1e-9 else items
    low, high = exact(differing * worth, worth, level)
    return 1.0 - high / expected, 1.0 - low / expected


def rare_agreements(items: float, one_C: np.ndarray, other_C: np.ndarray) -> float:
    """The items of (3) where two raters answer with these shares of the categories."""
    usual = int(np.argmax(one_C + other_C))
    return items * float(np.delete(one_C * other_C, usual).sum())
