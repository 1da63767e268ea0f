"""What a format is: rows out of a judgement, and a judgement out of a row.

A format whose readers know no tie says so (`ties`), and the exchange then asks what to do with ties; it never writes
one as a win. Every row also carries what its format has no place for under names that its readers pass over, so that a
judgement comes back as it was; rows from elsewhere lack them, and what is not known is said to be unknown.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from preference_data.judgements import Judgement
from preference_data.records import ImageRef, Prompt, Provenance, image_from_json

UNKNOWN = Provenance(model="unknown", revision="", seed=-1, steps=0, guidance=0.0, run="import", step=0)
"""Of pictures from files that do not say; the seed -1 and 0 steps are no values of a real one."""
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Incoming:
    """A picture as a row has it: its bytes, or the path of its file, and what is known about it."""

    content: bytes | None
    path: str
    known: ImageRef | None
    model: str = "unknown"


@dataclass(frozen=True)
class Said:
    """A judgement as a row has it, its pictures not looked at yet. `extra` are fields of `Judgement`."""

    prompt: Prompt
    first: Incoming
    second: Incoming
    outcome: str
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Format:
    """`container` is jsonl, json or parquet. `ties`: readers of the format know ties.

    `encode` makes the rows of the judgements, given a function that reads a picture's PNG; `decode` reads one row, and
    returns None for a row that judges nothing. ValueError or KeyError says that a row is malformed.
    """

    name: str
    container: str
    ties: bool
    encode: Callable[[Sequence[Judgement], Callable[[ImageRef], bytes]], list[dict[str, Any]]]
    decode: Callable[[Row], Said | None]
    about: str


def carried(j: Judgement) -> str:
    """Everything that a row of another format has no place for, as one JSON text."""
    from dataclasses import asdict

    kept = asdict(j) | {"axes": dict(j.axes)}
    return json.dumps(kept, ensure_ascii=False, sort_keys=True)


def extra(row: Row) -> dict[str, Any]:
    """What `carried` wrote; {} for a row from elsewhere. Raises ValueError when it is damaged."""
    text = row.get("glyphlab")
    found = json.loads(text) if isinstance(text, str) else {}
    if not isinstance(found, dict):
        raise ValueError(f"the field glyphlab is {text!r}; it is a JSON object")
    return found


def said(
    text: str, first: Incoming, second: Incoming, outcome: str, kept: Mapping[str, Any], turned: bool = False
) -> Said:
    """A row's judgement with what it carried. `turned`: the row has the pictures the other way round.

    Raises ValueError when the row and what it carries disagree about the outcome: one of the two was edited.
    """
    if kept:
        mine = kept["outcome"]
        neither = outcome in ("tie", "both_good", "both_bad")
        agrees = mine == outcome or (neither and mine in ("tie", "both_good", "both_bad"))
        if not agrees:
            raise ValueError(
                f"the row says {outcome!r} and its field glyphlab {mine!r}; remove the field or correct it"
            )
        outcome = mine
    known = {name: image_from_json(kept[name]) for name in ("first", "second") if name in kept}
    one = Incoming(first.content, first.path, known.get("first"), first.model)
    other = Incoming(second.content, second.path, known.get("second"), second.model)
    prompt = prompt_of(text, kept)
    names = ("annotator", "strength", "axes", "tags", "rationale", "at", "propensity", "votes", "decided_by")
    return Said(prompt, one, other, outcome, {name: kept[name] for name in names if name in kept})


def prompt_of(text: str, kept: Mapping[str, Any]) -> Prompt:
    """The prompt with its own id and category when they were carried, else made from its text."""
    from preference_data.records import prompt_from_json

    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"the prompt is {text!r}; it must be a text that is not empty")
    return (
        prompt_from_json(kept["prompt"])
        if "prompt" in kept and kept["prompt"]["text"] == text
        else Prompt.from_text(text)
    )


def file(row: Row, name: str, model: str = "unknown") -> Incoming:
    """A picture given by path. Raises KeyError or ValueError when the field is missing or empty."""
    path = row[name]
    if not isinstance(path, str) or not path:
        raise ValueError(f"{name} is {path!r}; it must be the path of a picture")
    return Incoming(None, path, None, model)


def content(row: Row, name: str, model: str = "unknown") -> Incoming:
    """A picture given by its bytes, bare or in the {"bytes": ..., "path": ...} of the datasets package."""
    value = row[name]
    if isinstance(value, Mapping):
        value = value.get("bytes")
    if not isinstance(value, bytes) or not value:
        raise ValueError(f"{name} holds no picture's bytes")
    return Incoming(value, name, None, model)


def place(ref: ImageRef) -> str:
    """A picture's path in an exported folder."""
    return f"pictures/{Path(ref.sha256).name}.png"
