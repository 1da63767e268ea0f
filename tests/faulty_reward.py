"""A reward that fails on demand, in a module of its own: workers import it, and nothing heavy with it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from preference_data.records import Prompt
from rewards.scores import Scores

BRIGHT = (0.0, 1.0)


class FaultyScorer:
    """The mean pixel; does `fault` at its call number `at`, once in all where a file `once` tells workers apart."""

    name = "faulty"

    def __init__(self, fault: str, at: int, once: str) -> None:
        self.fault, self.at, self.once, self.calls = fault, at, once, 0

    def __call__(self, prompts: Sequence[Prompt], images_B3HW: np.ndarray) -> Scores:
        self.calls += 1
        value_B = images_B3HW.reshape(len(prompts), -1).mean(axis=1, dtype=np.float64)
        if self.calls != self.at or (self.once and Path(self.once).exists()):
            return Scores(value_B, {"mean": value_B})
        if self.once:
            Path(self.once).touch()
        if self.fault == "raises":
            raise ArithmeticError("too bright")
        if self.fault == "hangs":
            time.sleep(600)
        if self.fault == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "short":
            value_B = value_B[:-1]
        if self.fault == "infinite":
            value_B[0] = np.inf
        if self.fault == "nan":
            value_B[:] = np.nan
        return Scores(value_B, {"mean": value_B})


@dataclass(frozen=True)
class Faulty:
    version: ClassVar[int] = 1
    range: ClassVar[tuple[float, float]] = BRIGHT
    needs: ClassVar[tuple[str, ...]] = ()
    fault: str = ""
    at: int = 4
    once: str = ""

    def load(self, device: str = "cpu") -> FaultyScorer:
        return FaultyScorer(self.fault, self.at, self.once)
