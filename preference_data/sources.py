"""Where a campaign's items come from: folders of pictures, run folders, and a list of disagreements.

Nothing is drawn here and no model is loaded; pictures are checked, copied into the store's folder and named by their
pixels. Two sources are compared on the prompts that both have; one source is compared with itself where it has several
pictures of a prompt.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from preference_data.campaigns import Item
from preference_data.captions import captioned
from preference_data.formats.interface import UNKNOWN
from preference_data.line_files import existing, read_json, read_json_lines
from preference_data.pictures import PictureFolder
from preference_data.records import ImageRef, Prompt, Provenance


@dataclass(frozen=True)
class Found:
    """A picture of a prompt, and where it came from. `label` names its maker in ratings."""

    prompt: str
    path: Path
    made: Provenance
    label: str


def from_folders(folders: Sequence[Path], pictures: PictureFolder, per_prompt: int = 3) -> list[Item]:
    """Items from folders of pictures or from run folders, each labelled with its folder's name.

    At most `per_prompt` items a prompt. Raises FileNotFoundError for a folder that is not there, ValueError when it has
    no pictures, a picture has no prompt, or nothing can be compared.
    """
    if not folders:
        raise ValueError("name at least one folder")
    labels = [folder.name or str(folder) for folder in folders]
    if len(set(labels)) != len(labels):
        labels = [str(folder) for folder in folders]
    sources = [list(look(folder, name)) for folder, name in zip(folders, labels, strict=True)]
    by_prompt: list[dict[str, list[Found]]] = []
    for source in sources:
        grouped: dict[str, list[Found]] = defaultdict(list)
        for found in source:
            grouped[found.prompt].append(found)
        by_prompt.append(grouped)
    items = []
    for text in sorted(set().union(*by_prompt)):
        there = [grouped.get(text, []) for grouped in by_prompt]
        couples = list(_couples(there))
        items += [
            item for one, other in couples[:per_prompt] if (item := _item(text, one, other, pictures)) is not None
        ]
    if not items:
        raise ValueError(f"{', '.join(map(str, folders))}: no prompt has two different pictures to compare")
    return items


def look(folder: Path, name: str) -> Iterator[Found]:
    """The pictures of a folder: the last samples of a run, or the files with their captions."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder")
    index = folder / "samples" / "index.json"
    return _run(folder, index, name) if index.exists() else _captioned(folder, name)


def from_disagreements(path: Path, pictures: PictureFolder) -> list[Item]:
    """Items from JSON lines {"prompt": ..., "left": PATH, "right": PATH, "disagreement": NUMBER}.

    Paths are relative to the file; "labels", two names, is optional. The greater the number, the more often the policy
    reward_disagreement draws the item. Raises ValueError with the line number of what is wrong.
    """
    return from_lines(path, pictures, lambda item, row: replace(item, disagreement=float(row["disagreement"])))


def from_lines(path: Path, pictures: PictureFolder, finish: Callable[[Item, Mapping[str, Any]], Item]) -> list[Item]:
    """Pairs from JSON lines with prompt, left and right (paths relative to the file), and labels, which is optional.

    `finish` adds what else a line says. Raises ValueError with the line number of what is wrong.
    """
    items = []
    for number, row in read_json_lines(path):
        try:
            if not isinstance(row, Mapping):
                raise ValueError(f"found {str(row)[:40]!r} where an object with named fields should be")
            if wrong := [n for n in ("prompt", "left", "right") if not isinstance(row[n], str) or not row[n].strip()]:
                raise ValueError(f"{wrong[0]} is {row[wrong[0]]!r}; it must be a text that is not empty")
            labels = row.get("labels") or [Path(row[side]).parent.name or "unknown" for side in ("left", "right")]
            sides = [
                Found(
                    row["prompt"],
                    existing(path.parent / row[side]),
                    replace(UNKNOWN, model=name, run=str(path), step=number),
                    name,
                )
                for side, name in zip(("left", "right"), labels, strict=True)
            ]
            item = _item(row["prompt"], sides[0], sides[1], pictures)
            if item is None:
                raise ValueError("both pictures are the same")
            items.append(finish(item, row))
        except KeyError as error:
            raise ValueError(f"{path} line {number}: the field {error} is missing") from error
        except (ValueError, TypeError, OSError, AttributeError) as error:
            raise ValueError(f"{path} line {number}: {error}") from error
    if not items:
        raise ValueError(f"{path} is empty")
    return items


def keep(found: Found, pictures: PictureFolder) -> ImageRef:
    """Copy a picture into the store's folder; its record."""
    sha, width, height = pictures.add(found.path.read_bytes(), str(found.path))
    return ImageRef(sha, str(found.path), width, height, found.made)


def _couples(there: Sequence[Sequence[Found]]) -> Iterator[tuple[Found, Found]]:
    """What to compare of one prompt: sources with each other, or one source's pictures among themselves."""
    if len(there) == 1:
        yield from itertools.combinations(there[0], 2)
        return
    for one, other in itertools.combinations(there, 2):
        yield from zip(one, other, strict=False)


def _item(text: str, one: Found, other: Found, pictures: PictureFolder) -> Item | None:
    """None when both are the same picture."""
    refs = (keep(one, pictures), keep(other, pictures))
    if refs[0].sha256 == refs[1].sha256:
        return None
    return Item(Prompt.from_text(text), refs, labels=(one.label, other.label))


def _run(folder: Path, index: Path, name: str) -> Iterator[Found]:
    rows = read_json(index)
    last = max((row["step"] for row in rows), default=0)
    for place, row in enumerate(row for row in rows if row["step"] == last):
        made = Provenance(name, f"update {last}", place, 0, 0.0, str(folder), last)
        yield Found(row["caption"], folder / "samples" / row["picture"], made, name)


def _captioned(folder: Path, name: str) -> Iterator[Found]:
    """The files of a folder, see `preference_data.captions`."""
    for place, (file, prompt) in enumerate(captioned(folder)):
        yield Found(prompt, file, replace(UNKNOWN, model=name, run=str(folder), step=place), name)
