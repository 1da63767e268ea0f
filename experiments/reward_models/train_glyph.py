"""From rendered characters to the reward `glyph`: crops are made, a network is trained, its folder is written.

All is a function of the settings: what was stopped makes the same crops again and goes on from its last checkpoint, to
the same weights bit for bit.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from base_model.data.glyphs.crops import Source
from base_model.data.glyphs.shapes import LANGUAGES, TRAINING, UNSEEN, alphabet
from base_model.data.writing.faces import own_face
from experiments.progress import Progress
from experiments.record.stopped_training import WORK, begin, require_same
from experiments.record.whole_files import write_bytes
from experiments.reward_models.glyph_examples import Labelled, References, all_references, made, make
from experiments.reward_models.glyph_levels import PASSING, levels
from experiments.reward_models.glyph_plan import GlyphPlan
from preference_data.statistics.score_intervals import auc
from preference_data.statistics.shares import Counted
from rewards.glyph.glyph import CONTENT, GlyphModel, as_files
from rewards.glyph.glyph_network import GlyphNetwork
from rewards.glyph.glyph_training import train
from rewards.glyph.wholeness import Levels

CARD, CHECKPOINT = "model_card.md", "checkpoint.pt"
CARD_CROPS = 800
"""crops, of other seeds than training's, that each row of the card is measured on"""
CLEAN_SHARE = 0.15
"""of the crops that it learns from, as a program renders them: what a true rendering looks like"""
SECONDS_CROP, SECONDS_UPDATE = 0.0015, 0.06
"""on one idle core, for the first estimate of the time left"""


def check(plan: GlyphPlan) -> None:
    """Raises ValueError for settings that cannot work, and for a face that cannot be read."""
    languages = plan.chosen_languages
    if unknown := [each for each in languages if each not in TRAINING]:
        raise ValueError(f"languages are {', '.join(TRAINING)}, not {', '.join(unknown)}")
    if not languages or plan.crops < 100 or plan.save_every < 1:
        raise ValueError(
            f"languages={plan.languages!r}, crops={plan.crops}, save_every={plan.save_every}: at least one language, "
            "100 crops and 1 update"
        )
    for language, path in plan.own_faces:
        if language not in languages:
            raise ValueError(f"the face {path} is for {language}, which is none of {', '.join(languages)}")
    source_of(plan)


def source_of(plan: GlyphPlan) -> Source:
    """The crops that are learned from."""
    packaged = [(language, face) for language in plan.chosen_languages for face in TRAINING[language]]
    own = [(language, own_face(path, language)) for language, path in plan.own_faces]
    return Source(faces=tuple(packaged + own), kinds=plan.chosen_kinds, clean=CLEAN_SHARE, seed=plan.settings.seed)


def facts_of(plan: GlyphPlan) -> dict[str, Any]:
    """All settings, as they are compared and recorded."""
    own = [[language, path.name] for language, path in plan.own_faces]
    return {
        "languages": list(plan.chosen_languages), "crops": plan.crops, "kinds": list(plan.chosen_kinds), "faces": own,
        **asdict(plan.settings),
    }  # fmt: skip


