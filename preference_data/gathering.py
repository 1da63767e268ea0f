"""Items for a campaign out of pictures that lie somewhere: who drew what, side by side wherever the prompt is the same.

    drawn pictures -> kept in the store's folder (checked, stripped of metadata, named by their pixels)
                   -> grouped by prompt -> every two makers (pair), or all makers at once (best_worst)

A folder of pictures says what they show in captions.jsonl ({"file": ..., "prompt": ...}) or in NAME.txt beside NAME.png.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from preference_data import facts
from preference_data.campaigns import Item
from preference_data.facts import Reading
from preference_data.pictures import PictureFolder
from preference_data.prompts import PromptSet
from preference_data.records import ImageRef, Prompt, Provenance
from preference_data.roles import LEAD, authorise
from preference_data.store import Store

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
UNKNOWN = -1
"""Seed, steps, step or guidance of a picture that came without them."""


@dataclass(frozen=True)
class Drawn:
    """A picture file of a prompt by a maker. `readings` are (engine, text), text None where it could not be read."""

    prompt: str
    file: Path
    made: Provenance
    label: str
    readings: tuple[tuple[str, str | None], ...] = ()


def folder(place: Path, label: str = "") -> list[Drawn]:
    """The captioned pictures of a folder, by the maker `label` (the folder's name when empty).

    Raises FileNotFoundError when there is no such folder, ValueError when a line of captions.jsonl is wrong or no
    picture has a caption.
    """
    if not place.is_dir():
        raise FileNotFoundError(f"there is no folder {place}")
    label = label or place.resolve().name
    made = Provenance(label, "", UNKNOWN, UNKNOWN, UNKNOWN, str(place), UNKNOWN)
    found = [Drawn(prompt, file, made, label) for file, prompt in _captions(place)]
    if not found:
        raise ValueError(f"no picture in {place} has a caption; write captions.jsonl "
                         '({"file": "a.png", "prompt": "..."} a line) or a.txt beside a.png')  # fmt: skip
    return found


def _captions(place: Path) -> Iterator[tuple[Path, str]]:
    listed = place / "captions.jsonl"
    if listed.exists():
        for number, line in enumerate(listed.read_text(encoding="utf-8").splitlines(), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                file, prompt = (place / row["file"]).resolve(), str(row["prompt"])
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{listed} line {number}: {error!r}; each line is an object with file and prompt") from error
            if not file.is_relative_to(place.resolve()):
                raise ValueError(f"{listed} line {number}: {row['file']!r} lies outside of the folder")
            yield file, prompt
        return
    for file in sorted(place.iterdir()):
        text = file.with_suffix(".txt")
        if file.suffix.lower() in SUFFIXES and text.exists():
            yield file, text.read_text(encoding="utf-8").strip()


def items(
    pictures: PictureFolder, drawn: Iterable[Drawn], kind: str = "pair", prompts: Sequence[str] | None = None,
    limit: int = 0, seed: int = 0, disagreement: Mapping[tuple[str, str, str], float] | None = None,
) -> tuple[list[Item], list[Reading]]:  # fmt: skip
    """Items that compare different makers' pictures of one prompt, and what was read in the pictures.

    `prompts` keeps only those texts; `limit` > 0 draws that many items at random (`seed`); `disagreement` weighs a pair
    by (prompt, label, label in alphabetical order). Raises ValueError when no two makers share a prompt.
    """
    wanted = None if prompts is None else set(prompts)
    groups: dict[str, dict[str, Drawn]] = {}
    for one in drawn:
        if wanted is None or one.prompt in wanted:
            groups.setdefault(one.prompt, {}).setdefault(one.label, one)
    sets = [
        chosen
        for _, by_label in sorted(groups.items())
        for chosen in (
            itertools.combinations([by_label[name] for name in sorted(by_label)], 2)
            if kind == "pair"
            else [tuple(by_label[name] for name in sorted(by_label))]
        )
        if len(chosen) > 1
    ]
    if not sets:
        raise ValueError("no prompt was drawn by two makers, so there is nothing to compare")
    if 0 < limit < len(sets):
        sets = random.Random(seed).sample(sets, limit)
    kept = {one: _keep(pictures, one) for one in {d for chosen in sets for d in chosen}}
    weights = disagreement or {}
    made = []
    for chosen in sets:
        refs = tuple(kept[d] for d in chosen)
        if len({r.sha256 for r in refs}) == len(refs):  # two makers can draw the same pixels; nothing to choose then
            weight = weights.get((chosen[0].prompt, chosen[0].label, chosen[-1].label), 1.0)
            made.append(Item(Prompt.from_text(chosen[0].prompt, language_of(chosen[0].prompt)), refs,
                             disagreement=weight, labels=tuple(d.label for d in chosen)))  # fmt: skip
    if not made:
        raise ValueError("the makers drew the same pictures, so there is nothing to compare")
    read = [Reading(kept[d].sha256, engine, text) for d in kept for engine, text in d.readings]
    return made, read


def prompt_texts(content: str, name: str) -> list[str]:
    """The prompts of a file: one a line, or JSON objects in NAME.jsonl. Raises ValueError naming the line."""
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / ("prompts.jsonl" if name.endswith(".jsonl") else "prompts.txt")
        file.write_text(content, encoding="utf-8")
        return [p.text for p in PromptSet.load(file)]


def add_readings(store: Store, actor: int, found: Sequence[Reading]) -> int:
    """Keep what engines read in pictures, for a lead; how many were new."""

    def work(db: Connection) -> int:
        authorise(db, actor, LEAD)
        return facts.add_readings(db, found, store.clock())

    return store.write(work)


def language_of(text: str) -> str:
    """zh when there is a Chinese character, en otherwise."""
    return "zh" if any("\u3400" <= c <= "\u9fff" for c in text) else "en"


def _keep(pictures: PictureFolder, one: Drawn) -> ImageRef:
    sha, width, height = pictures.add(one.file.read_bytes(), str(one.file))
    return ImageRef(sha, str(one.file), width, height, one.made)
