"""A working campaign for whoever has none: images that a run sampled, or a handful that our own renderer makes now.

All are pairs of makers on the same prompts: of a run that was evaluated on prompts of its own, its model and what it
began from; of a chain, its stages. A chain's evaluation also says what two recognisers read in its images,
which a campaign can show beside the prompt when it is told to.
"""

from __future__ import annotations

import io
import itertools
import math
import random
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from experiments.evaluation.outcome import own_evaluation
from experiments.evaluation.scored_images import BEFORE, IMAGES
from experiments.preferences.from_people import LATENTS_FOLDER
from experiments.record.results import MAIN, read_result
from experiments.record.whole_files import write_bytes
from preference_data import comparisons
from preference_data.campaign import campaigns
from preference_data.campaign.campaign_settings import CampaignSettings
from preference_data.campaign.campaigns import Item
from preference_data.campaign.sources import MadeImage, finished, from_folders, keep, last_update
from preference_data.records import ImageRef, Prompt, Provenance
from preference_data.store import accounts, facts
from preference_data.store.facts import Reading
from preference_data.store.store import Store

ITEMS = 120
"""Pairs of a first campaign: about half an hour of work."""
HANDFUL = 24
ANSWERED, ANSWERS = "answers", "answers.jsonl"
"""Where a quickstart keeps what simulated people were asked about."""
FIRST = "admin"
"""The name of the first account."""


@dataclass(frozen=True)
class Opened:
    """What there is to work on. `password` of the first account, "" when accounts were there already."""

    campaign: str
    items: int
    password: str


def prepare(store: Store, run: Path) -> Opened:
    """Make sure that there is an open campaign and somebody who can log in."""
    actor = store.operator
    open_ones = [c for c in campaigns.listed(store, actor) if c.state == "open"]
    name, count = (open_ones[0].name, 0) if open_ones else first_campaign(store, run)
    password = ""
    if not accounts.listed(store, actor):
        password = secrets.token_urlsafe(9)
        accounts.create(store, actor, FIRST, "admin", password, one_time=True)
    return Opened(name, count, password)


def first_campaign(store: Store, run: Path) -> tuple[str, int]:
    """Open a campaign of the run's images, or of rendered ones when there is no such run; its name and its items."""
    if (own := own_evaluation(run)).is_dir() and (own / BEFORE).is_dir():
        items, read = of_own_prompts(store, run.resolve(), own), []
        name = f"own prompts of {run.resolve().name}"
    elif (run / ANSWERED / ANSWERS).exists():
        items, read = of_answers(store, run / ANSWERED), []
        name = f"own images of {run.resolve().name}"
    elif (run / "run.json").exists():
        items, read = of_run(store, run)
        name = f"stages of {run.resolve().name}"
    else:
        items, read = handful(store)
        name = "a handful of drawn words"
    settings = CampaignSettings(axes=("text", "prompt", "aesthetics"), gold_share=0.0, attention_share=0.0)
    source = str(run) if (run / "run.json").exists() else "drawn words"
    made, _ = campaigns.create_filled(store, store.operator, name, settings, items, source, start=False)
    store.write(lambda db: facts.add_readings(db, read, store.clock()))
    campaigns.set_state(store, store.operator, made.id, "open")
    return name, len(items)


def of_own_prompts(store: Store, run: Path, own: Path) -> list[Item]:
    """Pairs of what a run's model and what it began from made of the same prompts, from the same noise.

    Raises ValueError when no two images differ.
    """
    labels = (finished(run.name, last_update(run)), "before")
    return from_folders([own / IMAGES, own / BEFORE / IMAGES], store.images, labels=labels)[:ITEMS]


def of_answers(store: Store, folder: Path) -> list[Item]:
    """The pairs that simulated people answered about, with the latents of their images, and without the answers."""
    items = []
    for one in comparisons.load(folder / ANSWERS)[:ITEMS]:
        refs = []
        for ref in (one.left, one.right):
            sha, _, _ = store.images.add((folder / ref.path).read_bytes(), ref.path)
            latent = folder / LATENTS_FOLDER / f"{sha}.safetensors"
            if latent.exists():
                write_bytes(store.images.root / LATENTS_FOLDER / latent.name, latent.read_bytes())
            refs.append(replace(ref, path=str(store.images.path(sha))))
        items.append(Item(one.prompt, tuple(refs)))
    return items


