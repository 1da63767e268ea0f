"""A taste that is in no data and in no word of a prompt, and simulated people who have it.

    (T1)  u(image) = sum_k w_k f_k(image)     f in [0, 1]: tall letters, ink near blue, ground near yellow
    (T2)  w_k of a person = w_k of the taste * exp(SPREAD n),   n ~ N(0, 1)
    (T3)  a person says "left" with probability sigmoid((u(left) - u(right)) / TEMPERATURE)

It reads pixels alone and never what is written. The people who answer and those who judge what came of it are other
draws of (T2). It stands where people would; whoever has some puts their answers in its place.

Shapes: 3HW pixels, F facts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from base_model.data.rendered_text import COLOURS, INKS
from base_model.seeding import numpy_generator

FACTS = ("height", "ink", "ground")
"""f of (T1), in this order."""
WEIGHTS = (1.0, 1.0, 1.0)
"""w of (T1)."""
INK, GROUND = "blue", "yellow"
"""What is liked, by the names of `rendered_text.COLOURS`."""
SPREAD = 0.35
TEMPERATURE = 0.3
"""In units of (T1); clean scenes differ by 0.6 (standard deviation)."""
NEAR = 0.45
"""Distance in RGB, of at most 1.7, at which a colour is like another by a share of 1/e."""
STATED = f"tall letters, ink near {INK}, ground near {GROUND}, each as much as the others"
"""The taste in words, for whoever reads the result."""


def ink_and_ground(image_3HW: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The colours of ink and ground in 8-bit levels [3], and where the ink is, bool [H, W].

    The ground is the median colour of the border, the ink the mean of what is at least half as far from it as the
    farthest pixel is.
    """
    pixels = image_3HW.astype(np.float64)
    edge = np.concatenate([pixels[:, :2].reshape(3, -1), pixels[:, -2:].reshape(3, -1)], axis=1)
    ground_3 = np.median(edge, axis=1)
    away_HW = np.sqrt(((pixels - ground_3[:, None, None]) ** 2).sum(0)) / 255.0
    mask_HW = away_HW >= max(0.15, 0.5 * away_HW.max())
    ink_3 = pixels[:, mask_HW].mean(1) if mask_HW.any() else ground_3
    return ink_3, ground_3, mask_HW


def facts(image_3HW: np.ndarray) -> np.ndarray:
    """f of (T1) of an image of 8-bit levels, float64 [F]."""
    ink_3, ground_3, mask_HW = ink_and_ground(image_3HW)
    rows = np.flatnonzero(mask_HW.sum(1) >= 2)
    tall = (rows[-1] - rows[0] + 1) / len(mask_HW) if len(rows) else 0.0
    return np.array([tall, like(ink_3, INK), like(ground_3, GROUND)])


def appearance(image_3HW: np.ndarray) -> dict[str, object]:
    """The facts of an image, and the named colours that are nearest to its ink and its ground, as a table has them."""
    ink_3, ground_3, _ = ink_and_ground(image_3HW)
    return {
        "facts": facts(image_3HW).tolist(),
        "ink": max(INKS, key=lambda name: like(ink_3, name)),
        "ground": max(COLOURS, key=lambda name: like(ground_3, name)),
    }


def like(colour_3: np.ndarray, name: str) -> float:
    """How near a colour of 8-bit levels is to a named one, in (0, 1]."""
    distance = np.sqrt(((colour_3 - np.array(COLOURS[name])) ** 2).sum()) / 255.0
    return float(np.exp(-((distance / NEAR) ** 2)))


def utility(facts_F: np.ndarray, weights: Sequence[float] = WEIGHTS) -> float:
    """(T1) as a share of the most possible, in [0, 1]."""
    return float(np.dot(facts_F, weights) / np.sum(weights))


@dataclass(frozen=True)
class Person:
    """A simulated annotator: a name and w of (T2)."""

    name: str
    weights: tuple[float, ...]

    def gap(self, left_F: np.ndarray, right_F: np.ndarray) -> float:
        """u(left) - u(right)."""
        return float(np.dot(left_F - right_F, self.weights))

    def probability(self, left_F: np.ndarray, right_F: np.ndarray) -> float:
        """(T3)"""
        return 1.0 / (1.0 + math.exp(-self.gap(left_F, right_F) / TEMPERATURE))


def people(count: int, seed: int, name: str = "simulated") -> list[Person]:
    """Draw people (T2); their names say that they are none."""
    spread = numpy_generator(seed, 0, 0, "people").normal(size=(count, len(WEIGHTS)))
    weights = np.array(WEIGHTS) * np.exp(SPREAD * spread)
    return [Person(f"machine:{name}-{i + 1}", tuple(map(float, row))) for i, row in enumerate(weights)]


def wins(after_PF: np.ndarray, before_PF: np.ndarray, voters: Sequence[Person]) -> np.ndarray:
    """[P]: the share of the voters, without noise, who prefer the first image of a prompt; a tie counts half."""
    gaps = (after_PF - before_PF) @ np.array([voter.weights for voter in voters]).T
    return (0.5 + 0.5 * np.sign(np.where(np.abs(gaps) < 1e-9, 0.0, gaps))).mean(1)