def train_glyph(plan: GlyphPlan, progress: Progress | None = None) -> list[str]:
    """Train and write the folder `out`; what to tell the user.

    What was stopped goes on from its last checkpoint in `out`/training. Raises ValueError as `check`, and for a folder
    that holds something else, or a training with other settings.
    """
    check(plan)
    if (plan.out / CONTENT).exists():
        return [f"{plan.out} holds a finished glyph network already; name a new folder with --out to train another"]
    require_same(plan.out, facts_of(plan))
    begin(plan.out, facts_of(plan))
    began, used = time.perf_counter(), time.process_time()
    expected = {"characters": plan.crops * SECONDS_CROP, "network": plan.settings.updates * SECONDS_UPDATE}
    bar = progress or Progress(expected)
    table = all_references()
    with bar.stage("characters", plan.crops):
        labelled = _labelled(plan, table, bar)
    with bar.stage("network", plan.settings.updates):
        network = _trained(plan, labelled, bar)
    faces = source_of(plan).faces
    level = levels(GlyphModel(network, table.characters, table.image_C2ZZ), faces, table, plan.settings.seed)
    model = GlyphModel(network, table.characters, table.image_C2ZZ, level)
    measured = measure(model, plan, table)
    took = {"wall_seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - used}
    numbers = {name: [round(v, 4) for v in (c.value, c.low, c.high)] for name, c in measured.items()}
    facts = {**facts_of(plan), **{name: round(each, 1) for name, each in took.items()}, "measured": numbers}
    files = as_files(network, plan.settings.width, table.characters, table.image_C2ZZ, level, facts)
    files[CARD] = card(plan, table, measured, took, level).encode()
    for name in sorted(files, key=lambda each: each == CONTENT):  # what says that it is finished comes last
        write_bytes(plan.out / name, files[name])
    shutil.rmtree(plan.out / WORK, ignore_errors=True)
    rows = [f"{name}: {c.value:.3f} ({c.low:.3f} to {c.high:.3f})" for name, c in measured.items()]
    return [
        *rows, f"took {took['wall_seconds']:.0f} s, {took['cpu_seconds']:.0f} s of the processor",
        f"{plan.out} is ready: use it as glyph:weights={plan.out}",
    ]  # fmt: skip


def _labelled(plan: GlyphPlan, table: References, bar: Progress) -> Labelled:
    before = 0
    for each in make(source_of(plan), plan.crops, table):
        if isinstance(each, Labelled):
            return each
        bar.advance(each - before, {})
        before = each
    raise AssertionError("the examples come last")


def _trained(plan: GlyphPlan, labelled: Labelled, bar: Progress) -> GlyphNetwork:
    path = plan.out / WORK / CHECKPOINT
    state = torch.load(path, weights_only=True) if path.exists() else None
    if state is not None:
        bar.advance(int(state["update"]))
    network = None
    for update in train(labelled.examples, plan.settings, state):
        bar.advance(1, update.metrics)
        network = update.network
        if update.number % plan.save_every == 0 or update.number == plan.settings.updates:
            fresh = path.with_suffix(".new")
            torch.save(update.state(), fresh)
            fresh.replace(path)
    if network is None:  # it was stopped after its last update
        assert state is not None
        network = GlyphNetwork(plan.settings.width)
        network.load_state_dict(state["network"])
    return network.eval()


def measure(model: GlyphModel, plan: GlyphPlan, table: References) -> dict[str, Counted]:
    """Area under the curve, sound above broken, with intervals over characters, on crops that it has not seen."""
    results: dict[str, Counted] = {}
    for language in plan.chosen_languages:
        held_out = alphabet(language, held_out=language != "en")
        sets = {"faces of training": Source(faces=tuple((language, face) for face in TRAINING[language]))}
        if UNSEEN[language]:
            sets["other faces"] = Source(faces=tuple((language, face) for face in UNSEEN[language]))
        if language != "en":
            sets["other characters"] = Source(faces=sets["faces of training"].faces, characters=((language, held_out),))
        for name, of_set in sets.items():
            source = Source(of_set.faces, of_set.characters, sound=0.5, empty=0.0, seed=10_000 + plan.settings.seed)
            results[f"{language}, {name}"] = area(model, made(source, CARD_CROPS, table))
    return results


def scores(model: GlyphModel, labelled: Labelled, batch: int = 256) -> np.ndarray:
    """The network's scores [N] of examples."""
    examples = labelled.examples
    results = []
    for start in range(0, len(examples.crop_NZZ), batch):
        rows = slice(start, start + batch)
        results.append(model.score(list(examples.crop_NZZ[rows]), labelled.characters[rows]))
    return np.concatenate(results)


def area(model: GlyphModel, labelled: Labelled) -> Counted:
    """The area under the curve of sound against all others, with its interval by characters."""
    return auc(scores(model, labelled), labelled.examples.sound_N, labelled.examples.character_N)


def _shifts(table: References, level: Levels) -> str:
    each = {name: float(level.shift_C[table.language_C == i].max(initial=0.0)) for i, name in enumerate(LANGUAGES)}
    return " and ".join(f"{shift:.2f} for {language}" for language, shift in each.items())


def card(
    plan: GlyphPlan, table: References, measured: dict[str, Counted], took: dict[str, float], level: Levels
) -> str:
    """What it is, how good, and what it cannot see."""
    names = {
        each: [face.name for language, face in source_of(plan).faces if language == each]
        for each in plan.chosen_languages
    }
    faces = [f"{language}: {', '.join(dict.fromkeys(each))}" for language, each in names.items()]
    lines = [
        "# Model card", "",
        "- what: a convolutional network that sees a character, cut to its ink, beside two renderings of what it "
        "should be; it says how sound it is and where it is not",
        f"- made: {time.strftime('%Y-%m-%d', time.gmtime())}, seed {plan.settings.seed}, {plan.crops} rendered "
        f"characters, {plan.settings.updates} updates of {plan.settings.batch}; "
        f"{took['cpu_seconds']:.0f} s of the processor",
        f"- learned from: {'; '.join(faces)}",
        f"- kinds of damage: {', '.join(plan.chosen_kinds)}",
        f"- references: {len(table.characters)} characters; others are not judged", "",
        "## Sound against broken", "",
        "Area under the curve on characters rendered with another seed, 95 % intervals by characters. Faces and "
        "Chinese characters called other are in no training.", "",
        "| crops | area | 95 % |", "|---|---:|---:|",
        *(f"| {name} | {c.value:.3f} | {c.low:.3f} to {c.high:.3f} |" for name, c in measured.items()), "",
        "## Use", "",
        f"`glyph:weights={plan.out}` as a reward. Its level differs between faces: train on differences between "
        "images of one prompt, and mix it with a reward that reads, such as `ocr*glyph:weights=...`. Judge "
        "with a network of another seed.", "",
        f"0.5 lies where blank, half and solid crops of the faces above end, {PASSING:.1%} of them left out; to that "
        f"end {_shifts(table, level)} is added to the network's logit. What looks more like a half of its references "
        "than any of those faces does, or has no ground in its middle, scores at most 0.5.", "",
        "## What it does not see", "",
        "- whether the right text stands there: that is for a reward that reads",
        "- text besides the prompt's, and characters without a reference",
        "- display, script and hairline faces, which it takes for broken more often",
        "- grain, ringing and mild blur: sound characters had them in training as well", "",
    ]  # fmt: skip
    return "\n".join(lines)
