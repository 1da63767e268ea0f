"""Reads tables that say which image file has which captions: .csv, .jsonl, and Parquet without images.

Names of columns may be in any case. A row whose caption is no text keeps its image, and says what is wrong; an empty
cell, null or NaN is no caption.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from experiments.images.columnar_files import parquet_file
from experiments.images.edit_pairs import INSTRUCTIONS, column_roles
from preference_data.image_files import SUFFIXES
from preference_data.line_files import read_csv, read_json_lines, same_name

TABLE_SUFFIXES = (".csv", ".jsonl", ".parquet")
TABLES = tuple(f"{name}{suffix}" for name in ("metadata", "captions") for suffix in TABLE_SUFFIXES)
"""Files of a folder that say which image has which caption, in small letters; a .parquet that holds images does not."""
NAMES = ("file_name", "picture", "image", "file", "path")
"""Columns of a table that may name the image; the first that is there."""
TEXTS = ("text", "caption", "captions", "prompt")
"""Columns that may hold captions; the first that is there."""
REPEATS = "repeats"
"""Column of a table that says how often an image is shown in a pass; once where it is not there."""


def key_of(path: Path) -> str:
    """One spelling of a file's path, however a table names it: from the root, without `.` and `..`, accents as one."""
    return same_name(os.path.abspath(path))


def once(texts: Sequence[str]) -> tuple[str, ...]:
    """Captions without blanks around them, each once, none of them empty."""
    return tuple(dict.fromkeys(text.strip() for text in texts if text.strip()))


class Row(NamedTuple):
    """A line of a table."""

    line: int
    name: str
    """of the image file"""
    captions: list[str]
    sources: list[str]
    """names of the files that it was made from"""
    repeats: int
    problem: str
    """why its captions cannot be read; "" where they can"""


def rows_of(path: Path) -> Iterator[tuple[int, Any]]:
    """(line, row) of a .csv, .jsonl or .parquet file. Raises ValueError where it cannot be read."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        table = parquet_file(path)
        groups = (table.read_row_group(group).to_pylist() for group in range(table.num_row_groups))
        return enumerate((row for group in groups for row in group), 1)
    return read_csv(path)[1] if suffix == ".csv" else read_json_lines(path)


def table_rows(path: Path, column: str) -> Iterator[Row]:
    """The lines of a table. Raises ValueError for one that names no file."""
    for line, row in rows_of(path):
        if not isinstance(row, Mapping):
            raise ValueError(f"{path} line {line} is not an object; it needs file_name and text")
        sources, targets, _ = column_roles(map(str, row))
        before = [text for name in sources for text in file_names(row[name])]
        after = [text for name in targets for text in file_names(row[name])][:1] if before else []
        named = file_name(row)
        for text in after or [named]:
            if not isinstance(text, str):
                raise ValueError(f"{path} line {line} has no file_name; it has the columns {', '.join(map(str, row))}")
            captions, problem = captions_or_problem(row, column, f"{path} line {line}", bool(before))
            yield Row(line, posix(text), captions, before, repeats_of(row, f"{path} line {line}"), problem)


def repeats_of(row: Mapping[str, Any], where: str) -> int:
    """How often the image of a row is shown in a pass. Raises ValueError for what is no number from 1 on."""
    value = row.get(REPEATS)
    often = "1" if value in (None, "") else str(value)
    if not often.isdecimal() or int(often) < 1:
        raise ValueError(f"{where}: {REPEATS} is {value!r}, and an image is shown a whole number of times, 1 or more")
    return int(often)


def file_name(row: Mapping[str, Any]) -> Any:
    """What a row names its image file; None where it names none. Columns may be written in any case."""
    values = {str(key).lower(): value for key, value in row.items()}
    return next((values[name] for name in NAMES if values.get(name)), None)


def file_names(value: Any) -> list[str]:
    """The names of image files in a cell: of one, or of a list."""
    each = value if isinstance(value, list) else [value]
    return [posix(name) for name in each if isinstance(name, str) and name.lower().endswith(SUFFIXES)]


def posix(name: str) -> str:
    """A path of a table as this system writes it."""
    return str(PurePosixPath(name.replace("\\", "/")))


def captions_of(row: Mapping[str, Any], column: str, where: str, is_edit: bool = False) -> list[str]:
    """The captions of a row, or its instructions. Raises ValueError when `column` is not there, or holds no text."""
    name = column or text_column(row, is_edit)
    if column and column not in row:
        raise ValueError(f"{where} has no column {column!r}; it has {', '.join(map(str, row))}")
    value = row.get(name)
    values = value if isinstance(value, list) else [value]
    texts = [text for text in values if text is not None and text == text]  # NaN: a cell that pandas left empty
    if any(not isinstance(text, str) for text in texts):
        raise ValueError(f"{where}: {name} is {value!r}, and a caption is a text or a list of texts")
    return texts


def captions_or_problem(
    row: Mapping[str, Any], column: str, where: str, is_edit: bool = False
) -> tuple[list[str], str]:
    """`captions_of`, and in place of an error why there are none. Raises ValueError when `column` is not there."""
    try:
        return captions_of(row, column, where, is_edit), ""
    except ValueError as error:
        if column and column not in row:
            raise
        return [], str(error)


def text_column(names: Iterable[str], is_edit: bool) -> str:
    """The column that holds captions, or first of all instructions; "" for none."""
    lower = {str(name).lower(): name for name in names}
    return next((lower[text] for text in (*(INSTRUCTIONS if is_edit else ()), *TEXTS) if text in lower), "")
