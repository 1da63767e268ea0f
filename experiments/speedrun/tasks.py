"""The tasks: what is to be written, and what is good enough. They are frozen: a change makes a new task."""

from __future__ import annotations

from dataclasses import dataclass

from base_model.data.rendered_text import ANYWHERE, CHINESE, ENGLISH, HEIGHT, WIDE, WIDTH
from base_model.sample import Sampler
from experiments.experiment import EvaluationPlan, PromptPlan


@dataclass(frozen=True)
class Task:
    """One thing to write."""

    name: str
    about: str
    """in words"""
    level: int
    """of base_model/data/rendered_text.py"""
    exact: float
    """least share of texts that the engine of rewards reads exactly"""
    gold_exact: float
    """least share that the other engine reads exactly"""
    size: tuple[int, int] = (HEIGHT, WIDTH)
    """height and width in pixels"""

    @property
    def plan(self) -> EvaluationPlan:
        """The held-out prompts, their noise and how they are sampled."""
        prompts = PromptPlan(count=192, seed=41, heldout=True, levels=(self.level,))
        return EvaluationPlan(prompts, (("unguided", Sampler(steps=10)),), seed=51)


TASKS = {task.name: task for task in (
    Task("EN", "words of 3 to 5 capitals, four faces, three sizes, nine places, dark inks on light paper",
         ENGLISH, 0.95, 0.93),
    Task("ZH-300", "strings of 2 or 3 of 300 Chinese characters, three faces, three sizes, three places, dark inks on "
         "light paper", CHINESE, 0.95, 0.90),
    Task("ANY", "words of 3 to 8 capitals, four faces, three sizes, beginning in any of ten cells, at any of five "
         "heights, all inks on all grounds that they are legible on", ANYWHERE, 0.95, 0.93, (HEIGHT, WIDE)),
)}  # fmt: skip
