"""Which prompts show what a run has learned: its own where it has a file, answers or images of one's own, and rendered
words elsewhere. Checkpoint samples, monitors and the evaluation at the end all ask here.

Own prompts that nothing was learned from come first where a run is judged: the lines of its file behind those it uses.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from base_model.data.rendered_text import CHINESE, COMMON_CHINESE, ENGLISH
from base_model.data.stream import TextStream
from base_model.policy_model import PolicyModel
from experiments.evaluation.outcome import JUDGED
from experiments.evaluation.prompts_of_plan import first_prompts, make_prompts
from experiments.experiment import Experiment, MonitorPlan, PromptPlan
from experiments.images.image_readers import Entry
from experiments.images.image_sources import OwnImages
from experiments.preferences.from_scores import with_own_sources
from experiments.preferences.load_answers import has_answers
from experiments.preferences.load_answers import load as load_comparisons
from experiments.record.whole_files import write_bytes
from experiments.training.own_images import unreadable
from preference_data.image_files import source_of
from preference_data.prompts import PromptSet
from preference_data.records import Prompt

FIXED_PROMPTS = PromptPlan(count=6, seed=61, heldout=True)
"""What is sampled at every checkpoint of a run that has no prompts of its own, to be looked at."""

JUDGED_COUNT = 48
"""Own prompts that a finished model is evaluated on, at most."""
MOST = 1000
"""Own prompts that anybody looks at: of a million captions the first ones."""


@dataclass(frozen=True)
class OwnPrompts:
    """The prompts that a run brings along."""

    learned: tuple[Prompt, ...] = ()
    """what it learns from"""
    unseen: tuple[Prompt, ...] = ()
    """what its file has beyond those, or images that were held out"""

    def judged_by(self, count: int) -> list[Prompt]:
        """At most `count` prompts that tell what was learned: unseen ones where there are any."""
        return list((self.unseen or self.learned)[:count])


def own_prompts(experiment: Experiment, folder: Path) -> OwnPrompts:
    """The own prompts of the run in `folder`; none where it learns from rendered words.

    Raises ValueError when its file of prompts cannot be read any more.
    """
    if isinstance(experiment.data, OwnImages) and experiment.data.edits:
        learned, heldout = itertools.chain(*experiment.data.sources), experiment.data.heldout
        return OwnPrompts(tuple(instructions(learned, folder)), tuple(instructions(heldout, folder)))
    if isinstance(experiment.data, OwnImages):
        unseen = dict.fromkeys(entry.captions[0] for entry in experiment.data.heldout if entry.captions)
        captions = experiment.data.captions[:MOST], list(unseen)[:MOST]
        return OwnPrompts(*(tuple(Prompt.from_text(text) for text in each) for each in captions))
    plan = experiment.prompts or (experiment.pairs.prompts if experiment.pairs else None)
    if experiment.algorithm.learns_from == "pairs" and has_answers(folder):
        prompts = [answer.prompt for answer in load_comparisons(folder)]
        answered = tuple({(prompt.text, prompt.sources): prompt for prompt in prompts}.values())
        if plan is None or not {each.text for each in answered} <= {each.text for each in make_prompts(plan)}:
            return OwnPrompts(answered)  # people's, and not those that were made here
    if plan is None or not plan.file:
        return OwnPrompts()
    every = first_prompts(Path(plan.file), plan.count and plan.count + MOST)
    learned = plan.count or len(every)
    return OwnPrompts(tuple(every[:learned]), tuple(every[learned:]))


def instructions(entries: Iterable[Entry], folder: Path) -> Iterator[Prompt]:
    """The first instructions of one's own edits, with what they edit as files of the run's folder."""
    edits = (entry for entry in entries if entry.sources and entry.captions)
    for entry in itertools.islice(edits, JUDGED_COUNT):
        sources = tuple(source_of(each.content(), each.name) for each in entry.sources)
        prompt = with_own_sources(Prompt.from_text(entry.captions[0], sources=sources), folder).located(folder)
        yield replace(prompt, sources=tuple(replace(each, content=b"") for each in prompt.sources))


def checkpoint_prompts(experiment: Experiment, folder: Path) -> list[Prompt]:
    """What is sampled at checkpoints: the first own prompts, or a few held-out words."""
    fixed = replace(FIXED_PROMPTS, levels=scene_levels(experiment))
    return list(own_prompts(experiment, folder).learned[: FIXED_PROMPTS.count]) or make_prompts(fixed)


def monitored_prompts(experiment: Experiment, plan: MonitorPlan, folder: Path) -> list[Prompt]:
    """What monitors sample: their own file's prompts where they name one, else the run's own, else the plan's words."""
    if plan.prompts.file:
        return make_prompts(plan.prompts)
    watched = replace(plan.prompts, levels=scene_levels(experiment))
    return own_prompts(experiment, folder).judged_by(watched.count) or make_prompts(watched)


def scene_levels(experiment: Experiment) -> tuple[int, ...]:
    """The kinds of scene that held-out words are made of, for a run without prompts of its own: English words, Chinese
    strings or both in turns, as its prompts or images are."""
    if plan := experiment.prompts or (experiment.pairs.prompts if experiment.pairs else None):
        return plan.levels
    if not isinstance(experiment.data, TextStream):
        return (ENGLISH,)
    shown = {level for _, weights in experiment.data.progress.text for level, weight in enumerate(weights) if weight}
    chinese = sorted(shown & {CHINESE, COMMON_CHINESE})
    return (*([ENGLISH] * bool(shown - {0, *chinese})), *chinese) or (ENGLISH,)


def readable(prompts: Sequence[Prompt], model: PolicyModel) -> list[Prompt]:
    """Those of the prompts that the model can read: a small preset knows few characters, a language model all.

    Raises ValueError where it can read none.
    """
    if model.keeps_base or not (reasons := [unreadable(prompt.text) for prompt in prompts]):
        return list(prompts)
    if all(reasons):
        raise ValueError(f"the model can read none of {len(prompts)} prompts to be monitored: {reasons[0]}")
    return [prompt for prompt, reason in zip(prompts, reasons, strict=True) if not reason]


def keep_judged(experiment: Experiment, folder: Path) -> None:
    """Write the own prompts that tell what the finished model learned into its folder; nothing where it has none, and
    of an autoencoder, which reads none."""
    cfg = experiment.algorithm
    if cfg.learns_from == "images" and cfg.trains == "autoencoder":
        return
    if prompts := own_prompts(experiment, folder).judged_by(JUDGED_COUNT):
        write_bytes(folder / JUDGED, PromptSet(prompts).to_jsonl().encode())
