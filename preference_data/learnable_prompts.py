"""Prompts chosen by what can still be learned from them: those that are always or never done right wait.

    (L1)  success = mean reward of a prompt's last group, of all ranks' groups; the reward lies in [0, 1]
    (L2)  a prompt whose success lies outside [low, high] is passed over `REST` times, then tried again

A group that is all right or all wrong has no spread and teaches nothing, yet costs as much as one that does. Prompts
that were never tried, or could not be judged, are taken as they come.

Every rank knows all rewards, so all choose alike. What was chosen follows from the successes so far: `history` of a run
that was interrupted gives the choice that it would have made.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from preference_data.prompts import PromptSet
from preference_data.records import Prompt

REST = 2
"""times that a prompt is passed over before it is tried again, so that what is learned or lost meanwhile is noticed"""


class LearnablePrompts:
    """Prompts by (index, size) as ``PromptSet.batch``, of a run whose updates come one after the other.

    ``slots`` is how many batches an update may ask for, on all ranks together. ``note`` is handed what must be kept of
    an update: its number, and success by prompt id; ``history`` is what was kept of those before.
    Raises ValueError for bounds that are none, prompts that name sizes, and a history of other prompts.
    """

    has_sizes = False

    def __init__(
        self, prompts: PromptSet, within: tuple[float, float], slots: int, size: int,
        note: Callable[[int, Mapping[str, float]], None], history: Iterable[Mapping[str, float]] = (),
    ) -> None:  # fmt: skip
        check_bounds(within)
        if prompts.has_sizes:
            raise ValueError("prompts that name sizes are sampled in an order of their own: set success to None")
        self._prompts, self._within, self._slots, self._size, self._note = prompts, within, slots, size, note
        self._by_id = {prompt.id: prompt for prompt in prompts}
        self._success: dict[str, float] = {}
        self._rests: dict[str, int] = {}
        self._order = self._endless()
        self._step, self._chosen = -1, list[str]()
        self._passed_over = 0
        for success in history:
            self._choose(self._step + 1)
            if not success.keys() <= set(self._chosen):
                raise ValueError(
                    "the prompts that this run chose before are no longer those of its settings; give it the prompts "
                    "that it began with, or begin a new run"
                )
            self._success |= success

    def batch(self, index: int, size: int) -> Sequence[Prompt]:
        """The prompts of a slot, of update ``index // slots``."""
        assert size == self._size, "an update asks for batches of one size"
        step, slot = divmod(index, self._slots)
        if step != self._step:
            self._choose(step)
        return [self._by_id[name] for name in self._chosen[slot * size : (slot + 1) * size]]

    def record(self, step: int, success: Sequence[Sequence[float]]) -> dict[str, float]:
        """Keep the success of each rank's groups of an update, in the order of its batches; NaN where not judged.

        Returns the metric of how many prompts waited."""
        of_rank = len(self._chosen) // len(success)
        known = {
            self._chosen[rank * of_rank + i]: value
            for rank, row in enumerate(success)
            for i, value in enumerate(row)
            if not math.isnan(value)
        }
        self._success |= known
        self._note(step, known)
        return {"passed_over": float(self._passed_over)}

    def _choose(self, step: int) -> None:
        count, chosen = self._slots * self._size, dict[str, None]()
        repeats, self._passed_over = count > len(self._by_id), 0
        several = list[str]()
        while len(several) < count:
            name = next(self._order)
            if name in chosen and not repeats:
                continue
            if self._waits(name):
                self._rests[name] = self._rests.get(name, 0) + 1
                self._passed_over += 1
                continue
            self._rests[name] = 0
            chosen[name] = None
            several.append(name)
        self._step, self._chosen = step, several

    def _waits(self, name: str) -> bool:
        low, high = self._within
        outside = name in self._success and not low <= self._success[name] <= high
        return outside and self._rests.get(name, 0) < REST

    def _endless(self) -> Iterator[str]:
        for epoch in itertools.count():
            yield from (prompt.id for prompt in self._prompts.batch(epoch, len(self._prompts)))


def check_bounds(within: tuple[float, float]) -> None:
    """Raises ValueError for bounds that let nothing, or not even a group with spread, pass."""
    low, high = within
    if not 0.0 <= low < high <= 1.0:
        raise ValueError(f"success={low:g},{high:g}: it must be two numbers from 0 to 1, the lower one first")
