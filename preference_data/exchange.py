"""Preferences out of the store and into it, in the formats that others read, both ways.

An export is a file and, for formats that name pictures by path, a folder `pictures` beside it. A format whose readers
know no tie needs to be told what to do with ties: `refuse` (the default; nothing is written), `drop` (only counted),
or `aside` (they go to FILE.ties.jsonl beside it, which an import reads back). A tie is never written as a win.

An import reads and checks every row before anything is stored; what is wrong is reported with its line (or entry)
number, all of it, and then nothing is stored.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from preference_data.formats import imagereward, label_studio
from preference_data.formats.diffusion_dpo import DIFFUSION_DPO
from preference_data.formats.hpdv3 import HPDV3
from preference_data.formats.imagereward import IMAGEREWARD
from preference_data.formats.interface import UNKNOWN, Format, Incoming, Said, place
from preference_data.formats.label_studio import LABEL_STUDIO
from preference_data.formats.pickapic import PICKAPIC
from preference_data.formats.plain import JSONL, PARQUET
from preference_data.formats.trl import KTO, TRL
from preference_data.judgements import DECIDED, Judgement
from preference_data.pictures import PictureFolder, decode, pixel_hash
from preference_data.records import ImageRef
from preference_data.sentences import Sentence

FORMATS = {f.name: f for f in (JSONL, PARQUET, PICKAPIC, HPDV3, IMAGEREWARD, DIFFUSION_DPO, TRL, KTO, LABEL_STUDIO)}
TIES = ("refuse", "drop", "aside")
SPLIT: Mapping[str, Callable[[Mapping[str, Any]], list[dict[str, Any]]]] = {
    "imagereward": imagereward.pairs, "label-studio": label_studio.tasks,
}  # fmt: skip
"""Formats whose rows can hold several judgements."""
WORST = 20
"""Malformed rows that a message names."""


class Malformed(ValueError):
    """Rows that cannot be read; `problems` is (line or entry number, what is wrong), all of them."""

    def __init__(self, path: Path, problems: Sequence[tuple[int, str]], unit: str) -> None:
        self.problems = tuple(problems)
        shown = "\n".join(f"  {unit} {number}: {what}" for number, what in problems[:WORST])
        more = f"\n  and {len(problems) - WORST} more" if len(problems) > WORST else ""
        super().__init__(f"{path}: {len(problems)} rows are malformed, and nothing was imported:\n{shown}{more}")


@dataclass(frozen=True)
class Exported:
    """What an export wrote: rows, ties left out, and ties set aside in `aside`."""

    rows: int
    dropped: int
    aside: Path | None


def find(name: str) -> Format:
    """The format of that name. Raises ValueError listing those there are."""
    if name not in FORMATS:
        raise ValueError(f"there is no format {name!r}; there are {', '.join(FORMATS)}")
    return FORMATS[name]


def write(
    judgements: Sequence[Judgement], path: Path, kind: str, pictures: PictureFolder, ties: str = "refuse"
) -> Exported:
    """Write judgements in a format; the file is replaced whole or not at all.

    Raises ValueError for ties in a format without them when `ties` is "refuse", and when there is nothing to write.
    """
    chosen = find(kind)
    if ties not in TIES:
        raise ValueError(f"ties is {ties!r}; choose one of {', '.join(TIES)}")
    fit = [j for j in judgements if _fits(chosen, j)]
    left = [j for j in judgements if not _fits(chosen, j)]
    if left and ties == "refuse":
        raise ValueError(Sentence(
            "{left} of {all} judgements are ties, which {kind} cannot hold; say ties=drop, or ties=aside to keep them "
            "in a file beside it",
            {"left": len(left), "all": len(judgements), "kind": kind},
        ))  # fmt: skip
    if not fit:
        raise ValueError(Sentence("there is nothing to write as {kind}: {all} judgements, {left} of them ties",
                                  {"kind": kind, "all": len(judgements), "left": len(left)}))  # fmt: skip
    named = fit if chosen.container != "parquet" or chosen is PARQUET else []  # the others hold the pictures themselves
    aside = path.with_name(f"{path.name}.ties.jsonl") if left and ties == "aside" else None
    _copy([*named, *(left if aside else [])], path.parent, pictures)
    _put(path, chosen.container, chosen.encode(fit, lambda ref: pictures.path(ref.sha256).read_bytes()))
    if aside is not None:
        _put(aside, "jsonl", JSONL.encode(left, lambda ref: b""))
    return Exported(len(fit), len(left) if aside is None else 0, aside)


def _fits(chosen: Format, j: Judgement) -> bool:
    """KTO can also say that both are good or both bad; only a tie between them says nothing there."""
    return chosen.ties or j.outcome in DECIDED or (chosen is KTO and j.outcome != "tie")


def read(path: Path, kind: str, into: PictureFolder | None = None) -> list[Judgement]:
    """The judgements of a file, checked whole, with its set-aside ties when they lie beside it.

    Pictures are decoded and, with `into`, kept there once everything was found right. Raises Malformed with every
    malformed row, FileNotFoundError without the file.
    """
    chosen = find(kind)
    said, problems, unit = _decoded(path, chosen)
    aside = path.with_name(f"{path.name}.ties.jsonl")
    if aside.exists():
        more, wrong, _ = _decoded(aside, JSONL)
        if wrong:
            raise Malformed(aside, wrong, "line")
        said += more
    found: list[tuple[Judgement, dict[str, bytes]]] = []
    for number, one in said:
        try:
            found.append(_judgement(one, path, number))
        except (ValueError, TypeError, KeyError, OSError) as error:
            problems.append((number, _told(error)))
    if problems:
        raise Malformed(path, sorted(problems), unit)
    if into is not None:
        for _, files in found:
            for name, content in files.items():
                into.add(content, name)
    return [j for j, _ in found]


def _decoded(path: Path, chosen: Format) -> tuple[list[tuple[int, Said]], list[tuple[int, str]], str]:
    said: list[tuple[int, Said]] = []
    problems: list[tuple[int, str]] = []
    for number, row in _rows(path, chosen.container, problems):
        try:
            if not isinstance(row, Mapping):
                raise ValueError(f"found {str(row)[:40]!r} where an object with named fields should be")
            for one in SPLIT.get(chosen.name, lambda r: [dict(r)])(row):
                if (decoded := chosen.decode(one)) is not None:
                    said.append((number, decoded))
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            problems.append((number, _told(error)))
    return said, problems, "line" if chosen.container == "jsonl" else "entry"


def _told(error: Exception) -> str:
    return f"the field {error} is missing" if isinstance(error, KeyError) else str(error)


def _rows(path: Path, container: str, problems: list[tuple[int, str]]) -> Iterator[tuple[int, Any]]:
    """(number from 1, row). A line that is no JSON is a problem of its own; a file that is none is the only one."""
    if container == "jsonl":
        with path.open(encoding="utf-8", newline="\n") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    yield number, json.loads(line)
                except ValueError as error:
                    problems.append((number, f"no JSON: {error}"))
        return
    try:
        if container == "parquet":
            import pyarrow.parquet as parquet

            rows = parquet.read_table(path).to_pylist()
        else:
            rows = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(rows, list):
                raise ValueError(f"it holds a {type(rows).__name__} where a list of entries should be")
    except FileNotFoundError:
        raise
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} is no {container} file: {error}") from error
    yield from enumerate(rows, 1)


def _judgement(one: Said, path: Path, number: int) -> tuple[Judgement, dict[str, bytes]]:
    """A judgement with its pictures looked at, and the pictures' bytes."""
    first, a = _picture(one.first, path, number)
    second, b = _picture(one.second, path, number)
    kept = dict(one.extra)
    for name in ("tags", "votes"):
        if name in kept:
            kept[name] = tuple(kept[name])
    return Judgement(one.prompt, first, second, one.outcome, **kept), {one.first.path: a, one.second.path: b}


