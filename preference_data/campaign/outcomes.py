"""What an annotator can say, and how what was said about sides becomes what was said about images.

    shown        left | right | tie | both_good | both_bad          two images
                 ranked (best and worst) | none_acceptable          best and worst of N
                 skip | flag                                        either: no judgement, or something is wrong
    canonical    first | second instead of left | right             whatever the sides were

The outcomes stay apart from here to the export: a tie is not both_bad, and neither is half a win.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

PAIR = ("left", "right", "tie", "both_good", "both_bad")
BEST_WORST = ("ranked", "none_acceptable")
NO_ANSWER = ("skip", "flag")
AXIS_VALUES = ("left", "right", "tie", "na")
STRENGTHS = (1, 2, 3, 4, 5)
MAX_TEXT = 2000
MAX_HOURS = 24


@dataclass(frozen=True)
class Answer:
    """An answer as the page sends it.

    `strength` 1 (barely) to 5 (clearly), or None. `axes` says left, right, tie or na for each axis that was asked.
    `best` and `worst` are slots from the left, for "ranked" only. `duration_ms`: from shown to answered.
    """

    outcome: str
    strength: int | None = None
    axes: Mapping[str, str] = field(default_factory=dict)
    tags: Sequence[str] = ()
    rationale: str = ""
    best: int | None = None
    worst: int | None = None
    duration_ms: int = 0


def check(answer: Answer, kind: str, slots: int, axes: Sequence[str], tags: Sequence[str]) -> None:
    """Raises ValueError when the answer does not fit a campaign of this kind with these axes and tags."""
    allowed = (PAIR if kind == "pair" else BEST_WORST) + NO_ANSWER
    if answer.outcome not in allowed:
        raise ValueError(f"outcome is {answer.outcome!r}; choose one of {', '.join(allowed)}")
    if answer.strength is not None and answer.strength not in STRENGTHS:
        raise ValueError(f"strength is {answer.strength!r}; it goes from 1 to 5, or None")
    if unknown := sorted(set(answer.axes) - set(axes)):
        raise ValueError(f"the axes {unknown} are not asked in this campaign; it has {list(axes)}")
    if wrong := {name: value for name, value in answer.axes.items() if value not in AXIS_VALUES}:
        raise ValueError(f"axes {wrong}: choose {', '.join(AXIS_VALUES)}")
    if unknown := sorted(set(answer.tags) - set(tags)):
        raise ValueError(f"the tags {unknown} are not offered in this campaign; it has {list(tags)}")
    if len(answer.rationale) > MAX_TEXT:
        raise ValueError(f"the rationale has {len(answer.rationale)} characters; at most {MAX_TEXT} are kept")
    if not 0 <= answer.duration_ms <= MAX_HOURS * 3_600_000:
        raise ValueError(f"duration_ms is {answer.duration_ms}; it lies between 0 and {MAX_HOURS} hours")
    _check_ranks(answer, slots)


def _check_ranks(answer: Answer, slots: int) -> None:
    if answer.outcome != "ranked":
        if answer.best is not None or answer.worst is not None:
            raise ValueError(f"best and worst belong to 'ranked'; the outcome is {answer.outcome!r}")
        return
    indices = range(slots)
    if answer.best not in indices or answer.worst not in indices or answer.best == answer.worst:
        raise ValueError(
            f"best is {answer.best} and worst {answer.worst}; they are two different slots from 0 to {slots - 1}"
        )


def canonical(outcome: str, slots: Sequence[int]) -> str:
    """The outcome about images; `slots[i]` is the place of the image that was shown i-th from the left."""
    if outcome not in ("left", "right"):
        return outcome
    return ("first", "second")[slots[0 if outcome == "left" else 1]]


def as_shown(outcome: str, slots: Sequence[int]) -> str:
    """Turns a canonical outcome back into what the annotator saw; the inverse of `canonical`."""
    if outcome not in ("first", "second"):
        return outcome
    return ("left", "right")[slots.index(0 if outcome == "first" else 1)]
