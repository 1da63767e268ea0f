"""What a format is: rows out of a judgement, and a judgement out of a row.

A format whose readers know no tie says so (`ties`), and the exchange then asks what to do with ties; it never writes
one as a win. Every row also carries what its format has no place for under names that its readers pass over, so that a
judgement comes back as it was; rows from elsewhere lack them, and what is not known is said to be unknown.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from preference_data.exchange.formats.containers import Problems
from preference_data.exchange.formats.values import known_image
from preference_data.exchange.judgements import Judgement
from preference_data.line_files import parse_json
from preference_data.records import ImageRef, Prompt, Provenance, SourceImage, prompt_from_json, to_json

UNKNOWN = Provenance(model="unknown", revision="", seed=-1, steps=0, guidance=0.0, run="import", step=0)
"""Of images from files that do not say; the seed -1 and 0 steps are no values of a real one."""
Row = Mapping[str, Any]
FIELDS = (
    "annotator", "strength", "axes", "tags", "rationale", "at", "propensity", "votes", "decided_by", "reading_shown",
    "seconds",
)  # fmt: skip
"""Of `Judgement`, what every row carries beside the prompt, the two images and the outcome."""


@dataclass(frozen=True)
class Incoming:
    """An image as a row has it: its bytes, or the path of its file, and what is known about it."""

    content: bytes | None
    path: str
    known: ImageRef | None
    model: str = "unknown"


@dataclass(frozen=True)
class RowAnswer:
    """A judgement as a row has it, its images not looked at yet. `extra` are fields of `Judgement`."""

    prompt: Prompt
    first: Incoming
    second: Incoming
    outcome: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    sources: tuple[Incoming, ...] = ()
    """what the prompt asks to edit, where the row has it beside the prompt"""


def renamed(row: Any, fields: Mapping[str, str]) -> Row:
    """A row whose fields have our names; `fields` is {ours: theirs}. Raises ValueError for one that is not there."""
    if not isinstance(row, Mapping):
        raise ValueError(f"found {str(row)[:40]!r} where an object with named fields should be")
    if missing := [theirs for theirs in fields.values() if theirs not in row]:
        raise ValueError(f"there is no field {missing[0]!r}; the fields are {', '.join(map(repr, sorted(row)))}")
    return {**row, **{ours: row[theirs] for ours, theirs in fields.items()}}


def one_each(
    rows: Iterable[tuple[int, Any]], problems: Problems, fields: Mapping[str, str]
) -> Iterator[tuple[int, Row]]:  # fmt: skip
    """Rows that hold one judgement each, under our names."""
    for number, row in rows:
        try:
            yield number, renamed(row, fields)
        except ValueError as error:
            problems.append((number, str(error)))


def reason_of(error: Exception) -> str:
    """What is wrong with a row, in words."""
    if isinstance(error, KeyError):
        return f"the field {error} is missing"
    if isinstance(error, TypeError | AttributeError | IndexError):
        return f"a field is of another kind than the format has: {error}"
    return str(error)


@dataclass(frozen=True)
class Format:
    """`container` is jsonl, json or parquet. `ties`: readers of the format know ties.

    `encode` makes the rows of the judgements, given a function that reads an image's PNG; `decode` reads one row, and
    returns None for a row that judges nothing. ValueError or KeyError says that a row is malformed. `spread` makes rows
    of one judgement of a file's rows, under our names; what it cannot read it adds to the problems.
    """

    name: str
    container: str
    ties: bool
    encode: Callable[[Sequence[Judgement], Callable[[ImageRef], bytes]], list[dict[str, Any]]]
    decode: Callable[[Row], RowAnswer | None]
    about: str
    spread: Callable[[Iterable[tuple[int, Any]], Problems, Mapping[str, str]], Iterator[tuple[int, Row]]] = one_each
    sources: bool = False
    """whether a row can show the images that a prompt asks to edit"""


def exported(j: Judgement) -> Judgement:
    """The judgement with the paths that its source images have in an exported folder."""
    return replace(j, prompt=replace(j.prompt, sources=tuple(replace(s, path=png_path(s)) for s in j.prompt.sources)))


def carried(j: Judgement) -> str:
    """Everything that a row of another format has no place for, as one JSON text."""
    extras = to_json(exported(j)) | {"axes": dict(j.axes)}
    return json.dumps(extras, ensure_ascii=False, sort_keys=True)


def extra(row: Row) -> dict[str, Any]:
    """What `carried` wrote; {} for a row from elsewhere. Raises ValueError when it is damaged."""
    text = row.get("glyphlab")
    extras = parse_json(text, "the field glyphlab") if isinstance(text, str) else {}
    if not isinstance(extras, dict) or (extras and not {"outcome", "prompt", "first", "second"} <= set(extras)):
        raise ValueError(f"the field glyphlab is {str(text)[:60]!r}; it is a JSON object with a whole judgement")
    return extras


def row_answer(text: str, first: Incoming, second: Incoming, outcome: str, extras: Mapping[str, Any]) -> RowAnswer:
    """A row's judgement with what it carried.

    Raises ValueError when the row and what it carries disagree about the outcome: one of the two was edited.
    """
    if extras:
        mine = extras["outcome"]
        neither = outcome in ("tie", "both_good", "both_bad")
        agrees = mine == outcome or (neither and mine in ("tie", "both_good", "both_bad"))
        if not agrees:
            raise ValueError(
                f"the row says {outcome!r} and its field glyphlab {mine!r}; remove the field or correct it"
            )
        outcome = mine
    known = {name: known_image(extras[name], name) for name in ("first", "second") if name in extras}
    one = Incoming(first.content, first.path, known.get("first"), first.model)
    other = Incoming(second.content, second.path, known.get("second"), second.model)
    prompt = prompt_of(text, extras)
    return RowAnswer(prompt, one, other, outcome, {name: extras[name] for name in FIELDS if name in extras})


def prompt_of(text: str, extras: Mapping[str, Any]) -> Prompt:
    """The prompt with its own id and category when they were carried, else made from its text."""
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"the prompt is {text!r}; it must be a text that is not empty")
    return (
        prompt_from_json(extras["prompt"])
        if "prompt" in extras and extras["prompt"]["text"] == text
        else Prompt.from_text(text)
    )


def file(row: Row, name: str, model: str = "unknown") -> Incoming:
    """An image given by path. Raises KeyError or ValueError when the field is missing or empty."""
    path = row[name]
    if not isinstance(path, str) or not path:
        raise ValueError(f"{name} is {path!r}; it must be the path of an image")
    return Incoming(None, path, None, model)


def listed_files(row: Row, name: str) -> tuple[Incoming, ...]:
    """Images given by a path or a list of paths; () where there are none. Raises ValueError for something else."""
    value = row.get(name) or ()
    paths = [value] if isinstance(value, str) else value
    if not isinstance(paths, list | tuple):
        raise ValueError(f"{name} is {str(value)[:40]!r}; it must be the path of an image, or a list of such paths")
    return tuple(file({name: path}, name) for path in paths)


def content(row: Row, name: str, model: str = "unknown") -> Incoming:
    """An image given by its bytes, bare or in the {"bytes": ..., "path": ...} of the datasets package."""
    value = row[name]
    if isinstance(value, Mapping):
        value = value.get("bytes")
    if not isinstance(value, bytes) or not value:
        raise ValueError(f"{name} holds no image's bytes")
    return Incoming(value, name, None, model)


def either(value: Any, name: str) -> Incoming:
    """An image given by path or by its bytes."""
    if isinstance(value, Mapping) and not value.get("bytes"):
        value = value.get("path")
    return file({name: value}, name) if isinstance(value, str) else content({name: value}, name)


def png_path(ref: ImageRef | SourceImage) -> str:
    """An image's path in an exported folder."""
    return f"pictures/{Path(ref.sha256).name}.png"
