"""Values of a row, checked: what is of another kind or out of range is named, and never taken for something else.

The limits are those of the store's columns, on SQLite as on PostgreSQL, which would refuse some of them itself.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from preference_data.exchange.judgements import OUTCOMES, Judgement
from preference_data.records import ImageRef, Prompt, image_from_json

ANNOTATOR, ID, LANGUAGE, MODEL, WORD = 120, 64, 16, 120, 80
"""Most characters of each."""
LAST = 253_402_300_799.0
"""The end of the year 9999, in seconds since 1970."""
LONGEST = 1_000_000.0
"""Seconds of the longest answer that is kept, eleven days."""
WHOLE = 2**31 - 1
SEED = 2**63 - 1
AXIS = ("first", "second", "tie", "na")
DECIDED_BY = ("answer", "majority", "adjudication")


def whole(value: Any, name: str, low: int = 0, high: int = WHOLE) -> int:
    """An integer, also one written as a text or as 3.0. Raises ValueError."""
    if isinstance(value, str) and value.strip().lstrip("-").isdecimal() and len(value) < 25:
        value = int(value)
    value = _unquoted(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    return strict_int(value, name, low, high)


def strict_int(value: Any, name: str, low: int = 0, high: int = WHOLE) -> int:
    """An integer that is one. Raises ValueError."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{name} is {_shown(value)}; it must be a whole number from {low} to {high}")
    return value


