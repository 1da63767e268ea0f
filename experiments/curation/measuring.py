"""Measures shards: a task is a function of (entries of a shard, groups of measures), so any process may do any of them.

The bytes of a shard do not depend on who makes it, when, or how often somebody was killed. An image that cannot be
decoded has a row in `files` that says why, and none elsewhere. A measure that fails on an image leaves NaN and the
error; where this happens often, the run ends, because a filter that does not run is no filter.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from experiments.curation.measures.caption_facts import SCRIPTS, describe_caption
from experiments.curation.measures.measure_groups import CHEAP, Measures, measures_of
from experiments.curation.opened_image import OpenedImage
from experiments.curation.shard_files import (
    HIDDEN,
    as_bytes,
    fingerprint,
    read_note,
    read_table,
    table_path,
    write_shard,
)
from experiments.curation.thresholds import Filters
from experiments.images.image_readers import Entry
from experiments.images.part_pool import Pool, parts_done

CAPTIONS = "captions"
CAPTIONS_VERSION = 1
ENTRIES = "entries"
MOST_IN_A_ROW = 10
"""failures after which no more images are tried: a server that is gone would be waited for, image after image"""


@dataclass(frozen=True)
class Task:
    """Groups of measures to be made for one shard. The rows are those that a costly group still needs; () = all."""

    folder: Path
    shard: int
    filters: Filters
    groups: tuple[str, ...]
    captions: bool = False
    rows: tuple[int, ...] = ()

    @property
    def measures(self) -> list[Measures]:
        """The groups as functions, which cannot go from process to process."""
        return [each for each in measures_of(self.filters, self.folder / HIDDEN) if each.name in self.groups]


def schema(columns: Mapping[str, str]) -> Any:
    """The types of a table of numbers: `row`, the columns, and `error`."""
    import pyarrow as pa

    kinds = {"number": pa.float64(), "bits": pa.uint64(), "flag": pa.bool_(), "text": pa.string()}
    fields = [(name, kinds[kind]) for name, kind in columns.items()]
    return pa.schema([("row", pa.int64()), *fields, ("error", pa.string())])


def version_of(measures: Measures) -> str:
    """What the numbers of a group depend on beside the images."""
    packages = {name: installed(name) for name in measures.libraries}
    return fingerprint([measures.name, measures.version, dict(measures.columns), packages, measures.settings])


def installed(module: str) -> str:
    """The version of an imported package; "" where it is missing, and so are the numbers that it changes."""
    try:
        return str(importlib.import_module(module).__version__)
    except ModuleNotFoundError:
        return ""


def entry_of(row: Mapping[str, Any]) -> Entry:
    """An entry as a shard's table of entries has it."""
    return Entry(row["name"], tuple(row["captions"]), Path(row["file"]), row["kind"], (row["at"], row["length"]),
                 row["column"], row["problem"])  # fmt: skip


def measure_shard(task: Task) -> int:
    """Measure what a task says and put it in place; how many images it looked at."""
    import cv2

    cv2.setNumThreads(1)
    path = table_path(task.folder, ENTRIES, task.shard)
    note = read_note(path)
    rows = read_table(path).to_pylist()
    if task.captions:
        write_captions(task, rows, note["captions"])
    if not task.groups:
        return len(rows)
    measures = task.measures
    results: dict[str, list[dict[str, Any]]] = {each.name: [] for each in measures}
    chosen, in_a_row = set(task.rows), dict.fromkeys(results, 0)
    wanted = [row for row in rows if not chosen or row["row"] in chosen]
    for row, numbers_by in zip(wanted, measured([entry_of(row) for row in wanted], measures), strict=True):
        for name, numbers in numbers_by.items():
            results[name].append({"row": row["row"], **numbers})
            in_a_row[name] = in_a_row[name] + 1 if numbers.get("error") else 0
            if in_a_row[name] == MOST_IN_A_ROW:
                raise not_judged(
                    f"{name} failed on {MOST_IN_A_ROW} images in a row, last with: {numbers['error']}. Mend that and "
                    "run the command again; answers and whole shards are kept"
                )
    for each in measures:
        path = table_path(task.folder, each.name, task.shard)
        lines = results[each.name]
        if chosen and is_current(path, each, note):
            before = [line for line in read_table(path).to_pylist() if line["row"] not in chosen]
            lines = sorted([*before, *lines], key=lambda line: int(line["row"]))
        failed = sum(bool(line.get("error")) for line in lines)
        about = {"measures": version_of(each), "input": input_of(each, note), "rows": len(lines), "unjudged": failed}
        write_shard(path, as_bytes(lines, schema(each.columns)), about)
    return len(task.rows) or len(rows)


def not_judged(why: str) -> Exception:
    """The error of a measure that does not work, which commands print without a traceback."""
    from rewards.serving.workers import ScoringError

    return ScoringError(why)


def is_current(path: Path, measures: Measures, entries: Mapping[str, Any]) -> bool:
    """Whether a table was made by these measures from these entries, of which the note is given."""
    note = read_note(path)
    return (note.get("measures"), note.get("input")) == (version_of(measures), input_of(measures, entries))


def input_of(measures: Measures, entries: Mapping[str, Any]) -> str:
    """What the numbers of a group depend on, of the note about entries."""
    return str(entries["bytes"] + entries["captions"] if measures.reads_captions else entries["bytes"])


