"""Prompts for alignment and evaluation: captions of seeded scenes, or those of a file."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from base_model.data.rendered_text import Scene, scene
from base_model.seeding import numpy_generator
from experiments.evaluation.prompt_files import KINDS, read_prompt_file
from experiments.experiment import Experiment, PromptPlan
from preference_data.prompts import PromptSet
from preference_data.records import Prompt

OPEN = "open"
"""The category of prompts that leave the look open."""


def make_scenes(plan: PromptPlan) -> list[Scene]:
    """`plan.count` scenes with distinct words: a pure function of the plan."""
    scenes: dict[str, Scene] = {}
    index = 0
    while len(scenes) < plan.count:
        level = plan.levels[index % len(plan.levels)]
        samples = scene(numpy_generator(plan.seed, index, 0, "prompt"), level, heldout=plan.heldout)
        scenes.setdefault(samples.word, samples)
        index += 1
    return list(scenes.values())


def make_prompts(plan: PromptPlan) -> list[Prompt]:
    """Captions of the plan's scenes, or the prompts of its file.

    Raises ValueError when the file cannot be read, a line of it is no prompt or names a source image that is missing or
    broken, or it has too few.
    """
    if plan.file:
        return read_prompts(Path(plan.file), plan.count)
    return [prompt_of(scene, is_bare(plan, index)) for index, scene in enumerate(make_scenes(plan))]


def is_bare(plan: PromptPlan, index: int) -> bool:
    """Whether a prompt of the plan leaves the look open: spread evenly over the prompts of each level."""
    turn = index // len(plan.levels)
    return int((turn + 1) * plan.bare) > int(turn * plan.bare)


def prompt_of(scene: Scene, bare: bool) -> Prompt:
    """What asks for a scene: its whole caption, or the word and its place alone."""
    if bare:
        return Prompt.from_text(scene.caption_naming(("place",)), category=(OPEN,))
    return Prompt.from_text(scene.caption)


def fitted(experiment: Experiment, named: Collection[str]) -> tuple[Experiment, list[str]]:
    """The experiment with as many prompts as its files have, where that is fewer and nobody set the count; and what to
    tell the user. `named` are the settings that were set by hand, as in prompts.count.

    Raises as `make_prompts`.
    """
    answer: list[str] = []

    def fit(plan: PromptPlan | None, setting: str) -> PromptPlan | None:
        if plan is None or not plan.file or f"{setting}.count" in named:
            return plan
        there = len(first_prompts(Path(plan.file), plan.count))
        if not 0 < there < plan.count:
            return plan
        answer.append(f"{plan.file} has {there} prompts: all of them are used, instead of {plan.count}")
        return replace(plan, count=there)

    prompts, pairs, monitors = fit(experiment.prompts, "prompts"), experiment.pairs, experiment.monitors
    if pairs:
        pairs = replace(pairs, prompts=fit(pairs.prompts, "pairs.prompts"))
    if monitors:
        monitors = replace(monitors, prompts=fit(monitors.prompts, "monitors.prompts"))
    return (replace(experiment, prompts=prompts, pairs=pairs, monitors=monitors) if answer else experiment), answer


def read_prompts(file: Path, count: int) -> list[Prompt]:
    """The first `count` prompts of a file, 0 = all. Raises as `make_prompts`."""
    prompts = first_prompts(file, count)
    if len(prompts) < count:
        raise ValueError(
            f"{file} has {len(prompts)} prompts and {count} are asked for; lower prompts.count, or leave it out"
        )
    return prompts


def first_prompts(file: Path, count: int) -> list[Prompt]:
    """The first `count` prompts of a file, or as many as it has; 0 = all. A file of an unknown name has one a line."""
    try:
        if file.suffix.lower() in KINDS and file.is_file():
            return list(PromptSet(replace(each.prompt, size=each.size) for each in read_prompt_file(file, count)))
        return list(PromptSet.load(file)[: count or None])
    except OSError as error:
        raise ValueError(
            f"the prompts in {file} cannot be read: {error}; name a text file with a prompt a line"
        ) from error
