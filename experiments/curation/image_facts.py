"""Lists what sources have, and what they say of an image beside its captions: licence, author, seed, written lines.

Of tables of a folder every column counts; of Parquet and webdataset those of `KNOWN`, because others may be large.
"""

from __future__ import annotations

import functools
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from experiments.images.caption_tables import (
    NAMES,
    TABLE_SUFFIXES,
    TEXTS,
    file_name,
    file_names,
    key_of,
    posix,
    rows_of,
)
from experiments.images.columnar_files import parquet_file
from experiments.images.edit_pairs import INSTRUCTIONS, column_roles, files_below
from experiments.images.image_readers import Entry, hidden, is_table, list_entries
from preference_data.line_files import decode_text, parse_json

KNOWN = ("license", "licence", "url", "source", "origin", "author", "category", "kind", "language", "seed", "index")
RENDERED = {"kind", "seed", "index"}
"""What `glyphlab write` notes of each image: with these it can be made again."""


def list_sources(sources: Sequence[str], column: str) -> tuple[list[dict[str, Any]], list[str]]:
    """A row for each image that the sources have, and for each that it was made from; and what was passed over."""
    rows: list[dict[str, Any]] = []
    passed: list[str] = []
    for source in sources:
        listed = list_entries(source, column)
        entries = [each for each in listed if not each.by_design]
        if first := next((each for each in listed if each.by_design), None):
            passed.append(f"passed over in {source}: {len(listed) - len(entries)}, first {first.problem_of_name}")
        base = Path(source).absolute().parent
        known: dict[Entry, int] = {}
        for entry, facts in zip(entries, facts_of_source(source, entries), strict=True):
            row = row_of(entry, facts, base, len(rows))
            rows.append(row)
            for each in entry.sources:
                if each not in known:
                    known[each] = len(rows)
                    rows.append(row_of(each, {}, base, len(rows)))
                row["sources"].append(known[each])
    return rows, passed


def row_of(entry: Entry, facts: Mapping[str, Any], base: Path, number: int) -> dict[str, Any]:
    """A line of the list of images; names of files are kept from `base` on, so that a folder may move."""
    file = entry.file.absolute()
    try:
        status = file.stat()
        size, changed = status.st_size, status.st_mtime_ns
    except OSError:
        size, changed = -1, -1
    return {
        "row": number, "name": entry.name, "file": str(file), "kind": entry.kind, "at": entry.at[0],
        "length": entry.at[1], "column": entry.column, "problem": entry.problem, "size": size, "sources": [],
        "captions": list(entry.captions), "facts": json.dumps(facts, ensure_ascii=False) if facts else "",
        "rendered": facts.keys() >= RENDERED, "changed": changed, "inside": os.path.relpath(file, base),
    }  # fmt: skip


def facts_of_source(source: str, entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """The facts of each entry of a source, in their order; {} where there are none."""
    by_file = table_facts(Path(source))
    by_tar: dict[Path, dict[str, dict[str, Any]]] = {}
    results = []
    for entry in entries:
        if entry.kind == "file":
            results.append(by_file.get(key_of(entry.file), {}))
        elif entry.kind == "tar":
            if entry.file not in by_tar:
                by_tar[entry.file] = tar_facts(entry.file)
            results.append(by_tar[entry.file].get(tar_key(entry.name.removeprefix(f"{entry.file}:")), {}))
        else:
            results.append(column_facts(entry) if entry.kind == "parquet" else {})
    return results


def table_facts(source: Path) -> dict[str, dict[str, Any]]:
    """Facts of the files that the tables of a folder name, by `key_of` their paths."""
    tables = [source] if source.suffix.lower() in TABLE_SUFFIXES else []
    if source.is_dir():
        tables = [
            path for path in sorted(files_below(source)) if not hidden(path.relative_to(source)) and is_table(path)
        ]
    facts: dict[str, dict[str, Any]] = {}
    for table in tables:
        for _, row in rows_of(table):
            sources, targets, _ = column_roles(row)
            is_edit = any(file_names(row[key]) for key in sources)
            named = [key for key in (*targets, *sources) if is_edit and file_names(row[key])]
            no_fact = {*NAMES, *TEXTS, *named, *(INSTRUCTIONS if is_edit else ())}
            name = next((row[key] for key in targets if is_edit and row.get(key)), file_name(row) or "")
            own = {key: value for key, value in row.items() if key.lower() not in no_fact and value not in (None, "")}
            if own:
                facts.setdefault(key_of(table.parent / posix(str(name))), {}).update(own)
    return facts


def tar_key(name: str) -> str:
    """The key of webdataset: a name up to the first dot of its last part."""
    base = PurePosixPath(name).name
    return name[: -len(base)] + base.partition(".")[0]


def tar_facts(path: Path) -> dict[str, dict[str, Any]]:
    """Facts of an archive's .json files that can be read, by key."""
    facts: dict[str, dict[str, Any]] = {}
    seen: set[str] = set()
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            if member.isfile() and member.name.lower().endswith(".json"):
                file = archive.extractfile(member)
                assert file is not None
                row = {}
                if member.name not in seen:  # of a name that comes twice nobody can say whose facts they are
                    with suppress(ValueError):
                        row = parse_json(decode_text(file.read(), member.name), member.name)
                seen.add(member.name)
                if isinstance(row, Mapping):
                    facts[tar_key(member.name)] = {key: row[key] for key in KNOWN if row.get(key) not in (None, "")}
    return facts


def column_facts(entry: Entry) -> dict[str, Any]:
    """Facts of a row of a Parquet file."""
    row = group_facts(entry.file, entry.at[0])[entry.at[1]] if known_columns(entry.file) else {}
    return {name: value for name, value in row.items() if value not in (None, "") and is_plain(value)}


def known_columns(path: Path) -> list[str]:
    """The columns of a Parquet file that hold facts."""
    return [name for name in KNOWN if name in parquet_file(path).schema_arrow.names]


@functools.lru_cache(maxsize=4)
def group_facts(path: Path, group: int) -> list[dict[str, Any]]:
    """The facts of the rows of a row group."""
    rows: list[dict[str, Any]] = parquet_file(path).read_row_group(group, known_columns(path)).to_pylist()
    return rows


def is_plain(value: Any) -> bool:
    """Whether JSON can hold a value."""
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
