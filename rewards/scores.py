"""What a reward is: settings (Reward) -> something loaded (Scorer) -> numbers (Scores).

A scorer is little more than its arithmetic: ``obstacles`` says which images cannot be judged and why, ``tabulate``
makes the Scores of rows that are either numbers or a cause.

Shapes: B samples, 3HW pixels. A reward sees prompts and pixels, never latents.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from preference_data.pixels import to_uint8
from preference_data.records import Prompt

if TYPE_CHECKING:
    import pandas

log = logging.getLogger(__name__)

_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True)
class Scores:
    """The numbers of B images, in the order they were given.

    value_B: float64 inside the reward's range; NaN = could not be judged, which is never the same as 0.
    parts: what the value is made of, each (B,) float64, NaN where the value is.
    unjudged: cause -> how many images of this call could not be judged for it; the counts sum to the NaNs.
    spent: what the call cost, as amounts that add up over calls: "requests", "tokens_in", "tokens_out" of a judge that
    is asked elsewhere; "pictures" and "seconds" are added by ``rewards.serving.metering``, not by scorers.
    read: what a scorer that reads text read in each image, "" where it judged none; () of other scorers.
    """

    value_B: np.ndarray
    parts: dict[str, np.ndarray]
    unjudged: Mapping[str, int] = field(default_factory=dict)
    spent: Mapping[str, float] = field(default_factory=dict)
    read: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, array in (("value_B", self.value_B), *self.parts.items()):
            if array.shape != self.value_B.shape or array.ndim != 1 or array.dtype != np.float64:
                shape = self.value_B.shape
                raise ValueError(f"{name} is {array.dtype} {array.shape}; every score is float64 {shape} with one axis")

    def table(self) -> pandas.DataFrame:
        """A row an image: "value", every part, and "read" of a scorer that reads text; NaN = not judged."""
        import pandas

        columns: dict[str, Any] = {"value": self.value_B, **self.parts, **({"read": self.read} if self.read else {})}
        return pandas.DataFrame(columns)


def checked(scores: Scores, count: int, name: str) -> Scores:
    """The scores. Raises ValueError when they are not ``count``, or one of them or of their parts is infinite: nobody
    could learn from them."""
    if len(scores.value_B) != count:
        raise ValueError(
            f"the reward {name} gave {len(scores.value_B)} scores for {count} images; it must give each one"
        )
    for part, array in (("", scores.value_B), *scores.parts.items()):
        if np.isinf(array).any():
            what = f"an infinite {part!r}" if part else "an infinite score"
            raise ValueError(f"the reward {name} gave {what}; what cannot be judged is NaN")
    return scores


def concatenate(parts: Sequence[Scores]) -> Scores:
    """Scores of consecutive images as one. A part that some of them lack is NaN there: a reward may leave out what it
    found in none of the images that it was given together."""
    if not parts:
        return Scores(np.zeros(0), {})
    names = dict.fromkeys(name for scores in parts for name in scores.parts)
    joined = {
        name: np.concatenate([scores.parts.get(name, np.full(len(scores.value_B), np.nan)) for scores in parts])
        for name in names
    }
    value_B = np.concatenate([scores.value_B for scores in parts])
    read = tuple(text for scores in parts for text in scores.read)
    texts = read if len(read) == len(value_B) else ()
    return Scores(value_B, joined, total(s.unjudged for s in parts), total(s.spent for s in parts), texts)


def total(amounts: Iterable[Mapping[str, _Number]]) -> dict[str, _Number]:
    """Amounts of the same name added up."""
    sums: dict[str, _Number] = {}
    for each in amounts:
        for name, amount in each.items():
            sums[name] = sums[name] + amount if name in sums else amount
    return sums


def obstacles(prompts: Sequence[Prompt], images_B3HW: np.ndarray, needs: Sequence[str] = ()) -> list[str | None]:
    """Why image i cannot be judged, None when it can.

    "shape" (not B x 3 x H x W), "not_finite" (NaN or infinite pixels), "no_spans" (a prompt without one of the fields
    in ``needs``; likewise for other fields). ValueError when there are not as many prompts as images.
    """
    if len(prompts) != len(images_B3HW):
        count = len(images_B3HW)
        raise ValueError(f"{len(prompts)} prompts but {count} images; image i is judged by prompt i")
    if images_B3HW.ndim != 4 or images_B3HW.shape[1] != 3 or min(images_B3HW.shape[2:]) < 1:
        return ["shape"] * len(prompts)
    results: list[str | None] = []
    for prompt, image_3HW in zip(prompts, images_B3HW, strict=True):
        missing = [f"no_{need}" for need in needs if not getattr(prompt, need)]
        finite = image_3HW.dtype == np.uint8 or np.isfinite(image_3HW).all()
        results.append(missing[0] if missing else None if finite else "not_finite")
    return results


def tabulate(rows: Sequence[Mapping[str, float] | str], names: Sequence[str]) -> Scores:
    """Scores of rows that are either the parts of an image, by name, or the cause why it could not be judged.

    ``names`` are all parts; the first of them is the value.
    """
    judged = [row if not isinstance(row, str) else dict.fromkeys(names, np.nan) for row in rows]
    parts = {name: np.array([row[name] for row in judged], dtype=np.float64) for name in names}
    causes = Counter(row for row in rows if isinstance(row, str))
    return Scores(parts[names[0]].copy(), parts, dict(causes))


@dataclass(frozen=True)
class Read:
    """The parts of an image, by name, from a judge that also says what it read there."""

    parts: Mapping[str, float]
    text: str


Row = Mapping[str, float] | Read | str
"""What a judge of one image gives: its parts, those with what was read, or the cause why there are none."""


def score_each(
    name: str, scorer: Callable[[Prompt, np.ndarray], Row], prompts: Sequence[Prompt],
    images_B3HW: np.ndarray, needs: Sequence[str], parts: Sequence[str],
) -> Scores:  # fmt: skip
    """Scores of a judge of one image at a time: uint8 (H, W, 3) and its prompt in, a row out.

    An image on which it raises is not judged ("engine"); the log says what happened. For the rest see ``obstacles``
    and ``tabulate``.
    """
    rows: list[Row] = []
    for prompt, image_3HW, cause in zip(prompts, images_B3HW, obstacles(prompts, images_B3HW, needs), strict=True):
        if cause is not None:
            rows.append(cause)
            continue
        try:
            rows.append(scorer(prompt, np.ascontiguousarray(to_uint8(image_3HW).transpose(1, 2, 0))))
        except Exception:
            log.exception("%s could not judge the image of prompt %s; it is NaN", name, prompt.id)
            rows.append("engine")
    scores = tabulate([row.parts if isinstance(row, Read) else row for row in rows], parts)
    if not any(isinstance(row, Read) for row in rows):
        return scores
    return replace(scores, read=tuple(row.text if isinstance(row, Read) else "" for row in rows))


@dataclass(frozen=True)
class View:
    """Which part of an image a reward looks at, and how finely.

    share: of the image's area that it sees at all, in (0, 1]. height, width: the pixels that part is scaled to; for
    tiles, of all of them together. how: in words, such as "centre crop" or "letterbox".
    """

    share: float
    height: int
    width: int
    how: str


@runtime_checkable
class Scorer(Protocol):
    """A loaded reward. ``name`` says exactly what is in use: reward, engine and weights."""

    name: str

    def __call__(self, prompts: Sequence[Prompt], images_B3HW: np.ndarray) -> Scores:
        """Judge image i against prompt i. ``images_B3HW`` is float32 in [0, 1]. Results keep the order.

        ValueError when the two lengths differ; an image that cannot be judged is NaN, not an error."""
        ...


@runtime_checkable
class Reads(Protocol):
    """A scorer that reads text can say what it read."""

    def texts(self, images_B3HW: np.ndarray) -> list[str]:
        """What each image says, in order."""
        ...


@runtime_checkable
class Reward(Protocol):
    """Settings of a reward: a frozen dataclass, cheap to make, picklable, equal when its scores would be.

    version: raised when the same settings would give other scores. range: least and greatest value (infinite where
    there is no bound). needs: the fields of the prompt that it reads. One whose scores say what was read in each image
    has ``reads`` = True as well.
    """

    @property
    def version(self) -> int: ...

    @property
    def range(self) -> tuple[float, float]: ...

    @property
    def needs(self) -> tuple[str, ...]: ...

    def sees(self, height: int, width: int) -> View:
        """Which part of an image of that size it looks at; costs nothing and needs no weights."""
        ...

    def load(self, device: str = "cpu") -> Scorer:
        """Open the weights. An import or a file that is missing raises at once and says what to install."""
        ...


class ScoringPool(Protocol):
    """Scores images elsewhere while the trainer goes on."""

    def submit(self, prompts: Sequence[Prompt], images_B3HW: object) -> Future[Scores]:
        """uint8 images, in the order of the prompts."""
        ...
