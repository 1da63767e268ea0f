"""Shards on disk: a table and a note of what made it, written whole or not at all, so that a kill costs one shard.

    .curation/entries/00003.parquet   which images the shard has, and where their bytes are
    .curation/GROUP/00003.parquet     the numbers that a group of measures found, one row an image or caption
    .curation/GROUP/00003.json        the note: fingerprint of the measures, sha256 of input and output, counts

A shard is done when its note says so and the table has the sha256 that the note names; then it is never made again.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from experiments.record.whole_files import write_bytes, write_json

HIDDEN = ".curation"


def table_path(folder: Path, group: str, shard: int) -> Path:
    """Where the table of a group and shard lies; its note has the ending .json."""
    return folder / HIDDEN / group / f"{shard:05d}.parquet"


def as_bytes(rows: Sequence[Mapping[str, Any]], schema: Any) -> bytes:
    """Rows as the bytes of a Parquet file."""
    import pyarrow
    import pyarrow.parquet

    buffer = io.BytesIO()
    table = pyarrow.Table.from_pylist([dict(row) for row in rows], schema=schema)
    pyarrow.parquet.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def write_shard(path: Path, content: bytes, note: Mapping[str, Any]) -> None:
    """Put a table in place, then the note that says that it is whole."""
    write_bytes(path, content)
    write_json(path.with_suffix(".json"), {**note, "output": sha256(content).hexdigest()})


def read_note(path: Path) -> Mapping[str, Any]:
    """The note of a table; {} where there is none, or the table is not the one it speaks of."""
    try:
        note = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        whole = sha256(path.read_bytes()).hexdigest() == note["output"]
    except (OSError, ValueError, KeyError):
        return {}
    return note if whole else {}


def read_table(path: Path) -> Any:
    """The table of a shard."""
    import pyarrow.parquet

    return pyarrow.parquet.read_table(path)


def fingerprint(value: Any) -> str:
    """A short hash of what JSON can hold."""
    return sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]
