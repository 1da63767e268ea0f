"""Prompts for alignment and evaluation: captions of seeded scenes."""

from __future__ import annotations

from base_model.data.text import scene
from base_model.seeding import numpy_generator
from experiments.experiment import PromptPlan
from preference_data.records import Prompt

LEVEL = 4
"""All faces, sizes, colours and places."""


def make_prompts(plan: PromptPlan) -> list[Prompt]:
    """`plan.count` prompts with distinct words: a pure function of the plan."""
    prompts: dict[str, Prompt] = {}
    index = 0
    while len(prompts) < plan.count:
        drawn = scene(numpy_generator(plan.seed, index, 0, "prompt"), LEVEL, heldout=plan.heldout)
        prompts.setdefault(drawn.word, Prompt.from_text(drawn.caption))
        index += 1
    return list(prompts.values())
