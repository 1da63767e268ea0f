"""Who is better than whom: rating models for paired comparisons, with intervals for ratings and for ranks.

With D = theta_i - theta_j and s(x) = 1 / (1 + exp(-x)):

    (R1) Bradley & Terry (1952)    P(i beats j) = s(D); a tie is half a win for each
    (R2) Davidson (1970)           P(i beats j) = e^(D/2) / Z,  P(tie) = nu / Z,  Z = e^(D/2) + e^(-D/2) + nu
    (R3) Rao & Kupper (1967)       P(i beats j) = s(D - kappa), P(tie) = (e^(2 kappa) - 1) s(D - kappa) s(-D - kappa)

Ratings are maximum-likelihood estimates with mean 0, found by Newton steps; log nu and log kappa are estimated with
them. The covariance is the inverse information H^-1, or, when comparisons come in G clusters (several answers about one
prompt), the sandwich of White (1982) over clusters plus H^-1 / G, with quantiles of Student's t with G - 1 degrees of
freedom: a few clusters that happen to be alike are not certainty, and of a single one no interval is known.

Where the likelihood has no maximum, `preference_data.statistics.existence` says so. Rank intervals invert simultaneous
intervals of the differences to each item's rivals (Mogstad, Romano, Shaikh & Wilhelm 2024): an item's rank is between
1 + how many are surely better and n - how many are surely worse.

Plain numpy. Shapes: N comparisons, M items, K = M (+ 1 with ties) parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from preference_data.sentences import Sentence
from preference_data.statistics.existence import check_finite
from preference_data.statistics.shares import quantile_t, quantile_z

ITERATIONS = 200
TOLERANCE = 1e-11
DRAWS = 4000
"""Draws for the simultaneous intervals behind ranks."""


@dataclass(frozen=True)
class Comparison:
    """`weight` equal comparisons of `a` with `b`: `outcome` is 1 when a won, -1 when b won, 0 for a tie.

    `cluster` names what comparisons have in common, such as their prompt; None when there is nothing.
    """

    a: str
    b: str
    outcome: int
    weight: float = 1.0
    cluster: str | None = None

    def __post_init__(self) -> None:
        if self.a == self.b:
            raise ValueError(f"{self.a!r} is compared with itself")
        if self.outcome not in (-1, 0, 1):
            raise ValueError(f"outcome of {self.a!r} against {self.b!r} is {self.outcome}; it is 1, 0 or -1")
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise ValueError(f"weight of {self.a!r} against {self.b!r} is {self.weight}; it must be positive")


@dataclass(frozen=True)
class Rating:
    """One item: its rating with its interval, and the ranks (1 is best) that it can have."""

    name: str
    rating: float
    low: float
    high: float
    rank: int
    rank_low: int
    rank_high: int
    comparisons: float


@dataclass(frozen=True)
class Ranking:
    """A fitted model; `ratings` best first.

    `tie` is nu of (R2), e^kappa of (R3), None for (R1), with its interval. `covariance` is of the ratings in the order
    of `names`. `log_likelihood` at the maximum; for (R1) a tie counts as two half wins.
    """

    model: str
    ratings: tuple[Rating, ...]
    tie: tuple[float, float, float] | None
    log_likelihood: float
    comparisons: float
    level: float
    names: tuple[str, ...]
    theta: tuple[float, ...]
    covariance: np.ndarray
    freedom: float = math.inf
    """degrees of freedom of the intervals: clusters - 1, infinite without clusters"""

    def difference(self, a: str, b: str) -> tuple[float, float, float]:
        """(estimate, low, high) of a's rating minus b's."""
        i, j = self.names.index(a), self.names.index(b)
        spread = math.sqrt(max(self.covariance[i, i] + self.covariance[j, j] - 2 * self.covariance[i, j], 0.0))
        value, half = self.theta[i] - self.theta[j], _reach(self.level, self.freedom) * spread
        return value, value - half, value + half


def bradley_terry(
    comparisons: Iterable[Comparison] | Arrays, level: float = 0.95, prior: float | None = None, seed: int = 0
) -> Ranking:
    """(R1). See `fit`."""
    return fit("bradley_terry", _bradley_terry, False, comparisons, level, prior, seed)


def davidson(
    comparisons: Iterable[Comparison] | Arrays, level: float = 0.95, prior: float | None = None, seed: int = 0
) -> Ranking:
    """(R2). See `fit`. Raises ValueError when nothing is tied or everything is: nu would be 0 or infinite."""
    return fit("davidson", _davidson, True, comparisons, level, prior, seed)


def rao_kupper(
    comparisons: Iterable[Comparison] | Arrays, level: float = 0.95, prior: float | None = None, seed: int = 0
) -> Ranking:
    """(R3). See `fit`. Raises ValueError when nothing is tied or everything is."""
    return fit("rao_kupper", _rao_kupper, True, comparisons, level, prior, seed)


def fit(
    name: str, terms: Terms, with_ties: bool, comparisons: Iterable[Comparison] | Arrays, level: float,
    prior: float | None, seed: int,
) -> Ranking:  # fmt: skip
    """Maximum likelihood of one of the models, with intervals of this level.

    Where an item never loses (or never wins) against some group, the estimate is infinite: ValueError names it.
    `prior`, the standard deviation of a normal prior of each rating, makes everything finite; then the intervals are
    those of the posterior's normal approximation. `seed` is of the draws behind the rank intervals.
    """
    if not 0.0 < level < 1.0 or (prior is not None and not prior > 0):
        raise ValueError(f"level={level}, prior={prior}: level lies between 0 and 1, and prior is positive or None")
    data = comparisons if isinstance(comparisons, Arrays) else arrays(list(comparisons))
    if with_ties and not (0 < data.weight[data.outcome == 0].sum() < data.weight.sum()):
        raise ValueError(
            Sentence("the tie parameter needs ties and decided comparisons; use bradley_terry without ties")
        )
    if prior is None:
        check_finite(data.names, data.a, data.b, data.outcome, with_ties)
    ridge = np.zeros(len(data.names) + with_ties)
    ridge[: len(data.names)] = 0.0 if prior is None else prior**-2
    kinds, which = _equal(data)
    optimum, information, scores, value = _newton(kinds, terms, with_ties, ridge)
    covariance = _covariance(information, scores[which], data, centred=prior is None)
    return _ranking(name, data, optimum, covariance, value, level, with_ties, seed)


@dataclass(frozen=True)
class Arrays:
    """Comparisons as columns, for several models to read."""

    names: tuple[str, ...]
    a: np.ndarray
    b: np.ndarray
    outcome: np.ndarray
    weight: np.ndarray
    cluster: np.ndarray | None


def _equal(data: Arrays) -> tuple[Arrays, np.ndarray]:
    """The data with equal comparisons together, and for each comparison which of them it is: fitting reads the few."""
    M = len(data.names)
    keys, which = np.unique((data.a * M + data.b) * 3 + data.outcome + 1, return_inverse=True)
    weight = np.bincount(which, data.weight, len(keys))
    return Arrays(data.names, keys // 3 // M, keys // 3 % M, keys % 3 - 1, weight, None), which


Terms = Callable[[np.ndarray, np.ndarray, float], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""(D_N, outcome_N, tie) -> log-likelihood [N], its gradient [N, 2] and Hessian [N, 2, 2] in (D, tie)."""


