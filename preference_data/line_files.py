"""The one reader of text, JSON and CSV files that people and other programs wrote.

    encoding   UTF-8, or UTF-16 and UTF-32 that begin with a byte order mark; the mark is no text
    lines      end with a line feed, a carriage return or both, never at U+2028, U+2029 or U+0085, which JSON may hold
    blank      lines are skipped and counted, so that a number is an editor's line number
    JSON       a name twice in one object, NaN, infinities and half surrogates are refused

Every error names the file, and the line where there is one.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from preference_data.spelling import not_there

MARKS = (
    (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
)  # fmt: skip
"""Byte order marks; those of UTF-32 first, because the one of UTF-16 begins like them."""
BOM = "\ufeff"


def read_text(path: Path) -> str:
    """The text of a file. Raises FileNotFoundError, or ValueError as `decode_text`."""
    return decode_text(_content(path), str(path))


def decode_text(content: bytes, name: str) -> str:
    """The text of a file's bytes; `name` is what errors call it. Raises ValueError with the line of what is no text."""
    mark, encoding = next((pair for pair in MARKS if content.startswith(pair[0])), (b"", "utf-8"))
    body = content[len(mark) :]
    try:
        text = body.decode(encoding)
    except UnicodeDecodeError as error:
        line = body[: error.start].decode(encoding, "replace").count("\n") + 1
        raise ValueError(
            f"{name} line {line} is not UTF-8 text (byte {body[error.start : error.start + 1].hex()}: {error.reason}); "
            "save the file as UTF-8"
        ) from error
    if (index := text.find("\0")) >= 0:
        raise ValueError(
            f"{name} line {text.count(chr(10), 0, index) + 1} holds a zero byte: it is not a text, or UTF-16 without a "
            "byte order mark; save the file as UTF-8"
        )
    return text


def text_lines(text: str) -> Iterator[tuple[int, str]]:
    """(number from 1, line without its end) of every line that is not blank."""
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        bare = line.rstrip("\n").removeprefix(BOM)  # files with a mark, put together
        if bare.strip():
            yield number, bare


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file that are not blank, as `text_lines`. Raises as `read_text`."""
    yield from text_lines(read_text(path))


def read_json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """(line number from 1, value) of every line. Raises as `read_text`, and ValueError with a line that is no JSON."""
    return json_lines(_content(path), str(path))


def json_lines(content: bytes, name: str) -> Iterator[tuple[int, Any]]:
    """`read_json_lines` of a file's bytes."""
    for number, line in text_lines(decode_text(content, name)):
        yield number, parse_json(line, f"{name} line {number}")


def read_json(path: Path) -> Any:
    """The value of a file that is one JSON document. Raises as `read_text`, and ValueError when it is none."""
    return parse_json(read_text(path), str(path))


def parse_json(text: str, where: str) -> Any:
    """A JSON value. Raises ValueError, which begins with `where`, for no JSON or what no JSON file should hold."""
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_no_number, parse_float=_finite, parse_int=_whole
        )
    except RecursionError:
        raise ValueError(f"{where}: this JSON is nested too deeply to be read") from None
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if "\n" in text else ""
        raise ValueError(f"{where}: not JSON: {error.msg} ({line}column {error.colno})") from error
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    if "\\u" in text and (half := _half_surrogate(value)):
        raise ValueError(f"{where}: there is \\u{ord(half):04x}, one half of a character of two; write both halves")
    return value


def read_csv(path: Path) -> tuple[list[str], Iterator[tuple[int, dict[str, str]]]]:
    """The header, and (line number from 1, cells by the header's names) of every row.

    Cells of a .tsv file are parted by tabs, others by commas, or by semicolons or tabs where the header has no comma,
    as spreadsheets write them. Raises as `read_text`, and ValueError without a header, for a name twice in it, and for
    a row of another length.
    """
    text, name = read_text(path), str(path)
    file = io.StringIO(text, newline="")
    first = next((line for _, line in text_lines(text)), "")
    delimiter = next((mark for mark in (",", ";", "\t") if mark in first), ",")
    delimiter = "\t" if path.suffix.lower() == ".tsv" else delimiter
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    rows = _filled(reader, name)
    header = [cell.strip() for cell in next(rows, (0, []))[1]]
    if not header:
        raise ValueError(f"{name} is empty; its first line must name the columns")
    if twice := [cell for cell in header if header.count(cell) > 1]:
        raise ValueError(f"{name} has the column {twice[0]!r} twice; name each once")
    return header, _checked(rows, header, name)


def _filled(reader: Any, name: str) -> Iterator[tuple[int, list[str]]]:
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(
            f"{name} line {reader.line_num} is not CSV: {error}; quote cells that hold commas or quotes"
        ) from error


def _checked(
    rows: Iterator[tuple[int, list[str]]], header: Sequence[str], name: str
) -> Iterator[tuple[int, dict[str, str]]]:
    for number, cells in rows:
        if len(cells) != len(header):
            raise ValueError(
                f"{name} line {number} has {len(cells)} cells, its header {len(header)}; quote cells that hold what "
                "parts cells"
            )
        yield number, dict(zip(header, cells, strict=True))


def is_hidden(path: Path) -> bool:
    """Whether a file's name begins with a dot, as macOS's companions of files (`._a.txt`) and unfinished files do."""
    return path.name.startswith(".")


def same_name(name: str) -> str:
    """A file name in one spelling: macOS takes accents apart, others write them as one character."""
    return unicodedata.normalize("NFC", name)


def existing(path: Path) -> Path:
    """The file at `path`, or one whose name looks the same. Raises FileNotFoundError when there is neither."""
    if path.exists():
        return path
    path_so_far = Path(path.anchor or ".")
    for part in path.parts[1:] if path.anchor else path.parts:
        step = path_so_far / part
        if not step.exists():
            there = path_so_far.iterdir() if path_so_far.is_dir() else iter(())
            step = next((p for p in there if same_name(p.name) == same_name(part)), step)
        path_so_far = step
    if not path_so_far.exists():
        raise FileNotFoundError(not_there("file", path))
    return path_so_far


def first_existing(*paths: Path) -> Path:
    """The first of these that is there, as `existing`. Raises FileNotFoundError when none is."""
    for path in paths:
        with suppress(FileNotFoundError):
            return existing(path)
    raise FileNotFoundError(f"none of these is there: {', '.join(map(str, paths))}")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    by_key = dict(pairs)
    if len(by_key) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the name {next(n for n in names if names.count(n) > 1)!r} stands twice in one object")
    return by_key


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number that JSON knows; leave it out or write null")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large for a number")
    return value


def _whole(text: str) -> int:
    if len(text) > 40:
        raise ValueError(f"{text[:20]}... is too large for a number")
    return int(text)


def _half_surrogate(value: Any) -> str:
    """The first half surrogate in any text of a JSON value; "" without."""
    if isinstance(value, str):
        return next((c for c in value if "\ud800" <= c <= "\udfff"), "")
    if isinstance(value, Mapping):
        return next((half for item in value.items() for part in item if (half := _half_surrogate(part))), "")
    if isinstance(value, list):
        return next((half for part in value if (half := _half_surrogate(part))), "")
    return ""