def measured(entries: Sequence[Entry], measures: Sequence[Measures]) -> Iterator[dict[str, dict[str, Any]]]:
    """The numbers of each group for every entry in order; of `files` alone where an image cannot be decoded.

    Images are opened one by one, or as many at once as a group looks at.
    """
    size = max(each.batch if each.ahead else 1 for each in measures)
    for part in (entries[first : first + size] for first in range(0, len(entries), size)):
        images = [opened(entry) for entry in part]
        whole = [image for image in images if not isinstance(image, dict)]
        faults = {each.name: dict(zip(whole, each.ahead(whole), strict=True)) for each in measures if each.ahead}
        for image in images:
            if isinstance(image, dict):
                yield {each.name: image for each in measures if each.name == CHEAP[0].name}
                continue
            yield {each.name: numbers_of(each, image, faults.get(each.name, {}).get(image)) for each in measures}


def opened(entry: Entry) -> OpenedImage | dict[str, Any]:
    """The image of an entry, decoded, or what `files` says of one that cannot be."""
    identity = ""
    try:
        if entry.problem:
            raise ValueError(entry.problem)
        image = OpenedImage(entry)
        identity = image.identity
        image.rgb  # noqa: B018
    except (ValueError, OSError) as error:
        return {"id": identity, "broken": 1.0, "problem": str(error), "ending": ""}
    return image


def numbers_of(measures: Measures, image: OpenedImage, fault: Exception | None) -> dict[str, Any]:
    """What a group measures of an image, or the error that it ended with, or that was met before."""
    try:
        if fault:
            raise fault
        return dict(measures.measure(image))
    except Exception as error:  # of whatever library; the image is kept and counted
        return {"error": f"{type(error).__name__}: {error}"[:300]}


def write_captions(task: Task, rows: Sequence[Mapping[str, Any]], source: str) -> None:
    """Measure the captions of a shard, one row each."""
    import pyarrow as pa

    lines = [
        {"row": row["row"], "index": index, "text": text, **describe_caption(text)}
        for row in rows for index, text in enumerate(row["captions"])
    ]  # fmt: skip
    numbers = [("words", pa.float64()), ("garbage", pa.float64())]
    numbers += [(f"letters_{script}", pa.float64()) for script in sorted({*SCRIPTS.values()})]
    texts = [("text", pa.string()), ("why", pa.string()), ("script", pa.string())]
    types = pa.schema([("row", pa.int64()), ("index", pa.int64()), *texts, *numbers])
    about = {"measures": caption_version(), "input": source, "rows": len(lines)}
    write_shard(table_path(task.folder, CAPTIONS, task.shard), as_bytes(lines, types), about)


def caption_version() -> str:
    """What the numbers of captions depend on beside their texts."""
    return fingerprint([CAPTIONS, CAPTIONS_VERSION])


def missing(folder: Path, shards: int, filters: Filters) -> list[Task]:
    """The tasks of the groups that look at every image: those whose note names other measures or other input."""
    tasks = []
    for shard in range(shards):
        source = read_note(table_path(folder, ENTRIES, shard))
        wanted = []
        for each in CHEAP:
            if not is_current(table_path(folder, each.name, shard), each, source):
                wanted.append(each.name)
        note = read_note(table_path(folder, CAPTIONS, shard))
        captions = (note.get("measures"), note.get("input")) != (caption_version(), source["captions"])
        if wanted or captions:
            tasks.append(Task(folder, shard, filters, tuple(wanted), captions))
    return tasks


def costly(folder: Path, shards: int, filters: Filters, measures: Measures, needed: np.ndarray) -> list[Task]:
    """The tasks of a group that looks at the images in `needed` alone; those on which it failed are tried again."""
    tasks = []
    for shard in range(shards):
        entries, path = table_path(folder, ENTRIES, shard), table_path(folder, measures.name, shard)
        own = set(read_table(entries)["row"].to_pylist()) & set(needed.tolist())
        if is_current(path, measures, read_note(entries)):
            own -= {line["row"] for line in read_table(path).to_pylist() if not line["error"]}
        if own:
            tasks.append(Task(folder, shard, filters, (measures.name,), False, tuple(sorted(own))))
    return tasks


def run_tasks(tasks: Sequence[Task], pool: Pool, report: Callable[[int], None]) -> None:
    """Do the tasks here or in processes of their own; `report` hears how many images more are done."""
    for done in parts_done(measure_shard, tasks, pool):
        report(done)


def write_entries(folder: Path, shard: int, rows: Sequence[Mapping[str, Any]]) -> None:
    """Put the list of a shard's images in place, where it is not there already.

    Two hashes say what others depend on: `bytes` of names, sizes and dates of the files, `captions` of the texts.
    """
    import pyarrow as pa

    text, number = pa.string(), pa.int64()
    types = pa.schema([
        ("row", number), ("name", text), ("file", text), ("kind", text), ("at", number), ("length", number),
        ("column", text), ("problem", text), ("captions", pa.list_(text)), ("facts", text), ("rendered", pa.bool_()),
        ("sources", pa.list_(number)),
        ("size", number), ("changed", number), ("inside", text),
    ])  # fmt: skip
    content = as_bytes(rows, types)
    path = table_path(folder, ENTRIES, shard)
    if read_note(path).get("output") == sha256(content).hexdigest():
        return
    files = [
        [row[key] for key in ("inside", "kind", "at", "length", "column", "problem", "size", "changed")] for row in rows
    ]
    about = {"bytes": fingerprint(files), "captions": fingerprint([row["captions"] for row in rows]), "rows": len(rows)}
    write_shard(path, content, about)
