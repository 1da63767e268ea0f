"""Finds images and their captions in what people have: folders, tables and archives, behind one function.

    folder      images of any depth; captions in a .txt or .caption file of the same name (a.txt or a.png.txt), or in
                metadata or captions .csv, .jsonl or .parquet (`file_name` and `text`): the folders of kohya, of
                img2dataset and of Hugging Face
    .parquet    a column of images (a struct of bytes and path, or bytes) and a column of text
    .arrow      the same, as `datasets` saves them to disk
    .tar        webdataset: key.jpg beside key.txt, key.caption or key.json; of an edit key.source.jpg, key.target.jpg

What an edit begins from is found by edit_pairs.py, in folders, columns and archives.

A folder may hold several of these. What has no image in it, such as img2dataset's table beside each archive, is named
and left out. All captions of an image count: every line of a .txt file that is not blank is
one, and so is every entry of a list. Nothing is decoded here: an `Entry` says where the bytes are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.images.caption_tables import (
    TABLE_SUFFIXES,
    TABLES,
    Row,
    captions_of,
    captions_or_problem,
    file_name,
    key_of,
    once,
    table_rows,
    text_column,
)
from experiments.images.columnar_files import COLUMNS, arrow_file, arrow_rows, parquet_file, parquet_rows
from experiments.images.edit_pairs import AS_COLUMN, SourceFolders, column_roles, files_below, grouped
from experiments.images.webdataset_archives import Member, TarSample, read_samples
from preference_data.image_files import SUFFIXES
from preference_data.line_files import decode_text, parse_json, text_lines
from preference_data.spelling import not_there

CAPTION_SUFFIXES = (".txt", ".caption")
UNREAD = {
    (".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif", ".jxl"): "is not a PNG, JPEG or WebP; save it as one "
    "of these",
    (".tar.gz", ".tgz", ".tar.zst", ".zip"): "is packed; unpack it (a .tar is read as it is)",
}
"""Endings of what is named as unusable, and why, because a folder that holds it was meant to be learned from."""


@dataclass(frozen=True)
class Entry:
    """An image that was listed, and what its captions are."""

    name: str
    """what errors call it"""
    captions: tuple[str, ...]
    file: Path
    kind: str
    """file, tar, parquet or arrow"""
    at: tuple[int, int] = (0, 0)
    """tar: offset and length; parquet: row group and row; arrow: batch and row"""
    column: str = ""
    """of the image, in a parquet or arrow file"""
    problem: str = ""
    """why it cannot be used; "" when nothing is known"""
    sources: tuple[Entry, ...] = ()
    """images that this one was made from, where its captions are instructions"""
    by_design: bool = False
    """whether the problem is no fault of the folder: a mask is no image to learn from"""
    repeats: int = 1
    """how often it is shown in a pass"""
    sha256: str = ""
    """of its bytes, and of those that it was made from; "" until they are read"""
    caption_problem: str = ""
    """why a caption of it cannot be read, which matters where it has no other"""

    @property
    def problem_of_name(self) -> str:
        """The problem, with what errors call the image."""
        return self.problem if self.problem.startswith(self.name) else f"{self.name} {self.problem}"

    def content(self) -> bytes:
        """The bytes of the image file. Raises OSError, or ValueError where a table has none."""
        if self.kind == "file":
            return self.file.read_bytes()
        if self.kind == "tar":
            with self.file.open("rb") as archive:
                archive.seek(self.at[0])
                return archive.read(self.at[1])
        rows = arrow_rows if self.kind == "arrow" else parquet_rows
        value = rows(self.file, self.at[0], self.column)[self.at[1]].as_py()
        return embedded(value, self.name, self.file.parent)


def embedded(value: Any, name: str, folder: Path) -> bytes:
    """The bytes of a cell of a table: bytes, or a struct of bytes and path. Raises ValueError when it has neither."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, Mapping) and value.get("bytes"):
        return bytes(value["bytes"])
    if isinstance(value, Mapping) and value.get("path"):
        return (folder / str(value["path"])).read_bytes()
    raise ValueError(f"{name} holds no image")


def list_entries(source: str, column: str = "", sources: Sequence[str] = ()) -> list[Entry]:
    """Every image of a folder, table or archive, in an order that names alone decide.

    `column` names the column of captions; "" takes the first of `TEXTS` that is there. `sources` are folders of what
    the images of a folder were made from, under the same names. Raises FileNotFoundError when
    there is no such path, and ValueError when nothing in it is an image or a table cannot be read.
    """
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(not_there("folder or file", source))
    if path.is_file():
        entries = of_file(path, column)
    else:
        files = sorted(file for file in files_below(path) if not hidden(file.relative_to(path)))
        entries = of_folder(files, column, path, SourceFolders([*map(Path, sources)]) if sources else None)
        for file in files:
            if file.suffix.lower() in (".tar", ".parquet", ".arrow") and not is_table(file):
                try:
                    entries += of_file(file, column)
                except NoImages as error:
                    entries.append(Entry(str(file), (), file, "file", problem=str(error), by_design=True))
    if all(entry.by_design for entry in entries):
        left_out = f"; left out: {entries[0].problem_of_name}" if entries else ""
        raise ValueError(
            f"{source} holds no image: put PNG, JPEG or WebP files there with a .txt file of the same name each, or "
            f"name a folder of .parquet or .tar files{left_out}"
        )
    return entries