def number(value: Any, name: str, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number, also one written as a text. Raises ValueError."""
    return strict_number(_unquoted(value), name, low, high)


def strict_number(value: Any, name: str, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number that is one. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} is {_shown(value)}; it must be a finite number")
    if not low <= value <= high:
        raise ValueError(f"{name} is {_shown(value)}; it lies between {low} and {high}")
    return float(value)


def text(value: Any, name: str, longest: int | None = None, empty: bool = True) -> str:
    """A text that every database can keep. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError(f"{name} is {_shown(value)}; it must be a text")
    if not empty and not value.strip():
        raise ValueError(f"{name} is empty")
    if longest is not None and len(value) > longest:
        raise ValueError(f"{name} has {len(value)} characters, and at most {longest} are kept: {value[:20]!r}...")
    if "\0" in value or any("\ud800" <= c <= "\udfff" for c in value):
        raise ValueError(f"{name} holds a zero character or half of a character, which no database keeps")
    return value


def words(value: Any, name: str) -> tuple[str, ...]:
    """A list of short texts. Raises ValueError, also for one text, whose letters would become the list."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"{name} is {_shown(value)}; it must be a list of texts")
    return tuple(text(word, f"an entry of {name}", WORD, empty=False) for word in value)


def counts(value: Any, name: str, length: int) -> tuple[int, ...]:
    """So many vote counts, also written as texts. Raises ValueError."""
    if not isinstance(value, list | tuple) or len(value) != length:
        raise ValueError(f"{name} is {_shown(value)}; it must be a list of {length} counts of votes")
    return tuple(whole(count, f"a count of {name}") for count in value)


def moment(value: Any) -> float | None:
    """Seconds since 1970 of a date and time, or of its text in ISO 8601; None for anything else."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    seconds = (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return seconds if 0 < seconds <= LAST else None  # 0 stands for "not known" in some files


def written(at: float | None) -> str | None:
    """Seconds since 1970 as ISO 8601, which `moment` reads back; None for None."""
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat()


def duration(value: Any) -> float | None:
    """Seconds that an answer took, as another tool counted them; None for anything that is no such number."""
    value = _unquoted(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 < value <= LONGEST else None  # a page left open for weeks says nothing about an answer


def annotator(value: Any, name: str = "annotator") -> str:
    """An annotator: a text, or a number that somebody's database gave them; "" for nobody. Raises ValueError."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(whole(value, name, -SEED, SEED))
    return text(value, name, ANNOTATOR)


def details(extra: Mapping[str, Any]) -> dict[str, Any]:
    """What a row says beside images and outcome, as fields of a `Judgement`. Raises ValueError naming the field."""
    if unknown := [name for name in extra if name not in DETAILS]:
        raise ValueError(f"the field {unknown[0]!r} is unknown")
    return {name: DETAILS[name](value, name) for name, value in extra.items()}


def check(j: Judgement) -> None:
    """Raises ValueError when something of a judgement is of a wrong kind, does not fit, or contradicts the rest."""
    prompt(j.prompt)
    for side, ref in (("first", j.first), ("second", j.second)):
        check_image(ref, side)
    _one_of(j.outcome, "outcome", OUTCOMES)
    first, second, _ = j.votes
    beaten = {"first": first < second, "second": second < first}.get(j.outcome, False)
    if not j.annotator and j.decided_by == "majority" and beaten:
        raise ValueError(f"the outcome is {j.outcome!r} by majority, but the votes are {first} for the first image "
                         f"and {second} for the second")  # fmt: skip


def known_image(data: Any, side: str) -> ImageRef:
    """An image's record that a row describes. Raises ValueError naming what of it is wrong."""
    if not isinstance(data, Mapping):
        raise ValueError(f"{side} is {_shown(data)}; it must be an object that describes an image")
    if "sha256" in data:
        text(data["sha256"], f"{side}: sha256")
    for name in ("width", "height"):
        if name in data:
            strict_int(data[name], f"{side}: {name}", 1)
    reference = image_from_json(data)
    check_image(reference, side)
    return reference


def prompt(value: Prompt) -> None:
    """Raises ValueError naming what of a prompt cannot be kept."""
    text(value.id, "the prompt's id", ID)
    text(value.text, "the prompt's text")
    text(value.language, "the prompt's language", LANGUAGE)
    for word in (*value.spans, *value.category):
        text(word, "a span or category of the prompt")


def check_image(ref: ImageRef, side: str) -> None:
    """Raises ValueError naming what of an image's record cannot be kept."""
    made = ref.provenance
    strict_int(ref.width, f"{side}: width", 1)
    strict_int(ref.height, f"{side}: height", 1)
    text(ref.path, f"{side}: path")
    text(made.model, f"{side}: model", MODEL)
    text(made.revision, f"{side}: revision", MODEL)
    text(made.run, f"{side}: run")
    strict_int(made.seed, f"{side}: seed", -SEED - 1, SEED)
    strict_int(made.steps, f"{side}: steps")
    strict_int(made.step, f"{side}: step", -1)
    strict_number(made.guidance, f"{side}: guidance")


def _axes(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ValueError(f'axes is {_shown(value)}; it must be an object such as {{"text": "first"}}')
    return {text(name, "an axis", WORD, empty=False): _one_of(side, f"axis {name}", AXIS)
            for name, side in value.items()}  # fmt: skip


def _one_of(value: Any, name: str, allowed: Sequence[str]) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} is {_shown(value)}; choose one of {', '.join(allowed)}")
    return value


def _or_none(low: float, high: float) -> Callable[[Any, str], float | None]:
    """Reads a finite number in a range, or None."""
    return lambda value, name: None if value is None else strict_number(value, name, low, high)


def _truth(value: Any, name: str) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; it is true, false or null")
    return value


DETAILS: dict[str, Callable[[Any, str], Any]] = {
    "annotator": annotator, "axes": lambda value, _: _axes(value), "tags": words, "rationale": text,
    "strength": lambda value, name: None if value is None else strict_int(value, name, 1, 5),
    "at": _or_none(0.0, LAST), "seconds": _or_none(0.0, LONGEST), "propensity": _or_none(1e-300, 1.0),
    "votes": lambda value, name: counts(value, name, 3), "reading_shown": _truth,
    "decided_by": lambda value, name: _one_of(value, name, DECIDED_BY),
}  # fmt: skip
"""What reads each field of a `Judgement` that a row may have beside images and outcome."""


def _unquoted(value: Any) -> Any:
    """The number that a text writes, such as "0.93", which tables that were text once hold; else the value itself."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return float(value)
    return value


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
