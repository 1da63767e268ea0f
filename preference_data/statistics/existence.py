"""Whether ratings of paired comparisons are finite: a likelihood has a maximum if no direction leads upwards for ever.

Bradley and Terry's model is concave in theta, Davidson's in (theta, log nu), Rao and Kupper's in (theta, kappa). Along
a direction (t, k) the likelihood of no comparison may fall, and some must not stay:

    every win of i over j     t_i - t_j >= k        (Davidson: k is twice the step of log nu)
    every tie of i and j      |t_i - t_j| <= k      (Bradley and Terry, where a tie is half a win: t_i = t_j)

With k = 0 such a direction is a group that never lost to or tied with the rest (Ford 1957). With k = 1 it is a system
of differences, which has a solution unless some circle of wins and ties contradicts itself. k < 0 forbids every tie.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from preference_data.sentences import Sentence


def check_finite(
    names: Sequence[str], a: np.ndarray, b: np.ndarray, outcome: np.ndarray, with_ties: bool
) -> None:  # fmt: skip
    """ValueError that names who is without a finite rating. `outcome` is 1 where a won, -1 where b did, 0 for a tie."""
    _check_connected(names, a, b, outcome)
    if with_ties:
        _check_contradicted(names, a, b, outcome)


def _check_connected(names: Sequence[str], a: np.ndarray, b: np.ndarray, outcome: np.ndarray) -> None:
    """A finite estimate needs, between any two groups, a win (or a tie) in each direction (Ford 1957)."""
    M = len(names)
    beats = np.zeros((M, M), dtype=bool)
    for winner, loser, when in ((a, b, outcome >= 0), (b, a, outcome <= 0)):
        beats[winner[when], loser[when]] = True
    reach = beats | np.eye(M, dtype=bool)
    for _ in range(max(M - 1, 1).bit_length()):
        reach = reach @ reach
    mutual = reach & reach.T
    if mutual.all():
        return
    group = [names[i] for i in np.flatnonzero(mutual[int(reach.sum(axis=1).argmax())])]
    raise ValueError(Sentence(
        "{group} never lost to or tied with the rest of {M}, or was never compared with it: the difference has no "
        "finite estimate; compare more, or give a prior such as 2.0",
        {"group": ", ".join(map(repr, group)), "M": M},
    ))  # fmt: skip


def _check_contradicted(names: Sequence[str], a: np.ndarray, b: np.ndarray, outcome: np.ndarray) -> None:
    """With k = 1: a ladder with every win over a lower rung and every tie within one rung leads upwards for ever."""
    won, tied = outcome != 0, outcome == 0
    above = np.where(outcome > 0, a, b)[won]
    below = np.where(outcome > 0, b, a)[won]
    start = np.concatenate([above, a[tied], b[tied]])
    end = np.concatenate([below, b[tied], a[tied]])
    most = np.concatenate([np.full(len(above), -1), np.ones(2 * int(tied.sum()), dtype=int)])
    rung = np.zeros(len(names), dtype=int)  # Bellman and Ford: rung[end] <= rung[start] + most
    for _ in range(len(names) + 1):
        lower = rung.copy()
        np.minimum.at(lower, end, rung[start] + most)
        if (lower == rung).all():
            break
        rung = lower
    else:
        return
    best = names[int(rung.argmax())]
    raise ValueError(Sentence(
        "{best} never lost, and no win contradicts a tie among the {M}: with a parameter for ties the difference has "
        "no finite estimate; compare more, give a prior such as 2.0, or count a tie as half a win (Bradley-Terry)",
        {"best": repr(best), "M": len(names)},
    ))  # fmt: skip
