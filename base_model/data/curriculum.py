"""What a stream of images shows as training goes on: five progressions, one value.

    resolution   small images, then large ones
    text         no text, then single characters, words, and words anywhere in every face and colour
    refinement   captions as they come, then captions that are right
    balance      few kinds of image nearly always, then all kinds equally often
    synthetic    none, then a share of images that are rendered to be read

The order is that of Qwen-Image's pretraining (arXiv:2508.02324, section 4.1.3). A progression is a tuple of (first
update, value) that begins at 0 and rises; () leaves things as the stream says without it. What is in force at an update
is a function of its number alone, so a resumed run needs no state of it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate
from typing import Any, NamedTuple

Weights = tuple[float, ...]
Value = Weights | float
Progression = tuple[tuple[int, Any], ...]
"""(first update, value), whose value the field of `Plan` of the same name describes"""


class Plan(NamedTuple):
    """What is shown at one update."""

    resolution: Weights = (1.0,)
    """sides of images as shares of the full ones, each equally often"""
    text: Weights = ()
    """shares of the kinds of scene, which need not sum to 1"""
    refinement: float = 0.0
    """share of captions that are right, whatever noise the others have"""
    balance: float = 1.0
    """1: all faces and inks equally often; 0: the k-th of them 1 / k^2 as often as the first; linear between"""
    synthetic: float = 0.0
    """share of samples that are words with captions that are right"""


def require_rising(starts: Sequence[int], what: str) -> None:
    """Raises ValueError unless the first updates of entries begin at 0 and rise."""
    if not starts or starts[0] != 0 or list(starts) != sorted(set(starts)):
        raise ValueError(f"{what} must start at 0 and rise, got starts {list(starts)}")


def in_force(starts: Sequence[int], step: int) -> int:
    """The index of the last of rising `starts` that is not after `step`."""
    return bisect_right(starts, step) - 1


@dataclass(frozen=True)
class Curriculum:
    """Five progressions over the updates of a run, each of (first update, value): see `Plan` for the values."""

    resolution: tuple[tuple[int, Weights], ...] = ()
    """shares of the full side, each equally often, such as ((0, (0.5,)), (100, (0.5, 1.0)))"""
    text: tuple[tuple[int, Weights], ...] = ()
    """weights of the levels of `rendered_text.scene`"""
    refinement: tuple[tuple[int, float], ...] = ()
    """share of captions that are right"""
    balance: tuple[tuple[int, float], ...] = ()
    """from 0, a long tail of faces and inks, to 1, all of them equally often"""
    synthetic: tuple[tuple[int, float], ...] = ()
    """share of words rendered to be read, with captions that are right"""

    def __post_init__(self) -> None:
        for field in fields(self):
            entries = getattr(self, field.name)
            if not entries:
                continue
            require_rising([start for start, _ in entries], f"the curriculum's {field.name}")
            for start, value in entries:
                if isinstance(value, tuple):
                    if not value or min(value) < 0 or sum(value) <= 0:
                        raise ValueError(f"{field.name} from update {start}: {value} must be >= 0, one above 0")
                elif not 0.0 <= value <= 1.0:
                    raise ValueError(f"{field.name} from update {start}: {value} must be a share from 0 to 1")

    def at(self, step: int) -> Plan:
        """What is shown at an update."""
        chosen = {}
        for name in Plan._fields:
            if entries := getattr(self, name):
                chosen[name] = entries[in_force([start for start, _ in entries], step)][1]
        return Plan(**chosen)

    @property
    def changes(self) -> tuple[int, ...]:
        """The updates from which on something else is shown; 0 is the first of them."""
        starts = {start for field in fields(self) for start, _ in getattr(self, field.name)}
        return tuple(sorted(starts | {0}))

    def _each(self, change: Callable[[str, Progression], Progression]) -> Curriculum:
        """The curriculum with every progression that it has changed."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: change(name, entries) for name, entries in own.items() if entries})

    def last(self) -> Curriculum:
        """No curriculum: what is shown at the end, from the first update on."""
        return self._each(lambda name, entries: ((0, entries[-1][1]),))

    def mixed(self, steps: int) -> Curriculum:
        """Everything from the start: at every update, what `steps` updates show on average."""
        return self._each(lambda name, entries: ((0, mean(name, durations(entries, steps))),))

    def reverse(self, steps: int) -> Curriculum:
        """The same stages, each as long as it was, in the opposite order."""

        def turned(name: str, entries: Progression) -> Progression:
            parts = durations(entries, steps)[::-1]
            starts = accumulate((updates for updates, _ in parts[:-1]), initial=0)
            return tuple((start, value) for start, (_, value) in zip(starts, parts, strict=True))

        return self._each(turned)

    def lines(self) -> list[str]:
        """A line for every update at which something changes, with what is shown from there on."""
        named = [field.name for field in fields(self) if getattr(self, field.name)]
        return [
            f"from update {step}: " + ", ".join(f"{name} {shown(name, getattr(self.at(step), name))}" for name in named)
            for step in self.changes
            if named
        ]


def durations(entries: Progression, steps: int) -> list[tuple[int, Any]]:
    """How many of `steps` updates show each value. Raises ValueError for a value that is never shown."""
    if entries[-1][0] >= steps:
        raise ValueError(f"the curriculum changes at update {entries[-1][0]}, and there are only {steps} updates")
    ends = [*(start for start, _ in entries[1:]), steps]
    return [(end - start, value) for (start, value), end in zip(entries, ends, strict=True)]


def mean(name: str, parts: Sequence[tuple[int, Any]]) -> Value:
    """The mean of values over their durations; of resolutions, each as often as all the updates show it."""
    steps = sum(updates for updates, _ in parts)
    if name == "resolution":
        common = math.lcm(*(len(value) for _, value in parts))
        counts = [(share, updates * common // len(value)) for updates, value in parts for share in value]
        unit = math.gcd(*(count for _, count in counts))
        return tuple(share for share, count in counts for _ in range(count // unit))
    if name != "text":
        return float(sum(updates * value for updates, value in parts) / steps)
    kinds = range(max(len(value) for _, value in parts))
    shares = [(updates / steps / sum(value), value) for updates, value in parts]
    return tuple(sum(part * value[kind] for part, value in shares if kind < len(value)) for kind in kinds)


def shown(name: str, value: Value) -> str:
    """A value in few characters; of resolutions, how often each is shown."""
    if name == "resolution" and isinstance(value, tuple) and len(value) > len(set(value)):
        return " ".join(f"{each:.3g} ({value.count(each) / len(value):.0%})" for each in dict.fromkeys(value))
    return ":".join(f"{each:.3g}" for each in value) if isinstance(value, tuple) else f"{value:.3g}"
