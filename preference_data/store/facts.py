"""Facts that the store keeps about prompts and images: what they are, what scored them, what was read in them.

The first record of a prompt, an image or a score stays; adding it again changes nothing. A prompt is its text: where
an id is known with another text already, the new prompt gets the id of its own text, so that no answer ever moves to
another prompt. An image is its pixels, which two sources may tell different things about: its record keeps what the
first one said, and each campaign keeps what it was told where that differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import Connection, select

from preference_data.records import ImageRef, Prompt, Provenance, SourceImage, prompt_id
from preference_data.store import schema
from preference_data.store.store import insert_new

PROVENANCE = ("model", "revision", "seed", "steps", "guidance", "run", "step")
BROUGHT = Provenance(model="source", revision="", seed=-1, steps=0, guidance=0.0, run="", step=0)
"""Of images that were brought along to be edited; the seed -1 and 0 steps are no values of a real one."""
SOURCE = 255
"""Characters of a source that are kept, the last ones."""
CHUNK = 500
"""Names in one query; databases bound the number of parameters."""


@dataclass(frozen=True)
class Line:
    """A line of text in an image: where it is, (left, top, right, bottom) in pixels, and how sure the reader was."""

    text: str
    box: tuple[float, float, float, float]
    confidence: float


@dataclass(frozen=True)
class Reading:
    """What an OCR engine read in an image; `text` is None when it could not be read, "" when there was nothing."""

    sha256: str
    engine: str
    text: str | None
    lines: tuple[Line, ...] = ()


def add_prompts(db: Connection, prompts: Iterable[Prompt], source: str, licence: str = "") -> dict[Prompt, Prompt]:
    """Keep prompts; each with the prompt that it is in the store.

    That is itself, or, where its id is known with another text, the same under the id of its text. Raises ValueError
    when even that id is taken, which only a forged id can do.
    """
    stored: dict[Prompt, Prompt] = {}
    for batch in chunks(list(dict.fromkeys(prompts))):
        named = {prompt: prompt for prompt in batch}
        moved = _insert_prompts(db, named, source, licence)
        again = {prompt: replace(prompt, id=prompt_id(prompt.text, prompt.sources)) for prompt in moved}
        for prompt, known in _insert_prompts(db, again, source, licence).items():
            raise ValueError(f"the prompt {prompt.text!r} has the id {prompt.id!r}, which is known with another text, "
                             f"and the id of its text belongs to {known!r}; give it another id")  # fmt: skip
        stored |= named | again
    return stored


def _insert_prompts(db: Connection, named: Mapping[Prompt, Prompt], source: str, licence: str) -> dict[Prompt, str]:
    """Insert the prompts `named` stands for where their ids are free; {prompt: text that its id is known with}."""
    insert_new(db, schema.prompt, [
        {"id": p.id, "text": p.text, "spans": list(p.spans), "language": p.language, "category": list(p.category),
         "source": source[-SOURCE:], "licence": licence, "sources": [each.sha256 for each in p.sources] or None}
        for p in named.values()
    ])  # fmt: skip
    table = schema.prompt
    query = select(table.c.id, table.c.text, table.c.sources).where(table.c.id.in_([p.id for p in named.values()]))
    known = {row.id: (row.text, row.sources or []) for row in db.execute(query)} if named else {}
    requested = {prompt: (p.text, [each.sha256 for each in p.sources]) for prompt, p in named.items()}
    return {prompt: known[p.id][0] for prompt, p in named.items() if known[p.id] != requested[prompt]}


def source_refs(prompts: Iterable[Prompt]) -> dict[str, ImageRef]:
    """The records of the source images of prompts, by hash."""
    return {s.sha256: ImageRef(s.sha256, s.path, s.width, s.height, BROUGHT) for p in prompts for s in p.sources}


def add_images(db: Connection, images: Iterable[ImageRef], at: float) -> None:
    """Keep where images come from."""
    insert_new(db, schema.image, [
        {"sha256": p.sha256, "width": p.width, "height": p.height, "origin": p.path, "created_at": at,
         **{name: getattr(p.provenance, name) for name in PROVENANCE}}
        for p in images
    ])  # fmt: skip


def differing_provenance(db: Connection, images: Iterable[ImageRef]) -> dict[str, dict[str, Any]]:
    """By hash, what is said of these images where their records say something else; call after `add_pictures`."""
    answer = {p.sha256: p.provenance for p in images}
    table = {}
    for batch in chunks(sorted(answer)):
        for row in db.execute(select(schema.image).where(schema.image.c.sha256.in_(batch))):
            if Provenance(*(getattr(row, name) for name in PROVENANCE)) != answer[row.sha256]:
                table[row.sha256] = asdict(answer[row.sha256])
    return table


def add_readings(db: Connection, readings: Iterable[Reading], at: float) -> None:
    """Stores what engines read in images."""
    insert_new(db, schema.reading, [
        {"sha256": r.sha256, "engine": r.engine, "text": r.text, "lines": [asdict(line) for line in r.lines],
         "created_at": at}
        for r in readings
    ])  # fmt: skip


def prompts(db: Connection, ids: Iterable[str], folder: str = "") -> dict[str, Prompt]:
    """The prompts of these ids, by id. `folder` is where the files of their source images are, as in `images`."""
    batches = list(chunks(sorted(set(ids))))
    rows = [row for batch in batches for row in db.execute(select(schema.prompt).where(schema.prompt.c.id.in_(batch)))]
    refs = images(db, {sha for row in rows for sha in row.sources or ()}, folder)
    sources = {sha: SourceImage(sha, ref.width, ref.height, ref.path) for sha, ref in refs.items()}
    return {
        row.id: Prompt(row.id, row.text, tuple(row.spans), row.language, tuple(row.category),
                       tuple(sources[sha] for sha in row.sources or ()))
        for row in rows
    }  # fmt: skip


def images(db: Connection, hashes: Iterable[str], folder: str = "") -> dict[str, ImageRef]:
    """The images of these hashes, by hash. `folder`, when given, is where their files are now: FOLDER/SHA256.png."""
    table = {}
    for batch in chunks(sorted(set(hashes))):
        for row in db.execute(select(schema.image).where(schema.image.c.sha256.in_(batch))):
            made = Provenance(*(getattr(row, name) for name in PROVENANCE))
            path = f"{folder}/{row.sha256}.png" if folder else row.origin
            table[row.sha256] = ImageRef(row.sha256, path, row.width, row.height, made)
    return table


def readings(db: Connection, hashes: Iterable[str]) -> dict[str, tuple[Reading, ...]]:
    """What was read in these images, by hash; () where nothing was asked."""
    wanted = sorted(set(hashes))
    by_key: dict[str, tuple[Reading, ...]] = dict.fromkeys(wanted, ())
    for batch in chunks(wanted):
        rows = db.execute(
            select(schema.reading).where(schema.reading.c.sha256.in_(batch)).order_by(schema.reading.c.engine)
        )
        for row in rows:
            lines = tuple(Line(line["text"], tuple(line["box"]), line["confidence"]) for line in row.lines)
            by_key[row.sha256] += (Reading(row.sha256, row.engine, row.text, lines),)
    return by_key


def chunks(values: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """Slices short enough for one query."""
    return (values[i : i + CHUNK] for i in range(0, len(values), CHUNK))
