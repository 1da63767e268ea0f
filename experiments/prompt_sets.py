"""Prompts for alignment and evaluation: captions of seeded scenes."""

from __future__ import annotations

from base_model.data.text import Scene, scene
from base_model.seeding import numpy_generator
from experiments.experiment import PromptPlan
from preference_data.records import Prompt

LEVEL = 4
"""All faces, sizes and places, dark inks on light paper."""


def make_scenes(plan: PromptPlan) -> list[Scene]:
    """`plan.count` scenes with distinct words: a pure function of the plan."""
    scenes: dict[str, Scene] = {}
    index = 0
    while len(scenes) < plan.count:
        drawn = scene(numpy_generator(plan.seed, index, 0, "prompt"), LEVEL, heldout=plan.heldout)
        scenes.setdefault(drawn.word, drawn)
        index += 1
    return list(scenes.values())


def make_prompts(plan: PromptPlan) -> list[Prompt]:
    """Their captions."""
    return [Prompt.from_text(drawn.caption) for drawn in make_scenes(plan)]