class NoImages(ValueError):
    """A file of rows without a column of images, which may be about the images beside it."""


def is_table(path: Path) -> bool:
    """Whether a file of a folder says which image has which caption, by its name and, of Parquet, its columns."""
    if path.name.lower() not in TABLES:
        return False
    return path.suffix.lower() != ".parquet" or names_files(path)


def names_files(path: Path) -> bool:
    """Whether a Parquet file has no images, but a column with the names of image files."""
    schema = parquet_file(path).schema_arrow
    return not any(map(holds_images, schema)) and file_name(dict.fromkeys(schema.names, "x")) is not None


def hidden(path: Path) -> bool:
    """Whether a file, or a folder that it is in, has a name that begins with a dot."""
    return any(part.startswith(".") for part in path.parts)


def of_file(path: Path, column: str) -> list[Entry]:
    """The images of one archive or table. Raises ValueError for a file of another kind."""
    suffix = path.suffix.lower()
    if suffix == ".tar":
        return list(of_tar(path, column))
    if suffix == ".arrow" or (suffix == ".parquet" and not (path.name.lower() in TABLES and names_files(path))):
        return list(of_columns(path, column))
    if suffix in TABLE_SUFFIXES:
        return [listed(path, row) for row in table_rows(path, column)]
    raise ValueError(
        f"{path} is not a folder, .parquet, .arrow, .tar, .csv or .jsonl file; name the folder that it is in"
    )


def of_folder(
    files: Sequence[Path], column: str, root: Path, source_folders: SourceFolders | None = None
) -> list[Entry]:
    """Image files with the captions of tables and of the files beside them, and with what they were made from."""
    by_path = {key_of(file): file for file in files}
    captions: dict[str, list[str]] = {key: [] for key, file in by_path.items() if file.suffix.lower() in SUFFIXES}
    missing: list[Entry] = []
    repeats: dict[str, int] = {}
    problems: dict[str, str] = {}
    together = grouped([by_path[key] for key in captions], root)
    sources = dict(together.sources)
    for table in filter(is_table, files):
        for row in table_rows(table, column):
            key = key_of(table.parent / row.name)
            if key in captions:
                captions[key] += row.captions
                repeats[key] = max(row.repeats, repeats.get(key, 1))
                problems[key] = row.problem or problems.get(key, "")
                if row.sources:
                    named = ((table.parent / name, key_of(table.parent / name)) for name in row.sources)
                    sources[by_path[key]] = [by_path.get(name, path) for path, name in named]
            else:
                missing.append(listed(table, row))
    lower_ends = {key[: -len(file.suffix)] + file.suffix.lower(): file for key, file in by_path.items()}
    for key in captions:
        stems = [key[: -len(Path(key).suffix)], key, *map(key_of, together.stems.get(by_path[key], []))]
        for name in dict.fromkeys(f"{stem}{suffix}" for stem in stems for suffix in CAPTION_SUFFIXES):
            if file := lower_ends.get(name):
                try:
                    captions[key] += [text.strip() for _, text in text_lines(decode_text(file.read_bytes(), str(file)))]
                except ValueError as error:
                    problems[key] = str(error)
    unread = [
        Entry(str(file), (), file, "file", problem=reason)
        for endings, reason in UNREAD.items()
        for file in files
        if file.name.lower().endswith(endings)
    ]
    made_from = {image for own in sources.values() for image in own}
    images = []
    for key, texts in captions.items():
        image = by_path[key]
        if image in made_from:
            continue
        own = source_folders.of(image.relative_to(root)) if source_folders else sources.get(image, [])
        problem = reason = together.left_out.get(image, "")
        if source_folders and not own and not reason:
            problem = f"has no image of its name in {source_folders.names}"
        entry = Entry(str(image), once(texts), image, "file", problem=problem, by_design=bool(reason))
        made_of = tuple(map(of_path, own))
        images.append(
            replace(entry, sources=made_of, repeats=repeats.get(key, 1), caption_problem=problems.get(key, ""))
        )
    return [*images, *missing, *unread]


def of_path(file: Path, named_by: str = "") -> Entry:
    """An image file by itself."""
    return Entry(str(file), (), file, "file", problem="" if file.is_file() else f"is not there{named_by}")


