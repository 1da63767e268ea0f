"""Answers in a run's folder, ties included, as algorithms that know ties read them.

The file is comparisons.jsonl, which `glyphlab train NAME --pairs` writes (experiments/preferences/from_people.py), or
else the pairs.jsonl that a machine made, which holds no tie.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch

from alignment.kto import Verdicts
from alignment.tied_dpo import Answers
from base_model.policy_model import PolicyModel
from experiments.preferences.from_scores import PAIRS, latents_of
from preference_data import comparisons
from preference_data.comparisons import TIES, Comparison
from preference_data.image_files import source_readers

COMPARISONS = "comparisons.jsonl"

VERDICTS = {"left": (True, False), "right": (False, True), "both_good": (True, True), "both_bad": (False, False)}
"""Whether the left and the right image are good, by the answer; a plain tie calls neither of them anything."""


def has_answers(folder: Path) -> bool:
    return (folder / PAIRS).exists() or (folder / COMPARISONS).exists()


def load(folder: Path) -> list[Comparison]:
    return comparisons.load(folder / (COMPARISONS if (folder / COMPARISONS).exists() else PAIRS))


def load_answers(model: PolicyModel, folder: Path) -> Answers:
    """The better image first. Raises ValueError as `latents_of` and `comparisons.load` do."""
    answers = load(folder)
    ordered = [(c.right, c.left) if c.outcome == "right" else (c.left, c.right) for c in answers]
    (first, second), grids = latents_of(model, folder, ordered)
    margins = [math.nan if c.strength is None else c.strength for c in answers]
    return Answers(
        first, second, tuple(c.prompt.text for c in answers),
        torch.tensor([c.outcome in TIES for c in answers]), torch.tensor(margins),
        model.read_images(source_readers(c.prompt.sources for c in answers)), grids,
    )  # fmt: skip


def load_verdicts(model: PolicyModel, folder: Path) -> Verdicts:
    """Every image that an answer calls good or bad, once an answer. Raises ValueError when there is none."""
    judged = [
        (ref, good, c.prompt.text, c.prompt.sources)
        for c in load(folder)
        if c.outcome in VERDICTS
        for ref, good in zip((c.left, c.right), VERDICTS[c.outcome], strict=True)
    ]
    if not judged:
        raise ValueError(f"{folder} has only plain ties, which call no image good or bad; collect other answers")
    refs, good, texts, sources = zip(*judged, strict=True)
    (x0,), grids = latents_of(model, folder, [(ref,) for ref in refs])
    return Verdicts(x0, torch.tensor(good), texts, model.read_images(source_readers(sources)), grids)
