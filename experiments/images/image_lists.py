"""The list of the images that a run reads: which, by their SHA-256, with which captions, and where their bytes lie.

    {"folders": [["", "/data/more"], [""]]}    what was listed of each part; "" is the folder that the settings name
    {"part": 0, "sha256": "5a...", "file": "cats/1.png", "text": ["a cat"]}    an image of the first part, and so on

Paths are relative to the folder of the part, which may move, or absolute. A list is written once and never changed:
who names it names the SHA-256 of the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.images.examined_images import examined
from experiments.images.image_readers import Entry
from preference_data.line_files import json_lines


class ImageList(NamedTuple):
    """What a list holds."""

    parts: list[list[Entry]]
    """the images of each part, in their order"""
    folders: list[list[str]]
    """what was listed of each part: absolute paths, and "" for the folder that the settings name"""


def packed(images: ImageList, folders: Sequence[str]) -> bytes:
    """The list as a file; `folders` are those of the settings."""
    lines: list[Mapping[str, Any]] = [{"folders": images.folders}]
    for number, (entries, folder) in enumerate(zip(images.parts, folders, strict=True)):
        for entry in entries:
            row = {"part": number, "sha256": entry.sha256, **_row(entry, Path(folder)), "text": entry.captions}
            lines.append(
                row | ({"sources": [_row(each, Path(folder)) for each in entry.sources]} if entry.sources else {})
            )
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()


def unpacked(content: bytes, name: str, folders: Sequence[str]) -> ImageList:
    """A list from its file. Raises ValueError where it is none, or one of another number of folders."""
    rows = [row for _, row in json_lines(content, name)]
    try:
        listed = [list(map(str, own)) for own in rows[0]["folders"]]
        parts: list[list[Entry]] = [[] for _ in listed]
        for row in rows[1:]:
            folder = Path(folders[row["part"]])
            sources = tuple(_entry(each, folder) for each in row.get("sources", ()))
            parts[row["part"]].append(_entry(row, folder, sources))
    except (IndexError, KeyError, TypeError) as error:
        raise ValueError(f"{name} is not a list of images: {error!r}") from error
    if len(listed) != len(folders):
        raise ValueError(f"{name} lists images of {len(listed)} folders, and the run has {len(folders)}")
    return ImageList(parts, listed)


def _row(entry: Entry, folder: Path) -> dict[str, Any]:
    inside = entry.file.is_relative_to(folder)
    file = entry.file.relative_to(folder).as_posix() if inside else str(entry.file.absolute())
    often = {"repeats": entry.repeats} if entry.repeats > 1 else {}
    if entry.kind == "file":
        return {"file": file, **often}
    name = entry.name.removeprefix(str(entry.file))
    return {"file": file, "kind": entry.kind, "at": entry.at, "column": entry.column, "name": name, **often}


def _entry(row: Mapping[str, Any], folder: Path, sources: tuple[Entry, ...] = ()) -> Entry:
    file = folder / row["file"]
    return Entry(
        f"{file}{row.get('name', '')}", tuple(row.get("text", ())), file, row.get("kind", "file"),
        tuple(row.get("at", (0, 0))), row.get("column", ""), sources=sources, sha256=row.get("sha256", ""),
        repeats=row.get("repeats", 1),
    )  # fmt: skip


def missing(entries: Sequence[Entry]) -> Iterator[str]:
    """Files of images, and of what they were made from, that are not there: each once, without reading any."""
    files = dict.fromkeys(each.file for entry in entries for each in (entry, *entry.sources))
    yield from (f"{file} is not there" for file in files if not file.is_file())


def changed(entries: Sequence[Entry], folder: str) -> Iterator[str]:
    """What is wrong with images that were listed: their files are not there, or hold other bytes."""
    gone = {*missing(entries)}
    yield from sorted(gone)
    there = [entry for entry in entries if gone.isdisjoint(missing([entry]))] if gone else entries
    for entry, key in examined(there, 1, Path(folder)):
        if entry.problem or key != entry.sha256:
            yield entry.problem or f"{entry.name} is another image now"