def listed(table: Path, row: Row) -> Entry:
    """The image that a line of a table names, with those that it was made from."""
    named_by = f", and {table} line {row.line} names it"
    entry = of_path(table.parent / row.name, named_by)
    own = tuple(of_path(table.parent / name, named_by) for name in row.sources)
    return replace(entry, captions=once(row.captions), sources=own, repeats=row.repeats, caption_problem=row.problem)


def of_tar(path: Path, column: str) -> Iterator[Entry]:
    """The images of a webdataset archive. Raises ValueError when it is damaged."""
    for samples in read_samples(path, CAPTION_SUFFIXES):
        for sample in samples:
            yield from of_tar_sample(path, sample, column, sample is not samples[0])


def of_tar_sample(path: Path, sample: TarSample, column: str, again: bool) -> Iterator[Entry]:
    """The image of one sample of an archive, with what it was made from; masks are named, and left out."""
    sources, chosen, others = image_columns(sorted(sample.images))
    images = {between: of_member(path, member, again) for between, member in sample.images.items()}
    captions: list[str] = []
    problem = ""
    for name, (suffix, content) in sample.texts.items():
        try:
            captions += tar_captions(content, f".{suffix}", f"{path}:{name}", column, bool(sources))
        except ValueError as error:
            problem = str(error)
    if chosen in images:
        made_of = tuple(images[between] for between in sources)
        yield replace(images[chosen], captions=once(captions), sources=made_of, caption_problem=problem)
    yield from (replace(images[between], problem=reason, by_design=True) for between, reason in others.items())
    for member, reason in sample.passed.values():
        yield replace(of_member(path, member, again), problem=reason, by_design=True)


def of_member(path: Path, member: Member, again: bool) -> Entry:
    """An image file of an archive; `again` tells it from an earlier one of its name."""
    name, offset, length = member
    return Entry(f"{path}:{name}{f' (again, at byte {offset})' if again else ''}", (), path, "tar", (offset, length))


def tar_captions(content: bytes, suffix: str, name: str, column: str, is_edit: bool) -> list[str]:
    """Captions or instructions of a text or JSON file of an archive."""
    text = decode_text(content, name)
    if suffix != ".json":
        return [line for _, line in text_lines(text)]
    row = parse_json(text, name)
    return captions_of(row, column, name, is_edit) if isinstance(row, Mapping) else []


def of_columns(path: Path, column: str) -> Iterator[Entry]:
    """The images of a Parquet or Arrow file: its captions are read, its images are not."""
    kind = path.suffix.lower()[1:]
    opened = arrow_file(path) if kind == "arrow" else parquet_file(path)
    schema = opened.schema if kind == "arrow" else opened.schema_arrow
    sources, images, others = image_columns([field.name for field in schema if holds_images(field)])
    if not images:
        raise NoImages(
            f"{path} has no column of images (a struct of bytes and path, one image a row; addresses are not fetched); "
            f"it has {', '.join(schema.names)}"
        )
    for name, reason in others.items():
        yield Entry(f"the column {name} of {path}", (), path, kind, problem=reason, by_design=True)
    text = column or text_column(schema.names, bool(sources))
    if column and column not in schema.names:
        raise ValueError(f"{path} has no column {column!r}; it has {', '.join(schema.names)}")
    for group in range(opened.num_record_batches if kind == "arrow" else opened.num_row_groups):
        if kind == "arrow":
            batch = opened.get_batch(group)
            count, values = batch.num_rows, batch.column(text).to_pylist() if text else []
        else:
            count = opened.metadata.row_group(group).num_rows
            values = opened.read_row_group(group, [text])[text].to_pylist() if text else []
        for row in range(count):
            name = f"{path} row group {group} row {row}"
            captions, problem = captions_or_problem({text: values[row]}, text, name) if text else ([], "")
            own = tuple(Entry(f"{name} {each}", (), path, kind, (group, row), each) for each in sources)
            yield Entry(name, once(captions), path, kind, (group, row), images, sources=own, caption_problem=problem)


def image_columns(names: Sequence[str]) -> tuple[list[str], str, dict[str, str]]:
    """The columns of sources, that of what is learned from, and why others are left out."""
    sources, targets, others = column_roles(names)
    plain = [name for name in names if name not in (*sources, *targets, *others)]
    first = sorted(plain, key=lambda name: name.lower() not in COLUMNS)
    chosen = (targets or first) if sources else (first or targets)
    if not chosen:  # the sources are all there is, so they are images like any other
        return [], sources[0] if sources else "", others
    return sources, chosen[0], others


def holds_images(field: Any) -> bool:
    """Whether a column is one of images: bytes, or a struct with bytes, as `datasets` writes them."""
    import pyarrow.types as types

    if types.is_struct(field.type):
        return field.type.get_field_index("bytes") >= 0
    named = field.name.lower() in COLUMNS or AS_COLUMN.match(field.name)
    return bool(named) and (types.is_binary(field.type) or types.is_large_binary(field.type))
