"""Mixtures of rewards: a weighted sum, or a product. Every part stays visible.

    (1)  value = sum_i w_i n_i(r_i)        n_i maps reward i's own scale to the common one
    (2)  value = prod_i r_i                of rewards from 0 to 1: what one of them finds worthless is worthless

By default n_i is the identity. ``normalise="range"`` maps the range of each reward to [0, 1]; a given ``centre`` and
``scale`` of a part (such as its mean and standard deviation over images of the base model) give (r - centre) / scale.
Statistics of the batch at hand are never used: a score would then depend on what else is in the batch. To weigh rewards
by their spread within a group is the algorithm's business.

An image that one part could not judge is not judged: the mean of the others would reward it for the failure. So a
product with a factor of 0 and one that could not be judged is not 0.

Shapes: B samples, 3HW pixels.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from preference_data.records import Prompt
from rewards.scores import Reward, Scorer, Scores, View, checked, obstacles, total

NORMALISATIONS = ("none", "range")


@dataclass(frozen=True)
class Part:
    """One reward of a mixture. ``name`` says it in the parts; centre and scale are in the units of the reward."""

    name: str
    reward: Reward
    weight: float = 1.0
    centre: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        numbers = (self.weight, self.centre, self.scale)
        if not all(math.isfinite(number) for number in numbers) or self.weight == 0 or self.scale <= 0:
            raise ValueError(
                f"part {self.name!r} of a mixture: weight {self.weight}, centre {self.centre}, scale {self.scale}; all "
                "must be finite, the weight not 0 and the scale positive"
            )


@dataclass(frozen=True)
class Weighted:
    """A weighted sum of rewards, eq. (1). Its range follows from its parts', such as [0, 1] for 0.7*ocr+0.3*ocr_judge.

    normalise: "range" maps every part's range to [0, 1] first; "none" takes the parts as they are, moved and scaled as
    each ``Part`` says. In Scores, part ``NAME`` is the reward's own value and ``NAME/part`` are its parts.
    """

    version: ClassVar[int] = 1

    parts: tuple[Part, ...]
    normalise: str = "none"
    range: tuple[float, float] = field(init=False, compare=False, default=(-math.inf, math.inf))
    needs: tuple[str, ...] = field(init=False, compare=False, default=())

    def __post_init__(self) -> None:
        names = [part.name for part in self.parts]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"the parts of a mixture are {names}; it needs at least one, and every name once")
        if self.normalise not in NORMALISATIONS:
            raise ValueError(f"normalise is {self.normalise!r}; choose one of {', '.join(NORMALISATIONS)}")
        for part in self.parts:
            if self.normalise == "range" and not all(math.isfinite(end) for end in part.reward.range):
                raise ValueError(
                    f"{part.name} has no finite range ({part.reward.range}) to be normalised by; give its part a "
                    "centre and a scale"
                )
        ends = [sorted(part.weight * self._map(part, end) for end in part.reward.range) for part in self.parts]
        object.__setattr__(self, "range", (sum(low for low, _ in ends), sum(high for _, high in ends)))
        object.__setattr__(self, "needs", tuple(dict.fromkeys(n for part in self.parts for n in part.reward.needs)))

    def _map(self, part: Part, value: float) -> float:
        if self.normalise == "range":
            low, high = part.reward.range
            return (value - low) / (high - low)
        return (value - part.centre) / part.scale

    def coefficients(self) -> list[tuple[float, float]]:
        """(slope, offset) of every part: value = sum of slope * r + offset."""
        zero = [self._map(part, 0.0) for part in self.parts]
        return [
            (part.weight * (self._map(part, 1.0) - at_0), part.weight * at_0)
            for part, at_0 in zip(self.parts, zero, strict=True)
        ]

    def sees(self, height: int, width: int) -> View:
        """What its most short-sighted part sees."""
        return least(part.reward.sees(height, width) for part in self.parts)

    def load(self, device: str = "cpu") -> MixtureScorer:
        """Load every part. Errors as theirs."""
        scorers = [(part.name, part.reward.load(device)) for part in self.parts]
        slopes = self.coefficients()
        terms = [f"{slope:g}*{scorer.name}" for (_, scorer), (slope, _) in zip(scorers, slopes, strict=True)]

        def add(value_B: np.ndarray, i: int, own_B: np.ndarray) -> np.ndarray:
            slope, offset = slopes[i]
            total_B: np.ndarray = value_B + slope * own_B + offset
            return total_B

        return MixtureScorer("weighted:" + "+".join(terms), scorers, add, 0.0, self.range)


@dataclass(frozen=True)
class Product:
    """A product of rewards whose ranges lie within [0, 1], eq. (2), such as ocr*glyph:weights=runs/glyph; range [0, 1].

    Parts are named as those of ``Weighted``. Raises ValueError for fewer than two factors, or one with another range.
    """

    version: ClassVar[int] = 1
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    factors: tuple[tuple[str, Reward], ...]
    """(name, reward)"""
    needs: tuple[str, ...] = field(init=False, compare=False, default=())

    def __post_init__(self) -> None:
        names = [name for name, _ in self.factors]
        if len(names) < 2 or len(set(names)) < len(names):
            raise ValueError(f"the factors of a product are {names}; it needs at least two, and every name once")
        for name, reward in self.factors:
            low, high = reward.range
            if not 0.0 <= low <= high <= 1.0:
                raise ValueError(
                    f"{name} ranges from {low:g} to {high:g}, and a product is of rewards from 0 to 1; add it to a sum "
                    f"instead, as in 1.0*ocr+0.2*{name}"
                )
        object.__setattr__(self, "needs", tuple(dict.fromkeys(n for _, reward in self.factors for n in reward.needs)))

    def sees(self, height: int, width: int) -> View:
        """What its most short-sighted factor sees."""
        return least(reward.sees(height, width) for _, reward in self.factors)

    def load(self, device: str = "cpu") -> MixtureScorer:
        """Load every factor. Errors as theirs."""
        scorers = [(name, reward.load(device)) for name, reward in self.factors]
        name = "product:" + "*".join(scorer.name for _, scorer in scorers)
        return MixtureScorer(name, scorers, lambda value_B, _, own_B: value_B * own_B, 1.0, self.range)


def least(views: Iterable[View]) -> View:
    """The view of the smallest share of an image, and of the fewest pixels."""
    return min(views, key=lambda view: (view.share, view.height * view.width))


class MixtureScorer:
    """Loaded parts and how their values become one.

    combine: (value so far [B], number of the part, the part's own values [B]) -> value. first: the value before any.
    """

    def __init__(
        self, name: str, scorers: Sequence[tuple[str, Scorer]],
        combine: Callable[[np.ndarray, int, np.ndarray], np.ndarray], first: float, range: tuple[float, float],
    ) -> None:  # fmt: skip
        self.name = name
        self._parts, self._combine, self._first, self._range = list(scorers), combine, first, range

    def __call__(self, prompts: Sequence[Prompt], images_B3HW: np.ndarray) -> Scores:
        """Eq. (1) or (2). An image that a part cannot judge is not shown to the parts after it; ``unjudged`` says
        "NAME/cause" of the part that failed."""
        causes = obstacles(prompts, images_B3HW)
        value_B = np.array([np.nan if cause else self._first for cause in causes])
        parts: dict[str, np.ndarray] = {}
        unjudged: dict[str, int] = Counter(cause for cause in causes if cause)
        spent: list[Mapping[str, float]] = []
        for i, (name, scorer) in enumerate(self._parts):
            left = np.flatnonzero(~np.isnan(value_B))
            if not len(left):
                parts[name] = np.full(len(prompts), np.nan)  # a reward need not know what to make of no images
                continue
            scores = checked(scorer([prompts[row] for row in left], images_B3HW[left]), len(left), name)
            for inner, array in ((name, scores.value_B), *((f"{name}/{n}", each) for n, each in scores.parts.items())):
                parts[inner] = np.full(len(prompts), np.nan)
                parts[inner][left] = array
            value_B = self._combine(value_B, i, parts[name])
            unjudged |= {f"{name}/{cause}": count for cause, count in scores.unjudged.items()}
            spent.append(scores.spent)
        value_B = np.clip(value_B, *self._range)  # rounding may step over the end of the range; NaN stays NaN
        masked = {name: np.where(np.isnan(value_B), np.nan, array) for name, array in parts.items()}
        return Scores(value_B, masked, dict(unjudged), total(spent))