def _bradley_terry(D: np.ndarray, outcome: np.ndarray, _: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(R1); the tie parameter is not there, and its derivatives are 0."""
    share = (outcome + 1) / 2
    p = _sigmoid(D)
    value = -share * np.logaddexp(0, -D) - (1 - share) * np.logaddexp(0, D)
    gradient, hessian = np.zeros((len(D), 2)), np.zeros((len(D), 2, 2))
    gradient[:, 0], hessian[:, 0, 0] = share - p, -p * (1 - p)
    return value, gradient, hessian


def _davidson(D: np.ndarray, outcome: np.ndarray, log_nu: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(R2): a softmax over D/2, -D/2 and log nu."""
    logits = np.stack([D / 2, -D / 2, np.full_like(D, log_nu)], axis=1)
    logits -= logits.max(axis=1, keepdims=True)
    p = np.exp(logits)
    p /= p.sum(axis=1, keepdims=True)
    chosen = np.where(outcome > 0, 0, np.where(outcome < 0, 1, 2))
    value = np.log(np.maximum(p[np.arange(len(D)), chosen], 1e-300))
    features = np.array([[0.5, 0.0], [-0.5, 0.0], [0.0, 1.0]])
    mean = p @ features
    gradient = features[chosen] - mean
    second = np.einsum("nc,ci,cj->nij", p, features, features)
    return value, gradient, np.einsum("ni,nj->nij", mean, mean) - second


def _rao_kupper(D: np.ndarray, outcome: np.ndarray, log_kappa: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(R3) in x = D - kappa and y = -D - kappa: log P = log s(x), log s(y), or log(e^2k - 1) + log s(x) + log s(y)."""
    kappa = math.exp(log_kappa)
    x, y = D - kappa, -D - kappa
    u, v = (outcome >= 0).astype(float), (outcome <= 0).astype(float)  # whether s(x) and s(y) are factors
    tied = (outcome == 0).astype(float)
    grown = -math.expm1(-2 * kappa)  # log(e^2k - 1) = 2k + log(1 - e^-2k), without overflow
    value = tied * (2 * kappa + math.log(grown)) - u * np.logaddexp(0, -x) - v * np.logaddexp(0, -y)
    gx, gy = u * _sigmoid(-x), v * _sigmoid(-y)
    hx, hy = -u * _sigmoid(x) * _sigmoid(-x), -v * _sigmoid(y) * _sigmoid(-y)
    slope = tied * 2 / grown - gx - gy  # in kappa
    bend = -tied * 4 * math.exp(-2 * kappa) / grown**2 + hx + hy
    gradient = np.stack([gx - gy, slope * kappa], axis=1)
    hessian = np.empty((len(D), 2, 2))
    hessian[:, 0, 0] = hx + hy
    hessian[:, 0, 1] = hessian[:, 1, 0] = (hy - hx) * kappa
    hessian[:, 1, 1] = bend * kappa**2 + slope * kappa
    return value, gradient, hessian


def _newton(
    data: Arrays, terms: Terms, with_ties: bool, ridge: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """(parameters [K], information [K, K], score of each comparison [N, K], log-likelihood) at the maximum."""
    M = len(data.names)
    point = np.zeros(M + with_ties)
    if with_ties:
        point[-1] = -0.5

    def at(parameters: np.ndarray) -> tuple[float, np.ndarray, np.ndarray, np.ndarray, float]:
        D = parameters[data.a] - parameters[data.b]
        value, gradient, hessian = terms(D, data.outcome, parameters[-1] if with_ties else 0.0)
        scores = _spread(data, gradient, M, with_ties)
        information = _information(data, hessian, M, with_ties) + np.diag(ridge)
        likelihood = float(data.weight @ value)
        goal = likelihood - 0.5 * float(ridge @ parameters**2)
        return goal, data.weight @ scores - ridge * parameters, information, scores, likelihood

    goal, slope, information, scores, value = at(point)
    for _ in range(ITERATIONS):
        step = np.linalg.pinv(_definite(information), rcond=1e-13, hermitian=True) @ slope
        scale = 1.0
        while True:  # a full step can overshoot far from the maximum
            trial = at(point + scale * step)
            if trial[0] >= goal - 1e-12 * abs(goal) or scale < 1e-8:
                break
            scale /= 2
        point = point + scale * step
        goal, slope, information, scores, value = trial
        if np.abs(slope).max() < TOLERANCE * max(data.weight.sum(), 1.0):
            return point, information, scores, value
    raise ValueError(Sentence("the ratings did not settle in {steps} steps; some item may win everything, try a prior",
                              {"steps": ITERATIONS}))  # fmt: skip


def _definite(information: np.ndarray) -> np.ndarray:
    """The information, or its absolute value where the likelihood is not concave (far from the maximum of (R3))."""
    values, vectors = np.linalg.eigh(information)
    return information if values[0] > -1e-9 * values[-1] else (vectors * np.abs(values)) @ vectors.T


def _spread(data: Arrays, gradient_N2: np.ndarray, M: int, with_ties: bool) -> np.ndarray:
    """Gradients in (D, tie) -> scores [N, K] in the parameters."""
    N = len(data.a)
    scores = np.zeros((N, M + with_ties))
    scores[np.arange(N), data.a] = gradient_N2[:, 0]
    scores[np.arange(N), data.b] -= gradient_N2[:, 0]
    if with_ties:
        scores[:, -1] = gradient_N2[:, 1]
    return scores


def _information(data: Arrays, hessian_N22: np.ndarray, M: int, with_ties: bool) -> np.ndarray:
    """Minus the weighted sum of Hessians [K, K] in the parameters."""
    matrix = np.zeros((M + with_ties, M + with_ties))
    bend = -data.weight * hessian_N22[:, 0, 0]
    for i, j, sign in ((data.a, data.a, 1), (data.b, data.b, 1), (data.a, data.b, -1), (data.b, data.a, -1)):
        np.add.at(matrix, (i, j), sign * bend)
    if with_ties:
        mixed = -data.weight * hessian_N22[:, 0, 1]
        column = np.zeros(M)
        np.add.at(column, data.a, mixed)
        np.add.at(column, data.b, -mixed)
        matrix[:M, -1] += column
        matrix[-1, :M] += column
        matrix[-1, -1] = -(data.weight @ hessian_N22[:, 1, 1])
    return matrix


def _covariance(information: np.ndarray, scores: np.ndarray, data: Arrays, centred: bool) -> np.ndarray:
    """[K, K]; ratings relative to their mean when `centred`."""
    inverse = np.linalg.pinv(information, rcond=1e-12, hermitian=True)
    if data.cluster is not None:
        groups = int(data.cluster.max()) + 1
        sums = np.zeros((groups, scores.shape[1]))
        np.add.at(sums, data.cluster, scores * data.weight[:, None])
        inverse = inverse @ (sums.T @ sums) @ inverse * groups / max(groups - 1, 1) + inverse / groups
    if centred:
        K, M = len(inverse), len(data.names)
        centre = np.eye(K)
        centre[:M, :M] -= 1.0 / M
        inverse = centre @ inverse @ centre.T
    return inverse


def _ranking(
    name: str, data: Arrays, optimum: np.ndarray, covariance: np.ndarray, value: float, level: float, with_ties: bool,
    seed: int,
) -> Ranking:  # fmt: skip
    M = len(data.names)
    theta = optimum[:M] - optimum[:M].mean()
    freedom = math.inf if data.cluster is None else float(data.cluster.max())
    half = _reach(level, freedom) * np.sqrt(np.maximum(np.diag(covariance), 0.0))
    order = sorted(range(M), key=lambda i: (-theta[i], data.names[i]))
    lows, highs = rank_intervals(theta, covariance[:M, :M], level, seed, freedom)
    count = np.bincount(data.a, data.weight, M) + np.bincount(data.b, data.weight, M)
    ratings = tuple(
        Rating(data.names[i], float(theta[i]), float(theta[i] - half[i]), float(theta[i] + half[i]), rank,
               int(lows[i]), int(highs[i]), float(count[i]))
        for rank, i in enumerate(order, 1)
    )  # fmt: skip
    tie = None
    if with_ties:
        with np.errstate(over="ignore"):  # nothing bounds kappa from above where few comparisons are tied
            grown = np.exp(optimum[-1] + half[-1] * np.array([0.0, -1.0, 1.0]))
            grown = np.exp(grown) if name == "rao_kupper" else grown
        tie = (float(grown[0]), float(grown[1]), float(grown[2]))
    return Ranking(name, ratings, tie, value, float(data.weight.sum()), level, data.names, tuple(map(float, theta)),
                   covariance[:M, :M], freedom)  # fmt: skip


def rank_intervals(
    theta_M: np.ndarray, covariance_MM: np.ndarray, level: float = 0.95, seed: int = 0, freedom: float = math.inf
) -> tuple[np.ndarray, np.ndarray]:
    """(lowest, highest) rank of each item, 1 is best; each holds the item's true rank with this probability."""
    M = len(theta_M)
    variance = np.diag(covariance_MM)[:, None] + np.diag(covariance_MM)[None] - 2 * covariance_MM
    spread = np.sqrt(np.maximum(variance, 0.0)) + np.eye(M)
    values, vectors = np.linalg.eigh(covariance_MM)
    lows, highs = np.ones(M, dtype=int), np.full(M, M)
    if freedom < 1:
        return lows, highs
    random = np.random.default_rng(seed)
    draws = random.standard_normal((DRAWS, M)) @ (vectors * np.sqrt(np.maximum(values, 0.0))).T
    if math.isfinite(freedom):
        draws = draws * np.sqrt(freedom / random.chisquare(freedom, size=(DRAWS, 1)))
    for i in range(M):
        rivals = np.arange(M) != i
        if not rivals.any():
            continue
        worst = np.abs((draws[:, rivals] - draws[:, [i]]) / np.maximum(spread[i, rivals], 1e-300)).max(axis=1)
        reach = np.quantile(worst, level) * spread[i, rivals]
        ahead = theta_M[rivals] - theta_M[i]
        lows[i] = 1 + int((ahead - reach > 0).sum())
        highs[i] = M - int((ahead + reach < 0).sum())
    return lows, highs


def arrays(comparisons: Sequence[Comparison]) -> Arrays:
    """Comparisons as columns. Raises ValueError when there is none."""
    if not comparisons:
        raise ValueError(Sentence("there is no comparison to learn from"))
    names = tuple(sorted({name for c in comparisons for name in (c.a, c.b)}))
    index = {name: i for i, name in enumerate(names)}
    groups: dict[str, int] = {}
    cluster = None
    if any(c.cluster is not None for c in comparisons):
        marks = [c.cluster if c.cluster is not None else f"\0{i}" for i, c in enumerate(comparisons)]
        cluster = np.array([groups.setdefault(mark, len(groups)) for mark in marks])
    return Arrays(
        names, np.array([index[c.a] for c in comparisons]), np.array([index[c.b] for c in comparisons]),
        np.array([c.outcome for c in comparisons]), np.array([c.weight for c in comparisons], dtype=float), cluster,
    )  # fmt: skip


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0.0, -x))


def _reach(level: float, freedom: float) -> float:
    """How many standard errors an interval reaches; NaN without a degree of freedom."""
    if freedom < 1:
        return math.nan
    return quantile_t(0.5 + level / 2, freedom) if math.isfinite(freedom) else quantile_z(0.5 + level / 2)