def _picture(incoming: Incoming, path: Path, number: int) -> tuple[ImageRef, bytes]:
    """Raises ValueError when it is not there, no picture, or not the one that the row names."""
    content = incoming.content
    if content is None:
        place = path.parent / incoming.path
        if not place.is_file():
            raise ValueError(f"the picture {incoming.path} is not there")
        content = place.read_bytes()
    pixels = decode(content, incoming.path)
    sha, (height, width) = pixel_hash(pixels), pixels.shape[:2]
    if incoming.known is not None:
        if incoming.known.sha256 != sha:
            raise ValueError(f"{incoming.path} is another picture than the row says: {sha[:12]}, not "
                             f"{incoming.known.sha256[:12]}")  # fmt: skip
        return incoming.known, content
    made = replace(UNKNOWN, model=incoming.model, run=f"import:{path.name}", step=number)
    return ImageRef(sha, incoming.path, width, height, made), content


def _copy(judgements: Sequence[Judgement], folder: Path, pictures: PictureFolder) -> None:
    """Put the pictures beside the file, each once."""
    for ref in {p.sha256: p for j in judgements for p in (j.first, j.second)}.values():
        target = folder / place(ref)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            fresh = target.with_name(f".{target.name}")
            shutil.copyfile(pictures.path(ref.sha256), fresh)
            os.replace(fresh, target)


def _put(path: Path, container: str, rows: list[dict[str, Any]]) -> None:
    """Write the rows aside, then in place."""
    if container == "parquet":
        import pyarrow
        import pyarrow.parquet as parquet

        buffer = io.BytesIO()
        parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
        content = buffer.getvalue()
    elif container == "jsonl":
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    else:
        content = (json.dumps(rows, ensure_ascii=False, indent=1) + "\n").encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, fresh = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(fresh, 0o644)
        os.replace(fresh, path)
    except BaseException:
        Path(fresh).unlink(missing_ok=True)
        raise
