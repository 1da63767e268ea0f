"""What a reward is: settings (Reward) -> something loaded (Scorer) -> numbers (Scores).

Shapes: B samples, 3HW pixels. A reward sees prompts and pixels, never latents.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np

from preference_data.records import Prompt


def to_uint8(images_B3HW: np.ndarray) -> np.ndarray:
    """Pictures in [0, 1] as the nearest 8-bit pixels; uint8 passes through. Values outside are clipped, NaN becomes 0.

    This is the only rounding rule of the floor, so that a picture has one hash and one score whichever way it travels.
    """
    if images_B3HW.dtype == np.uint8:
        return images_B3HW
    finite = np.nan_to_num(images_B3HW, nan=0.0, posinf=1.0, neginf=0.0)
    pixels: np.ndarray = np.rint(np.clip(finite, 0.0, 1.0) * 255.0).astype(np.uint8)
    return pixels


def to_float(images_uint8_B3HW: np.ndarray) -> np.ndarray:
    """8-bit pixels as float32 in [0, 1]; ``to_uint8`` gives them back exactly."""
    return images_uint8_B3HW.astype(np.float32) / np.float32(255.0)


@dataclass(frozen=True)
class Scores:
    """The numbers of B pictures, in the order they were given.

    value_B: float64 inside the reward's range; NaN = could not be judged, which is never the same as 0.
    parts: what the value is made of, each (B,) float64, NaN where the value is.
    unjudged: cause -> how many pictures of this call could not be judged for it; the counts sum to the NaNs.
    """

    value_B: np.ndarray
    parts: dict[str, np.ndarray]
    unjudged: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, array in (("value_B", self.value_B), *self.parts.items()):
            if array.shape != self.value_B.shape or array.ndim != 1 or array.dtype != np.float64:
                shape = self.value_B.shape
                raise ValueError(f"{name} is {array.dtype} {array.shape}; every score is float64 {shape} with one axis")


def concatenate(parts: Sequence[Scores]) -> Scores:
    """Scores of consecutive pictures as one. All of one reward, so they have the same parts."""
    if not parts:
        return Scores(np.zeros(0), {})
    causes: Counter[str] = Counter()
    for scores in parts:
        causes.update(scores.unjudged)
    names = parts[0].parts
    joined = {name: np.concatenate([scores.parts[name] for scores in parts]) for name in names}
    return Scores(np.concatenate([scores.value_B for scores in parts]), joined, dict(causes))


@runtime_checkable
class Scorer(Protocol):
    """A loaded reward. ``name`` says exactly what is in use: reward, engine and weights."""

    name: str

    def __call__(self, prompts: Sequence[Prompt], images_B3HW: np.ndarray) -> Scores:
        """Judge picture i against prompt i. ``images_B3HW`` is float32 in [0, 1]. Results keep the order.

        ValueError when the two lengths differ; a picture that cannot be judged is NaN, not an error."""
        ...


@runtime_checkable
class Reward(Protocol):
    """Settings of a reward: a frozen dataclass, cheap to make, picklable, equal when its scores would be.

    version: raised when the same settings would give other scores. range: least and greatest value. needs: the fields
    of the prompt that it reads.
    """

    version: ClassVar[int]
    range: ClassVar[tuple[float, float]]
    needs: ClassVar[tuple[str, ...]]

    def load(self, device: str = "cpu") -> Scorer:
        """Open the weights. An import or a file that is missing raises at once and says what to install."""
        ...
