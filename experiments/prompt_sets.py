"""Prompts for alignment and evaluation: captions of seeded scenes, or those of a file."""

from __future__ import annotations

from pathlib import Path

from base_model.data.text import Scene, scene
from base_model.seeding import numpy_generator
from experiments.experiment import PromptPlan
from preference_data.prompts import PromptSet
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
    """Captions of the plan's scenes, or the prompts of its file.

    Raises ValueError when the file cannot be read, a line of it is no prompt, or it has too few.
    """
    if plan.file:
        return read_prompts(Path(plan.file), plan.count)
    return [Prompt.from_text(drawn.caption) for drawn in make_scenes(plan)]


def read_prompts(file: Path, count: int) -> list[Prompt]:
    """The first `count` prompts of a file. Raises as `make_prompts`."""
    try:
        found = PromptSet.load(file)
    except OSError as error:
        raise ValueError(
            f"the prompts in {file} cannot be read: {error}; name a text file with a prompt a line"
        ) from error
    if len(found) < count:
        raise ValueError(f"{file} has {len(found)} prompts and {count} are asked for; lower prompts.count")
    return list(found[:count])
