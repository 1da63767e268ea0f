"""From rendered characters to the reward `glyph`: crops are made, networks are trained, their folder is written.

A network learns from all languages. Each language's own begins as that one and goes on with crops of its language
alone, since on letters of models one network for Latin and Chinese parts sound from broken worse, however long it
learns. All is a function of the settings: what was stopped makes the same crops again and goes on from its last
checkpoint, to the same weights bit for bit.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, dataclass, replace
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
from rewards.glyph.glyph_settings import TrainGlyph
from rewards.glyph.glyph_training import train
from rewards.glyph.wholeness import Levels

CARD = "model_card.md"
CARD_CROPS = 800
"""crops, of other seeds than training's, that each row of the card is measured on"""
CLEAN_SHARE = 0.15
"""of the crops that it learns from, as a program renders them: what a true rendering looks like"""
OWN_SHARE = 5
"""one crop in so many of the first is made anew for each language's own network"""
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
    table, every = all_references(), phases(plan)
    expected = {}
    for each in every:
        expected[f"{each.name} characters"] = each.crops * SECONDS_CROP
        expected[f"{each.name} network"] = each.settings.updates * SECONDS_UPDATE
    bar = progress or Progress(expected)
    common = _trained(plan, every[0], table, bar)
    networks = [_trained(plan, each, table, bar, common) for each in every[1:]]
    network_C, faces = np.zeros(len(table.characters), np.int64), source_of(plan).faces
    for k, language in enumerate(plan.chosen_languages):
        network_C[table.language_C == LANGUAGES.index(language)] = k
    level = replace(Levels.none(len(table.characters)), network_C=network_C)
    model = GlyphModel(networks, table.characters, table.image_C2ZZ, level)
    level = levels(model, faces, table, plan.settings.seed)
    model = GlyphModel(networks, table.characters, table.image_C2ZZ, level)
    measured = measure(model, plan, table)
    took = {"wall_seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - used}
    numbers = {name: [round(v, 4) for v in (c.value, c.low, c.high)] for name, c in measured.items()}
    facts = {**facts_of(plan), **{name: round(each, 1) for name, each in took.items()}, "measured": numbers}
    files = as_files(networks, plan.settings.width, table.characters, table.image_C2ZZ, level, facts)
    files[CARD] = card(plan, table, measured, took, level).encode()
    for name in sorted(files, key=lambda each: each == CONTENT):  # what says that it is finished comes last
        write_bytes(plan.out / name, files[name])
    shutil.rmtree(plan.out / WORK, ignore_errors=True)
    rows = [f"{name}: {c.value:.3f} ({c.low:.3f} to {c.high:.3f})" for name, c in measured.items()]
    return [
        *rows, f"took {took['wall_seconds']:.0f} s, {took['cpu_seconds']:.0f} s of the processor",
        f"{plan.out} is ready: use it as glyph:weights={plan.out}",
    ]  # fmt: skip


@dataclass(frozen=True)
class Phase:
    """A network, and what it learns from."""

    name: str
    """ "common", or the language whose own it is"""
    source: Source
    crops: int
    settings: TrainGlyph


def phases(plan: GlyphPlan) -> list[Phase]:
    """The network that learns from all languages, and each language's own after it."""
    source, cfg = source_of(plan), plan.settings
    own = replace(cfg, updates=cfg.own, rate=cfg.own_rate)
    results = [Phase("common", source, plan.crops, cfg)]
    for language in plan.chosen_languages:
        faces = tuple((each, face) for each, face in source.faces if each == language)
        of_language = replace(source, faces=faces, characters=())
        results.append(Phase(language, of_language, plan.crops // OWN_SHARE, own))
    return results


def _labelled(phase: Phase, table: References, bar: Progress) -> Labelled:
    before = 0
    for each in make(phase.source, phase.crops, table):
        if isinstance(each, Labelled):
            return each
        bar.advance(each - before, {})
        before = each
    raise AssertionError("the examples come last")


def _trained(
    plan: GlyphPlan, phase: Phase, table: References, bar: Progress, begin: GlyphNetwork | None = None
) -> GlyphNetwork:
    """The network of a phase, which goes on from its last checkpoint. Crops are made where updates are left."""
    path, updates = plan.out / WORK / f"{phase.name}.pt", phase.settings.updates
    state = torch.load(path, weights_only=True) if path.exists() else None
    first = None if begin is None else begin.state_dict()
    if state is None or state["update"] < updates:
        with bar.stage(f"{phase.name} characters", phase.crops):
            labelled = _labelled(phase, table, bar)
        with bar.stage(f"{phase.name} network", updates):
            bar.advance(state["update"] if state else 0)
            for update in train(labelled.examples, phase.settings, state, first):
                bar.advance(1, update.metrics)
                if update.number % plan.save_every == 0 or update.number == updates:
                    state = update.state()
                    fresh = path.with_suffix(".new")
                    torch.save(state, fresh)
                    fresh.replace(path)
    else:
        bar.skip(f"{phase.name} characters")
        bar.skip(f"{phase.name} network")
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
        f"characters, {plan.settings.updates} updates of {plan.settings.batch}, then {plan.settings.own} on each "
        f"language alone; {took['cpu_seconds']:.0f} s of the processor",
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
        f"0.5 lies where blank, half and solid crops of the faces above end, {PASSING:.2%} of them left out; to that "
        f"end {_shifts(table, level)} is added to the network's logit. What looks more like a half of its references "
        "than any of those faces does, or has no ground in its middle, scores at most 0.5.", "",
        "## What it does not see", "",
        "- whether the right text stands there: that is for a reward that reads",
        "- text besides the prompt's, and characters without a reference",
        "- display, script and hairline faces, which it takes for broken more often",
        "- grain, ringing and mild blur: sound characters had them in training as well", "",
    ]  # fmt: skip
    return "\n".join(lines)
