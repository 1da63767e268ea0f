"""Pairs of images of one's own: two folders, or a table with a column for the better and one for the worse image.

PREFERRED REJECTED          images of the same names (of any suffix, in any subfolder), with captions as
                            `--data.folder` reads them beside either; a third folder holds what both were made from
FOLDER                      the same in its folders preferred and rejected (or chosen, win; lose, ...)
FILE.parquet, .jsonl, .csv  columns such as chosen and rejected, or image_w and image_l, with a caption; or the
                            published jpg_0, jpg_1, label_0 of Pick-a-Pic and Diffusion-DPO
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from experiments.images.caption_tables import captions_of, posix
from experiments.images.edit_pairs import IMAGES, SourceFolders
from experiments.images.image_readers import Entry, embedded, list_entries
from experiments.record.record import write_png
from preference_data.comparisons import TIES, Comparison
from preference_data.exchange.formats import containers
from preference_data.exchange.formats.diffusion_dpo import DIFFUSION_DPO
from preference_data.exchange.formats.pickapic import PICKAPIC
from preference_data.exchange.formats.preference_format import UNKNOWN, Incoming, Row, RowAnswer, reason_of
from preference_data.image_files import decode_image, source_of
from preference_data.line_files import read_csv
from preference_data.pixels import pixel_hash
from preference_data.records import ImageRef, PreferencePair, Prompt
from preference_data.spelling import not_there

PREFERRED = r"preferred|preference|chosen|winner|winning|win|better|best|good|positive|w"
REJECTED = r"rejected|dispreferred|loser|losing|lose|worse|worst|bad|negative|l"
FOLDER = (re.compile(rf"^(?:{PREFERRED})s?{IMAGES}$", re.I), re.compile(rf"^(?:{REJECTED})s?{IMAGES}$", re.I))
COLUMN = tuple(
    re.compile(rf"^(?:(?:{side}){IMAGES}|(?:image|img|picture)s?_(?:{side}))$", re.I) for side in (PREFERRED, REJECTED)
)
SHOWN = 3
"""images that an error names"""
SUFFIXES = (".parquet", ".jsonl", ".json", ".csv")


class Side(NamedTuple):
    """An image of a pair, as it was found."""

    name: str
    content: bytes


class OwnPair(NamedTuple):
    """Two images of one prompt; `outcome` is first, second or a tie."""

    prompt: Prompt
    first: Side
    second: Side
    outcome: str


def reads(sources: Sequence[str]) -> bool:
    """Whether these name images in folders, or a table whose rows are none of ours."""
    paths = [Path(source) for source in sources]
    if len(paths) > 1 or paths[0].is_dir() or paths[0].suffix.lower() in (".parquet", ".csv"):
        return True
    if paths[0].suffix.lower() not in SUFFIXES or not paths[0].is_file():
        return False
    row = next((row for _, row in containers.rows(paths[0], "jsonl", [])), None)
    return isinstance(row, Mapping) and not our_own(row)


def our_own(row: Row) -> bool:
    """Whether a row is a pair, a comparison or a judgement as this project writes them."""
    return any(isinstance(row.get(name), Mapping) and "sha256" in row[name] for name in ("chosen", "left", "first"))


def read_images(sources: Sequence[str], folder: Path, ties: bool) -> list[PreferencePair | Comparison]:
    """The pairs, with their images as PNG files in `folder`/pictures; ties are left out where they are not known.

    Raises ValueError naming what is missing or cannot be read, and FileNotFoundError for what is not there.
    """
    answers: list[PreferencePair | Comparison] = []
    for number, own in enumerate(own_pairs(sources)):
        first, second = (stored(side, folder, f"import:{sources[0]}", number) for side in (own.first, own.second))
        if first.sha256 == second.sha256:
            raise ValueError(f"{own.first.name} and {own.second.name} are the same image, so neither is the better one")
        if own.outcome not in TIES:
            chosen, rejected = (first, second) if own.outcome == "first" else (second, first)
            answers.append(PreferencePair(own.prompt, chosen, rejected, "human:own", None, "left"))
        elif ties:
            answers.append(Comparison(own.prompt, first, second, own.outcome, "human:own", None))
    return answers


def stored(side: Side, folder: Path, run: str, number: int) -> ImageRef:
    """The record of an image, which is put into the folder."""
    pixels = decode_image(side.content, side.name).transpose(2, 0, 1)
    sha = pixel_hash(pixels)
    path = folder / "pictures" / f"{sha}.png"
    if not path.exists():
        write_png(path, pixels)
    return ImageRef(sha, str(path), pixels.shape[2], pixels.shape[1], replace(UNKNOWN, run=run, step=number))


def own_pairs(sources: Sequence[str]) -> Iterator[OwnPair]:
    """Every pair of two or three folders, of a folder of two, or of tables."""
    path = Path(sources[0])
    if not path.exists():
        raise FileNotFoundError(not_there("folder or file", path))
    if len(sources) > 3:
        raise ValueError(f"--pairs names {len(sources)} places: give the preferred, the rejected, and what both edit")
    if len(sources) > 1:
        yield from of_folders(*map(Path, sources))
        return
    if path.is_file():
        yield from of_table(path)
        return
    inside = sorted(each for each in path.iterdir() if each.is_dir())
    sides = [next((each for each in inside if pattern.match(each.name)), None) for pattern in FOLDER]
    tables = sorted(file for file in path.rglob("*.parquet"))
    if all(sides):
        yield from of_folders(*(each for each in sides if each))
    elif tables:
        for table in tables:
            yield from of_table(table)
    else:
        raise ValueError(
            f"{path} holds neither folders preferred and rejected nor .parquet files; name the two folders, as in "
            "--pairs PREFERRED REJECTED"
        )


def of_folders(preferred: Path, rejected: Path, edited: Path | None = None) -> Iterator[OwnPair]:
    """Images of the same names. Raises ValueError naming those that have no other side, or no caption."""
    chosen = list_entries(str(preferred), "", (str(rejected),))
    captions = {stem_of(entry, rejected): entry.captions for entry in list_entries(str(rejected))}
    begun = SourceFolders([edited]) if edited else None
    named = {stem_of(entry, preferred) for entry in chosen}
    alone = [f"{entry.name} {entry.problem}" for entry in chosen if entry.problem]
    alone += [f"{rejected / stem} has no image of its name in {preferred}" for stem in captions if stem not in named]
    rows: list[tuple[Entry, Entry, tuple[str, ...], list[Path]]] = []
    for entry in (entry for entry in chosen if not entry.problem):
        texts = entry.captions or captions.get(stem_of(entry, preferred), ())
        sources = begun.of(entry.file.relative_to(preferred)) if begun else []
        if not texts:
            alone.append(f"{entry.name} has no caption: put a .txt file of the same name beside it")
        if begun and not sources:
            alone.append(f"{entry.name} has no image of its name in {edited}")
        rows.append((entry, entry.sources[0], texts, sources))
    if alone:
        more = f"; and {len(alone) - SHOWN} more" if len(alone) > SHOWN else ""
        raise ValueError(f"pairs of {preferred} and {rejected}: {'; '.join(alone[:SHOWN])}{more}")
    for better, worse, texts, sources in rows:
        sides = (Side(better.name, better.content()), Side(worse.name, worse.content()))
        shown = tuple(source_of(path.read_bytes(), str(path)) for path in sources)
        for text in texts:
            yield OwnPair(Prompt.from_text(text, sources=shown), *sides, "first")


def stem_of(entry: Entry, folder: Path) -> Path:
    """The path of an image in its folder, without its suffix."""
    return entry.file.relative_to(folder).with_suffix("")


def of_table(path: Path) -> Iterator[OwnPair]:
    """The rows of a table. Raises ValueError naming the first that cannot be read."""
    problems: containers.Problems = []
    rows = read_csv(path)[1] if path.suffix.lower() == ".csv" else containers.rows(path, "jsonl", problems)
    for number, row in rows:
        where = f"{path} row {number}"
        if not isinstance(row, Mapping):
            raise ValueError(f"{where} is not an object; it needs two images and a caption")
        try:
            answer = (published(row) and decoded(row)) or of_columns(row, where)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise ValueError(f"{where}: {reason_of(error)}") from error
        if answer.outcome:
            sides = (side_of(each, where, path.parent) for each in (answer.first, answer.second))
            yield OwnPair(answer.prompt, *sides, answer.outcome)
    if problems:
        raise ValueError(f"{path} row {problems[0][0]}: {problems[0][1]}")


def published(row: Row) -> bool:
    """Whether a row is one of Pick-a-Pic or Diffusion-DPO."""
    return {"jpg_0", "jpg_1", "label_0", "caption"} <= set(row)


def decoded(row: Row) -> RowAnswer:
    """A published row; one that nobody answered has no outcome."""
    answer = (PICKAPIC if "has_label" in row else DIFFUSION_DPO).decode(row)
    nothing = Incoming(b"", "", None)
    return answer or RowAnswer(Prompt.from_text(str(row["caption"])), nothing, nothing, "")


def columns_of(row: Row) -> tuple[str, str]:
    """The columns of the better and of the worse image; "" for one that is not there."""
    better, worse = (next((str(name) for name in row if pattern.match(str(name))), "") for pattern in COLUMN)
    return better, worse


def of_columns(row: Row, where: str) -> RowAnswer:
    """A row with a better and a worse image. Raises ValueError when it has not both, or no caption."""
    columns = columns_of(row)
    texts = captions_of(row, "", where, True)
    if not all(columns) or not texts:
        raise ValueError(
            f"{where} has the columns {', '.join(map(str, row))}; it needs two images, such as chosen and rejected, "
            "and a prompt or caption"
        )
    sides = (incoming(row[name], f"{where} {name}") for name in columns)
    return RowAnswer(Prompt.from_text(texts[0]), *sides, "first")


def incoming(value: Any, where: str) -> Incoming:
    """A cell: a path, bytes, or a struct of bytes and path."""
    if isinstance(value, str):
        return Incoming(None, posix(value), None)
    return Incoming(embedded(value, where, Path()), where, None)


def side_of(image: Incoming, where: str, folder: Path) -> Side:
    """The bytes of an image. Raises ValueError naming the row when its file is not there."""
    if image.content is not None:
        return Side(image.path or where, image.content)
    try:
        return Side(image.path, (folder / image.path).read_bytes())
    except OSError:
        raise ValueError(
            f"{where} names {image.path}, which is not in {folder}; put it there, or correct the row"
        ) from None
