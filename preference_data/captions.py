"""The images of a folder and what each should show, for everybody who reads such folders.

A prompt stands in captions.jsonl, {"picture": "a.png", "prompt": "..."} a line, or in a.txt beside a.png. Other tools,
and sets of images to learn from, call them "file_name" or "image" and "text" or "caption", of which the first counts
where there are several. Names are
compared as files, not as text: ./a.png is a.png, and an accent counts the same whether it is one character or two.
Of an edit the line also names the images that were edited, "sources": ["b.png"], relative to the folder. "spans" are
the texts that the image must show, where they are not the prompt's quotations.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from preference_data.image_files import SUFFIXES, source_image
from preference_data.line_files import existing, is_hidden, read_json_lines, read_text, same_name
from preference_data.records import Prompt, SourceImage
from preference_data.spelling import not_there

CAPTIONS = "captions.jsonl"
NAMED = 10
"""Images without a prompt of which an error gives the names."""
EXAMPLE = {"picture": "a.png", "prompt": "the word A in red"}
COLUMNS = {"picture": ("picture", "file_name", "image"), "prompt": ("prompt", "text", "caption")}
"""What a line may call them; the first that it has."""


def captioned_prompts(folder: Path) -> list[tuple[Path, Prompt]]:
    """`captioned`, with the source images of edits, read whole. Raises as it, and ValueError naming a source that is
    missing or broken, or spans that are no texts."""
    index, sources = folder / CAPTIONS, dict[str, tuple[SourceImage, ...]]()
    spans: dict[str, tuple[str, ...]] = {}
    for number, row in read_json_lines(index) if index.exists() else ():
        if isinstance(row, Mapping) and row.get("spans") is not None:
            texts = row["spans"]
            if not isinstance(texts, list) or not all(isinstance(text, str) and text.strip() for text in texts):
                raise ValueError(f"{index} line {number}: spans is {texts!r}; it must be a list of texts, none empty")
            spans[_key(str(_column(row, "picture")))] = tuple(texts)
        if isinstance(row, Mapping) and row.get("sources"):
            try:
                images = tuple(source_image(existing(folder / str(name))) for name in row["sources"])
            except (FileNotFoundError, ValueError, TypeError) as error:
                raise ValueError(f"{index} line {number}: a source image is missing or broken: {error}") from error
            sources[_key(str(_column(row, "picture")))] = images
    results = []
    for path, text in captioned(folder):
        name = _key(os.path.relpath(path, folder))
        prompt = Prompt.from_text(text, sources=sources.get(name, ()))
        results.append((path, replace(prompt, spans=spans.get(name, prompt.spans))))
    return results


def captioned(folder: Path) -> list[tuple[Path, str]]:
    """(image, prompt) of every image of a folder that captions.jsonl names or that lies in it, sorted by name.

    Raises FileNotFoundError when the folder or a named image is missing, ValueError when there is no image, an image
    has no prompt or two, or a line is damaged.
    """
    require_images_folder(folder)
    listed = _listed(folder)
    table = {name: path for name, (_, path, _) in listed.items()}
    for path in folder.iterdir():
        if path.suffix.lower() in SUFFIXES and not is_hidden(path):
            table.setdefault(_key(path.name), path)
    if not table:
        raise ValueError(f"{folder} holds no images ({', '.join(SUFFIXES)})")
    rows = sorted((path, listed[name][2] if name in listed else _caption_next_to(path)) for name, path in table.items())
    if silent := [path for path, text in rows if not text]:
        remedy = f"put it into {silent[0].with_suffix('.txt').name} or a line of {CAPTIONS}"
        others = ", ".join(path.name for path in silent[1:NAMED]) + (", ..." if len(silent) > NAMED else "")
        more = f"; {len(silent) - 1} more of {len(rows)} images have none: {others}" if others else ""
        raise ValueError(f"{silent[0]} has no prompt; {remedy}{more}")
    return rows


def require_images_folder(folder: Path) -> None:
    """Raises FileNotFoundError where there is no such folder, and where it is a file."""
    if folder.is_file():
        raise FileNotFoundError(f"a folder of images is needed, and {folder} is a file; name the folder that it is in")
    if not folder.is_dir():
        raise FileNotFoundError(not_there("folder", folder))


def _listed(folder: Path) -> dict[str, tuple[int, Path, str]]:
    """Line number, file and prompt of what captions.jsonl names; {} without one."""
    index = folder / CAPTIONS
    table: dict[str, tuple[int, Path, str]] = {}
    for number, row in read_json_lines(index) if index.exists() else ():
        name, prompt = _texts(row, f"{index} line {number}")
        try:
            path = existing(folder / os.path.normpath(name))
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{index} line {number} names {name!r}, which is not in {folder}; put it there, or correct the line"
            ) from None
        key = _key(os.path.relpath(path, folder))
        if key in table:
            raise ValueError(f"{index} line {number}: {name} has a prompt in line {table[key][0]} already; keep one")
        table[key] = (number, path, prompt)
    return table


def _column(row: Mapping[str, Any], what: str) -> Any:
    """The name of a line's image, or its prompt, of several captions the first; None where it gives none."""
    name = next((name for name in COLUMNS[what] if row.get(name) is not None), what)
    value = row.get(name)
    return value[0] if name != what and isinstance(value, list) and value else value


def _texts(row: Any, where: str) -> tuple[str, str]:
    name, prompt = (_column(row, key) if isinstance(row, Mapping) else None for key in COLUMNS)
    if not (isinstance(name, str) and name.strip() and isinstance(prompt, str) and prompt.strip()):
        raise ValueError(
            f"{where} is not like {json.dumps(EXAMPLE)}: it is {json.dumps(row, ensure_ascii=False)[:200]}"
        )
    return name, " ".join(prompt.split())


def _caption_next_to(image: Path) -> str:
    """The prompt in the text file beside an image; "" without one."""
    path = image.with_suffix(".txt")
    try:
        text = read_text(existing(path))
    except FileNotFoundError:
        text = ""
    return " ".join(text.split())


def _key(name: str) -> str:
    return same_name(os.path.normpath(name))
