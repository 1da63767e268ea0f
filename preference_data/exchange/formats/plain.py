"""Our own rows, as JSON lines or Parquet: everything that is known about a judgement, one field each."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from preference_data.exchange.formats.preference_format import (
    FIELDS,
    Format,
    Incoming,
    Row,
    RowAnswer,
    exported,
    png_path,
)
from preference_data.exchange.formats.values import known_image
from preference_data.exchange.judgements import Judgement
from preference_data.line_files import parse_json
from preference_data.records import ImageRef, prompt_from_json, to_json


def encode(judgements: Sequence[Judgement], _: Callable[[ImageRef], bytes]) -> list[dict[str, Any]]:
    """One object a judgement; images by path in the exported folder."""
    rows = []
    for j in judgements:
        row = to_json(exported(j)) | {"axes": dict(j.axes)}
        for side in ("first", "second"):
            row[side] = {**row[side], "path": png_path(getattr(j, side))}
        rows.append(row)
    return rows


def decode(row: Row) -> RowAnswer | None:
    """The inverse."""
    first, second = known_image(row["first"], "first"), known_image(row["second"], "second")
    extras = {name: row[name] for name in FIELDS if name in row}
    return RowAnswer(prompt_from_json(row["prompt"]), Incoming(None, first.path, first), Incoming(None, second.path, second),  # noqa: E501
                row["outcome"], extras)  # fmt: skip


def encode_flat(judgements: Sequence[Judgement], read: Callable[[ImageRef], bytes]) -> list[dict[str, Any]]:
    """The same with nested fields as JSON texts, so that every column has one type."""
    nested = ("prompt", "first", "second", "axes", "tags", "votes")
    return [
        {name: json.dumps(value, ensure_ascii=False) if name in nested else value for name, value in row.items()}
        | {
            "first_sha256": row["first"]["sha256"],
            "second_sha256": row["second"]["sha256"],
            "text": row["prompt"]["text"],
        }
        for row in encode(judgements, read)
    ]


def decode_flat(row: Row) -> RowAnswer | None:
    """The inverse."""
    nested = ("prompt", "first", "second", "axes", "tags", "votes")
    return decode({
        name: parse_json(value, name) if name in nested and isinstance(value, str) else value
        for name, value in row.items()
    })  # fmt: skip


JSONL = Format(
    "jsonl", "jsonl", True, encode, decode, "our own rows, one JSON object a line; loses nothing", sources=True
)
PARQUET = Format(
    "parquet", "parquet", True, encode_flat, decode_flat, "our own rows as Parquet; loses nothing", sources=True
)
