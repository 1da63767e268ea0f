"""Finds images and their captions in what people have: folders, tables and archives, behind one function.

    folder      images of any depth; captions in a .txt or .caption file of the same name, or in metadata.csv,
                metadata.jsonl or captions.jsonl (`file_name` and `text`): the folders of kohya and of Hugging Face
    .parquet    a column of images (a struct of bytes and path, or bytes) and a column of text
    .arrow      the same, as `datasets` saves them to disk
    .tar        webdataset: key.jpg beside key.txt, key.caption or key.json; of an edit key.source.jpg, key.target.jpg

What an edit begins from is found by edit_pairs.py, in folders, columns and archives.

A folder may hold several of these. All captions of an image count: every line of a .txt file that is not blank is
one, and so is every entry of a list. Nothing is decoded here: an `Entry` says where the bytes are.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from experiments.images.columnar_files import arrow_file, arrow_rows, parquet_file, parquet_rows
from experiments.images.edit_pairs import AS_COLUMN, INSTRUCTIONS, SourceFolders, column_roles, files_below, grouped
from preference_data.image_files import SUFFIXES
from preference_data.line_files import decode_text, parse_json, read_csv, read_json_lines, same_name, text_lines
from preference_data.spelling import not_there

CAPTION_SUFFIXES = (".txt", ".caption")
TABLES = ("metadata.csv", "metadata.jsonl", "captions.jsonl", "captions.csv")
"""Files of a folder that say which image has which caption."""
TABLE_SUFFIXES = (".csv", ".jsonl")
NAMES = ("file_name", "picture", "image", "file", "path")
"""Columns of a table that may name the image; the first that is there."""
TEXTS = ("text", "caption", "captions", "prompt")
"""Columns that may hold captions; the first that is there."""
REPEATS = "repeats"
"""Column of a table that says how often an image is shown in a pass; once where it is not there."""
COLUMNS = ("image", "images", "img", "jpg", "png", "webp", "bytes", "picture")
"""Columns of bytes that hold images."""
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
        return of_file(path, column)
    files = sorted(file for file in files_below(path) if not hidden(file.relative_to(path)))
    entries = of_folder(files, column, path, SourceFolders([*map(Path, sources)]) if sources else None)
    for file in files:
        if file.suffix.lower() in (".tar", ".parquet", ".arrow"):
            entries += of_file(file, column)
    if not entries:
        raise ValueError(
            f"{source} holds no image: put PNG, JPEG or WebP files there with a .txt file of the same name each, or "
            "name a folder of .parquet or .tar files"
        )
    return entries


def hidden(path: Path) -> bool:
    """Whether a file, or a folder that it is in, has a name that begins with a dot."""
    return any(part.startswith(".") for part in path.parts)


def of_file(path: Path, column: str) -> list[Entry]:
    """The images of one archive or table. Raises ValueError for a file of another kind."""
    suffix = path.suffix.lower()
    if suffix == ".tar":
        return list(of_tar(path, column))
    if suffix in (".parquet", ".arrow"):
        return list(of_columns(path, column))
    if suffix in TABLE_SUFFIXES:
        rows = table_rows(path, column)
        return [listed(path, row) for row in rows]
    raise ValueError(
        f"{path} is not a folder, .parquet, .arrow, .tar, .csv or .jsonl file; name the folder that it is in"
    )


def of_folder(
    files: Sequence[Path], column: str, root: Path, source_folders: SourceFolders | None = None
) -> list[Entry]:
    """Image files with the captions of tables and of the files beside them, and with what they were made from."""
    by_path = {same_name(str(file)): file for file in files}
    captions: dict[str, list[str]] = {key: [] for key, file in by_path.items() if file.suffix.lower() in SUFFIXES}
    missing: list[Entry] = []
    repeats: dict[str, int] = {}
    together = grouped([by_path[key] for key in captions], root)
    sources = dict(together.sources)
    for table in (file for file in files if file.name in TABLES):
        for row in table_rows(table, column):
            key = same_name(str(table.parent / row.name))
            if key in captions:
                captions[key] += row.captions
                repeats[key] = max(row.repeats, repeats.get(key, 1))
                if row.sources:
                    named = ((table.parent / name, same_name(str(table.parent / name))) for name in row.sources)
                    sources[by_path[key]] = [by_path.get(name, path) for path, name in named]
            else:
                missing.append(listed(table, row))
    for key in captions:
        stems = [Path(key[: -len(Path(key).suffix)]), *together.stems.get(by_path[key], [])]
        for name in dict.fromkeys(same_name(f"{stem}{suffix}") for stem in stems for suffix in CAPTION_SUFFIXES):
            if file := by_path.get(name):
                captions[key] += [text.strip() for _, text in text_lines(decode_text(file.read_bytes(), str(file)))]
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
        images.append(replace(entry, sources=tuple(map(of_path, own)), repeats=repeats.get(key, 1)))
    return [*images, *missing, *unread]


def of_path(file: Path, named_by: str = "") -> Entry:
    """An image file by itself."""
    return Entry(str(file), (), file, "file", problem="" if file.is_file() else f"is not there{named_by}")


def listed(table: Path, row: Row) -> Entry:
    """The image that a line of a table names, with those that it was made from."""
    named_by = f", and {table} line {row.line} names it"
    entry = of_path(table.parent / row.name, named_by)
    own = tuple(of_path(table.parent / name, named_by) for name in row.sources)
    return replace(entry, captions=once(row.captions), sources=own, repeats=row.repeats)


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


def table_rows(path: Path, column: str) -> Iterator[Row]:
    """The lines of a .csv or .jsonl file. Raises ValueError for one that names no file."""
    rows: Iterator[tuple[int, Any]] = read_csv(path)[1] if path.suffix.lower() == ".csv" else read_json_lines(path)
    for line, row in rows:
        if not isinstance(row, Mapping):
            raise ValueError(f"{path} line {line} is not an object; it needs file_name and text")
        sources, targets, _ = column_roles(map(str, row))
        before = [text for name in sources for text in file_names(row[name])]
        after = [text for name in targets for text in file_names(row[name])][:1] if before else []
        named = file_name(row)
        for text in after or [named]:
            if not isinstance(text, str):
                raise ValueError(f"{path} line {line} has no file_name; it has the columns {', '.join(map(str, row))}")
            captions = captions_of(row, column, f"{path} line {line}", bool(before))
            yield Row(line, posix(text), captions, before, repeats_of(row, f"{path} line {line}"))


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
    texts = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(texts, list) or any(not isinstance(text, str) for text in texts):
        raise ValueError(f"{where}: {name} is {value!r}, and a caption is a text or a list of texts")
    return texts


def text_column(names: Iterable[str], is_edit: bool) -> str:
    """The column that holds captions, or first of all instructions; "" for none."""
    lower = {str(name).lower(): name for name in names}
    return next((lower[text] for text in (*(INSTRUCTIONS if is_edit else ()), *TEXTS) if text in lower), "")


Member = tuple[str, int, int]
"""name, offset and length of a file of an archive"""


def of_tar(path: Path, column: str) -> Iterator[Entry]:
    """The images of a webdataset archive; its files are read once, in their order. Raises ValueError when damaged."""
    images: dict[str, dict[str, Member]] = {}
    texts: dict[str, list[tuple[str, str, bytes]]] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                base = PurePosixPath(member.name).name
                if not member.isfile() or base.startswith("."):
                    continue
                stem, _, ending = base.partition(".")
                key = member.name[: -len(base)] + stem
                field, _, suffix = ending.lower().rpartition(".")
                if f".{suffix}" in SUFFIXES and is_read(field):
                    images.setdefault(key, {})[field] = (member.name, member.offset_data, member.size)
                elif f".{suffix}" in (*CAPTION_SUFFIXES, ".json") and field in ("", *INSTRUCTIONS):
                    file = archive.extractfile(member)
                    assert file is not None
                    texts.setdefault(key, []).append((member.name, suffix, file.read()))
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"{path} is not a whole .tar file: {error}; copy it again") from error
    for key, fields in images.items():
        yield from of_tar_sample(path, fields, texts.get(key, []), column)


def is_read(field: str) -> bool:
    """Whether images of archives may have a name such as `source` in front of their suffix; "" is no name."""
    return field in ("", *COLUMNS) or bool(AS_COLUMN.match(field))


def of_tar_sample(
    path: Path, fields: Mapping[str, Member], texts: Sequence[tuple[str, str, bytes]], column: str
) -> Iterator[Entry]:
    """The image of one key of an archive, with what it was made from; masks are named, and left out."""
    sources, chosen, others = image_columns(sorted(fields))
    images = {
        field: Entry(f"{path}:{name}", (), path, "tar", (offset, length))
        for field, (name, offset, length) in fields.items()
    }
    captions = [
        caption for name, suffix, content in texts
        for caption in tar_captions(content, f".{suffix}", f"{path}:{name}", column, bool(sources))
    ]  # fmt: skip
    if chosen in fields:
        yield replace(images[chosen], captions=once(captions), sources=tuple(images[field] for field in sources))
    yield from (replace(images[field], problem=reason, by_design=True) for field, reason in others.items())


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
        raise ValueError(
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
            captions = captions_of({text: values[row]}, text, name) if text else []
            own = tuple(Entry(f"{name} {each}", (), path, kind, (group, row), each) for each in sources)
            yield Entry(name, once(captions), path, kind, (group, row), images, sources=own)


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