def of_run(store: Store, run: Path) -> tuple[list[Item], list[Reading]]:
    """Pairs of the run's stages on evaluation prompts, a random choice of them, and what was read in the images.

    Raises ValueError when no two stages kept images of one prompt.
    """
    result = read_result(run)
    there: dict[str, list[tuple[MadeImage, tuple[str | None, ...]]]] = {}
    for stage in result.evaluated:
        evaluation = stage.evaluation(MAIN)
        last = max((int(row.get("step") or 0) for row in stage.run.metrics), default=0)
        for index, row in enumerate(evaluation.rows if evaluation else ()):
            if row.picture is not None and row.picture.exists():
                made = Provenance(f"{result.name}/{stage.name}", MAIN, index, 0, 0.0, str(stage.run.folder), last)
                results = MadeImage(row.prompt, row.picture, made, finished(stage.name, last))
                judged = ((row.read, row.exact), (row.judge_read, row.judge_exact))
                read_of = tuple(None if math.isnan(exact) else text for text, exact in judged)
                there.setdefault(row.prompt, []).append((results, read_of))
    couples = [two for _, samples in sorted(there.items()) for two in itertools.combinations(samples, 2)]
    items: list[Item] = []
    read: dict[tuple[str, str], Reading] = {}
    for two in random.Random(0).sample(couples, len(couples)):
        refs = tuple(keep(results, store.images) for results, _ in two)
        if refs[0].sha256 != refs[1].sha256:
            items.append(Item(Prompt.from_text(two[0][0].prompt), refs, labels=tuple(f.label for f, _ in two)))
            for ref, (_, texts) in zip(refs, two, strict=True):
                for engine, text in zip(("reward", "judge"), texts, strict=True):
                    read[ref.sha256, engine] = Reading(ref.sha256, engine, text)
        if len(items) == ITEMS:
            break
    if not items:
        raise ValueError(f"no two stages of {run} kept images of one prompt, so there is nothing to compare; name "
                         "another run, or make a campaign with: glyphlab campaign create")  # fmt: skip
    return items, list(read.values())


def handful(store: Store) -> tuple[list[Item], list[Reading]]:
    """A few rendered words, each right, with a wrong letter or in another colour; what is in them is known."""
    items: list[Item] = []
    read: list[Reading] = []
    for number, (caption, images) in enumerate(rendered_scenes()):
        refs = []
        for (name, word), content in images:
            sha, width, height = store.images.add(content, f"drawn word {number}")
            made = Provenance(name, "", number, 0, 0.0, "drawn", 0)
            refs.append(ImageRef(sha, f"drawn/{number}", width, height, made))
            read.append(Reading(sha, "drawn", word))
        items.append(Item(Prompt.from_text(caption), tuple(refs)))
    return items, read


def rendered_scenes() -> Iterator[tuple[str, list[tuple[tuple[str, str], bytes]]]]:
    """(caption, two of ((maker, word in the image), PNG)) for every rendered scene."""
    import numpy as np
    from PIL import Image

    from base_model.data.rendered_text import VOWELS, render, scene

    rng = np.random.default_rng(0)
    for number in range(HANDFUL):
        requested = scene(rng, 4, heldout=True)
        letter = int(rng.integers(len(requested.word)))
        other = str(rng.choice([v for v in VOWELS if v != requested.word[letter]]))
        slip = requested.word[:letter] + other + requested.word[letter + 1 :]
        careless = replace(requested, word=slip) if number % 3 else replace(requested, size="small", column="left")
        images = []
        for maker, shown in (("careful", requested), ("careless", careless)):
            image = Image.fromarray(np.ascontiguousarray(render(shown).transpose(1, 2, 0)))
            content = io.BytesIO()
            image.resize((image.width * 4, image.height * 4), Image.Resampling.LANCZOS).save(content, "PNG")
            images.append(((maker, shown.word), content.getvalue()))
        if images[0][1] != images[1][1]:
            yield requested.caption, images
