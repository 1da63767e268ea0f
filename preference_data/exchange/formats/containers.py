"""The rows of a file, whatever holds them: Parquet, a JSON list, or JSON lines. What it is, the file itself says.

Parquet is read a few rows at a time, so that a file of any size needs the memory of those.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from preference_data.line_files import parse_json, read_text, text_lines

BATCH = 32
"""Rows of a Parquet file in memory; each may hold several images."""
BUFFER = 2**18
"""Bytes of a column that are read at a time."""
WHERE = "the row"
SPACE = re.compile(r"[ \t\n\r]*")

Problems = list[tuple[int, str]]
"""(number, what is wrong)"""


def unit(path: Path, container: str) -> str:
    """What a number counts in this file: lines, or entries of a list or a table."""
    if _is_parquet(path):
        return "row"
    return "entry" if _is_list(read_text(path), container) else "line"


def rows(path: Path, container: str, problems: Problems) -> Iterator[tuple[int, Any]]:
    """(number from 1, row). A line that is no JSON is a problem of its own; `container` is what the format writes.

    Raises FileNotFoundError, or ValueError for a file that is none of the three.
    """
    if _is_parquet(path):
        yield from _parquet(path)
        return
    if container == "parquet":
        try:
            text = read_text(path)
        except ValueError as error:
            raise ValueError(f"{path} is not a Parquet file: {error}; name its format with --format") from error
    else:
        text = read_text(path)
    if _is_list(text, container):
        try:
            content = parse_json(text, str(path))
        except ValueError as error:
            yield from _entries(text, problems, error)
            return
        if not isinstance(content, list):
            raise ValueError(f"{path} holds one {type(content).__name__} where a list of entries, or one JSON object a "
                             "line, should be")  # fmt: skip
        yield from enumerate(content, 1)
        return
    for number, line in text_lines(text):
        try:
            yield number, parse_json(line, WHERE)
        except ValueError as error:
            problems.append((number, str(error).removeprefix(f"{WHERE}: ")))


def _entries(text: str, problems: Problems, error: ValueError) -> Iterator[tuple[int, Any]]:
    """The entries of a list one by one, so that what no JSON file should hold costs the entry that holds it.

    Raises `error` when the text is no list, or no JSON at all: then nobody can say where an entry ends.
    """
    loose = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)
    try:
        if not isinstance(loose.decode(text), list):
            raise error
    except (json.JSONDecodeError, RecursionError):
        raise error from None
    index = text.index("[") + 1
    number = 0
    while text[start := SPACE.match(text, index).end()] != "]":  # type: ignore[union-attr]  # it matches nothing too
        number += 1
        _, end = loose.raw_decode(text, start)
        try:
            yield number, parse_json(text[start:end], WHERE)
        except ValueError as wrong:
            problems.append((number, str(wrong).removeprefix(f"{WHERE}: ")))
        after = SPACE.match(text, end).end()  # type: ignore[union-attr]
        index = after + (text[after] == ",")


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def _is_list(text: str, container: str) -> bool:
    """Whether the text is one JSON document; else it is one a line."""
    first = next((line for _, line in text_lines(text)), "")
    if first.lstrip().startswith("["):
        return True
    if container != "json":
        return False
    try:
        parse_json(first, WHERE)
    except ValueError:
        return True  # an object over several lines
    return False


def _parquet(path: Path) -> Iterator[tuple[int, Any]]:
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        file = parquet.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False)
        names: Sequence[str] = file.schema_arrow.names
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"{path} has the column {twice[0]!r} twice")
        number = 0
        for batch in file.iter_batches(batch_size=BATCH, use_threads=False):
            for index in range(batch.num_rows):
                number += 1
                yield number, {name: batch.column(i)[index].as_py() for i, name in enumerate(names)}
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{path} is not a Parquet file, or not a whole one: {error}; copy it again") from error
