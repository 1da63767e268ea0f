"""A curated folder: what a source has, measured, decided and put where `--data.folder SET` trains on it.

    SET/images/00000/000003-1a2b3c4d5e6f.jpg   the image of row 3, byte for byte as it was
    SET/captions.jsonl                         a line an image: file_name, text, id, origins, facts of the source
    SET/curation.json                          sources, thresholds, counts by stage
    SET/.curation/                             numbers and decisions, by shards (shard_files.py)

Run again, the command measures only what is new or was measured by another version; with other thresholds alone it
measures nothing. Killed anywhere and run again, it leaves the same bytes.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np

from experiments.curation.balancing.resampling import add_repeats
from experiments.curation.balancing.retrieval import summary
from experiments.curation.captioner import Captioner, fused, ready
from experiments.curation.deciding import Decisions, cells_of, decide, load
from experiments.curation.edit_links import SOURCE_IMAGE, guilty_source, source_names
from experiments.curation.image_facts import list_sources
from experiments.curation.measures.caption_facts import NONE, scripts
from experiments.curation.measures.measure_groups import CHEAP, measures_of
from experiments.curation.measures.reward_scores import scorer
from experiments.curation.measuring import (
    ENTRIES,
    costly,
    entry_of,
    missing,
    not_judged,
    run_tasks,
    write_entries,
)
from experiments.curation.shard_files import HIDDEN, as_bytes, read_note, read_table, table_path
from experiments.curation.thresholds import Filters, in_order, rewards_of
from experiments.images.part_pool import Pool, parts_done
from experiments.overrides import override
from experiments.progress import bar_of
from experiments.record.leftovers import LOCK, removed_on_error
from experiments.record.record import exclusive
from experiments.record.whole_files import require_folder, write_bytes, write_json
from preference_data.atomic_files import replacing

SHARD = 256
"""images that are measured together"""
SETTINGS, CAPTIONS, IMAGES, DECISIONS = "curation.json", "captions.jsonl", "images", "decisions.parquet"
UNJUDGED = 0.01
"""largest share of images on which a measure may fail; one image always may"""
COPIES = ("duplicates", "near_duplicates", "repeated_text")
"""filters that drop an image because there is another one"""
SHOWN = 3
"""reasons that the last line names"""


def is_set(folder: Path) -> bool:
    """Whether a folder was begun by this command."""
    return (folder / SETTINGS).is_file()


def recorded(folder: Path) -> dict[str, Any]:
    """What curation.json says. Raises ValueError when it is no JSON."""
    try:
        about: dict[str, Any] = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{folder / SETTINGS} is not JSON: {error}; restore it, or curate into a new folder"
        ) from error
    return about


def as_texts(filters: Filters) -> dict[str, str]:
    """Every threshold by its dotted name, as `--set` takes it."""
    texts = {"reading": str(filters.reading).lower()}
    others = {name: getattr(filters, name) for name in ("captioner", "retrieval", "resampling")}
    for name, each in (in_order(filters) | others).items():
        for field in dataclasses.fields(each):
            value = getattr(each, field.name)
            texts[f"{name}.{field.name}"] = "|".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return texts


def chosen_filters(folder: Path, settings: Sequence[str]) -> Filters:
    """The thresholds of a folder, or the defaults, with `settings` such as clarity.least=40.

    Raises ValueError as `override`. A reward that is new is loaded, and raises what it cannot be loaded for, before
    anything is measured.
    """
    noted = recorded(folder)["filters"] if is_set(folder) else {}
    before = override(Filters(), {name: text for name, text in noted.items() if text != "nan"})  # was taken once
    pairs = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"{setting!r} sets nothing; write a threshold and its value, such as clarity.least=40")
        pairs[name] = value
    filters = override(before, pairs)
    for reward in sorted(rewards_of(filters) - rewards_of(before)):
        scorer(reward)
    return filters


def curate(
    sources: Sequence[str],
    out: Path,
    settings: Sequence[str] = (),
    column: str = "",
    processes: int = 1,
    ray: str = "",
) -> Iterator[str]:
    """Make or go on with a set; lines that say what came out. No sources = those that the set was begun with.

    Raises ValueError for settings that cannot work, other things in the folder, and where no image stays;
    FileNotFoundError for a source that is not there; ScoringError where a measure fails on many images.
    """
    if processes < 1:
        raise ValueError(f"processes={processes} must be at least 1")
    require_folder(out)
    if not is_set(out) and out.exists() and any(not path.name.startswith(".") for path in out.iterdir()):
        raise ValueError(f"{out} holds other things and no {SETTINGS}; name a new folder")
    with removed_on_error(out, lambda folder: os.listdir(folder) == [LOCK]):
        out.mkdir(parents=True, exist_ok=True)
        with exclusive(out):
            yield from curate_alone(sources, out, settings, column, Pool(processes, ray))


def curate_alone(sources: Sequence[str], out: Path, settings: Sequence[str], column: str, pool: Pool) -> Iterator[str]:
    """See `curate`, which holds the folder's lock."""
    filters = chosen_filters(out, settings)
    # a model that does not answer is said before anything is measured
    filters = replace(filters, captioner=ready(filters.captioner))
    before = recorded(out) if is_set(out) else {}
    if sources or "shards" not in before:
        listed = [str(each) for each in sources or before["sources"]]
        require_outside(listed, out)
        column = column or before.get("column", "")
        rows, passed = list_sources(listed, column)  # before the settings: a folder that cannot be listed costs no set
        begun = {"sources": [os.path.abspath(each) for each in listed], "column": column, "filters": as_texts(filters)}
        write_json(out / SETTINGS, begun)  # without the number of shards: killed from here on, it lists them again
        about = {**begun, "shards": write_shards(rows, out)}
        yield from passed
    else:
        about = {**before, "filters": as_texts(filters)}
    measure(out, about["shards"], filters, pool)
    yield from (f"{name} drops nothing: {why}" for name, why in lacking(filters).items())
    result = decided(out, about["shards"], filters)
    if not result.staying.any():
        raise ValueError(f"no image of {', '.join(about['sources'])} stays: {worst(result)}. {remedy(result, filters)}")
    yield from materialise(out, about, filters, result, pool)


def require_outside(sources: Sequence[str], out: Path) -> None:
    """Raises ValueError where a source holds the set, or the set a source: it would curate its own images."""
    for source in sources:
        there, here = Path(source).resolve(), out.resolve()
        if here.is_relative_to(there) or there.is_relative_to(here):
            raise ValueError(
                f"{out} and {source} are in each other; name a folder for the set that is outside of its images"
            )


def write_shards(rows: Sequence[dict[str, Any]], out: Path) -> int:
    """Put the list of images into shards, and take away those of a longer list; how many there are."""
    shards = range(-(-len(rows) // SHARD))
    for shard in shards:
        write_entries(out, shard, rows[shard * SHARD : (shard + 1) * SHARD])
    for path in (out / HIDDEN).glob("*/*"):
        if path.stem.isdigit() and int(path.stem) not in shards:
            path.unlink()
    return len(shards)


def measure(out: Path, shards: int, filters: Filters, pool: Pool) -> None:
    """Measure what no shard has yet: first all images, then group by group those that are left at its stage."""
    count = sum(read_note(table_path(out, ENTRIES, shard))["rows"] for shard in range(shards))
    tasks = missing(out, shards, filters)
    if tasks:
        todo = sum(read_note(table_path(out, ENTRIES, task.shard))["rows"] for task in tasks)
        with bar_of(todo, "measuring", " images") as bar:
            run_tasks(tasks, pool, lambda done: bar.update(done) and None)
    for each in CHEAP:
        require_measured(out, shards, each.name, count)
    for each in sorted(measures_of(filters), key=lambda group: group.stage):
        if not each.stage or each.lacking():
            continue
        needed = np.flatnonzero(decide(*load(out, shards, filters), filters, each.stage - 1).staying)
        if tasks := costly(out, shards, filters, each, needed):
            todo = sum(len(task.rows) for task in tasks)
            with bar_of(todo, f"measuring {each.name}", " images") as bar:
                run_tasks(tasks, Pool() if each.ahead else pool, lambda done, bar=bar: bar.update(done) and None)
        require_measured(out, shards, each.name, len(needed))


def lacking(filters: Filters) -> dict[str, str]:
    """By the name of each group of measures that was left out, what is missing to measure it."""
    return {each.name: why for each in measures_of(filters) if (why := each.lacking())}


def require_measured(out: Path, shards: int, name: str, count: int) -> None:
    """Raises ScoringError, with the first error, where a group of measures failed on too many images."""
    paths = [table_path(out, name, shard) for shard in range(shards)]
    failed = sum(read_note(path).get("unjudged", 0) for path in paths)
    if failed > max(1, UNJUDGED * count):
        errors = (error for path in paths if path.exists() for error in read_table(path)["error"].to_pylist() if error)
        raise not_judged(
            f"{name} failed on {failed} of {count} images, first with: {next(errors)}. Mend that and run the command "
            f"again; delete {out / HIDDEN / name} to measure them anew"
        )


def decided(out: Path, shards: int, filters: Filters) -> Decisions:
    """The decisions of all stages from the numbers of a set."""
    return decide(*load(out, shards, filters), filters)


def worst(result: Decisions) -> str:
    """The filters that dropped most, as a phrase."""
    names, counts = np.unique(result.dropped_by[~result.staying].astype(str), return_counts=True)
    order = np.argsort(-counts, kind="stable")[:SHOWN]
    return ", ".join(f"{names[i]} dropped {counts[i]:,}" for i in order)


def remedy(result: Decisions, filters: Filters) -> str:
    """The threshold of the filter that dropped most, and how it is set otherwise."""
    names, counts = np.unique(result.dropped_by[~result.staying].astype(str), return_counts=True)
    name = str(names[np.argmax(counts)])
    each = in_order(filters).get(name)
    bounds = each.bounds() if each else {}
    others = "`glyphlab list filters` shows all thresholds"
    if not each or not bounds:
        return others
    limits = " and ".join(f"{name}.{bound}={value:g}" for bound, value in bounds.items())
    change = f"--set {name}.{next(iter(bounds))}=VALUE changes it"
    return f"The first of them drops by {limits} ({each.unit}); {change}, {others}"


@dataclass(frozen=True)
class Copies:
    """Images of one shard that a set needs: row, sha256 of the bytes, and the name in the set."""

    folder: Path
    shard: int
    wanted: tuple[tuple[int, str, str], ...]


def copy_images(copies: Copies) -> int:
    """Copy images that are not in the set yet; how many. Raises ValueError when one is no longer what was measured."""
    rows = {row["row"]: row for row in read_table(table_path(copies.folder, ENTRIES, copies.shard)).to_pylist()}
    for row, identity, name in copies.wanted:
        entry = entry_of(rows[row])
        try:
            content = entry.content()
        except OSError as error:
            raise ValueError(f"{entry.name} is needed for the set and cannot be read: {error}; put it back") from error
        if sha256(content).hexdigest() != identity:
            raise ValueError(
                f"{entry.name} changed since it was measured; run the command again with its folder: glyphlab curate "
                f"FOLDER -o {copies.folder}"
            )
        write_image(copies.folder / name, content)
    return len(copies.wanted)


def write_image(path: Path, content: bytes) -> None:
    """Put an image in place, whole or not at all, without waiting for the disk: it can be copied again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_bytes(content)
    os.replace(fresh, path)


def file_names(result: Decisions) -> dict[int, str]:
    """The name in the set of every row that stays."""
    rows = np.flatnonzero(result.staying)
    names, endings = result.images["id"][rows], result.images["ending"][rows]
    return {
        int(row): f"{IMAGES}/{row // SHARD:05d}/{row:06d}-{identity[:12]}{ending}"
        for row, identity, ending in zip(rows, names, endings, strict=True)
    }


def materialise(out: Path, about: Mapping[str, Any], filters: Filters, result: Decisions, pool: Pool) -> Iterator[str]:
    """Put what stays in place and take away what does not; what came out, as lines.

    The captions are replaced when all of their images are there, and images are taken away afterwards, so a set that
    was whole stays one that can be trained on until the new one is.
    """
    names = file_names(result)
    parts = []
    for shard in range(about["shards"]):
        own = [row for row in names if row // SHARD == shard and not (out / names[row]).exists()]
        wanted = tuple((row, str(result.images["id"][row]), names[row]) for row in own)
        if wanted:
            parts.append(Copies(out, shard, wanted))
    if parts:
        with bar_of(sum(len(part.wanted) for part in parts), "copying", " images") as bar:
            for done in parts_done(copy_images, parts, pool):
                bar.update(done)
    write_decisions(out, filters, result, names)
    with replacing(out / CAPTIONS) as file:
        rows = [*caption_rows(result, names, filters.captioner)]
        for row in add_repeats(rows, cells_of(result), filters.resampling):
            file.write((json.dumps(row, ensure_ascii=False) + "\n").encode())
    prune(out, set(names.values()))
    stages = result.stages(filters)
    counts = {"images": stages[0]["in"], "kept": stages[-1]["out"], "stages": stages}
    write_json(out / SETTINGS, {**about, **counts})
    edits = int(result.images["is_edit"][result.staying].sum())
    made = f", {edits:,} of them edits of others that stay as well" if edits else ""
    yield from summary(result.images, filters.retrieval)
    dropped = f"; {worst(result)}" if not result.staying.all() else ""
    yield f"{counts['kept']:,} of {counts['images']:,} images stay in {out}{made}{dropped}"
    name = quote(str(out))
    yield f"see why with: glyphlab curate {name} --report; train with --data.folder {name}"


def caption_rows(result: Decisions, names: Mapping[int, str], captioner: Captioner) -> Iterator[dict[str, Any]]:
    """The lines of captions.jsonl: a name, the captions that stay, where the image is from, and facts of its source."""
    texts: dict[int, dict[str, None]] = {}
    for index in np.flatnonzero(result.caption_dropped_by == ""):
        texts.setdefault(int(result.captions["row"][index]), {})[str(result.captions["text"][index])] = None
    made_from = source_names(result.images, names)
    for row, name in names.items():
        if result.images["is_source"][row]:
            continue
        facts = json.loads(result.images["facts"][row] or "{}")
        before = facts.pop("origins", [])
        own = list(texts.get(row, {}))
        described = "model_caption" in result.images and not result.images["rendered"][row]
        sources = {SOURCE_IMAGE: made_from[row]} if row in made_from else {}
        if described and not sources:
            written, read = (result.images[column][row] for column in ("model_caption", "caption_read"))
            own, facts["caption_origin"] = fused(captioner, result.images["id"][row], own, written, read)
        if "text_area" in result.images and np.isfinite(result.images["text_area"][row]):
            facts["text_script"] = next(iter(scripts(result.images["read_text"][row])), NONE)
        yield {
            "file_name": name, **sources, "text": own, **{k: v for k, v in facts.items() if k != "id"},
            "id": result.images["id"][row], "origins": [*before, result.images["name"][row]],
        }  # fmt: skip


def write_decisions(out: Path, filters: Filters, result: Decisions, names: Mapping[int, str]) -> None:
    """Put a table in place that says of each image what dropped it, and why."""
    import pyarrow as pa

    rows = []
    for row, by in enumerate(result.dropped_by):
        of = int(result.images["duplicate_of"][row]) if by in COPIES else -1
        why = str(result.images["problem"][row]) if by == "broken" else reason(filters, result, by, row) if by else ""
        rows.append({"row": row, "name": result.images["name"][row], "id": result.images["id"][row], "dropped_by": by,
                     "why": why, "duplicate_of": of, "file_name": names.get(row, "")})  # fmt: skip
    text, number = pa.string(), pa.int64()
    types = pa.schema([("row", number), ("name", text), ("id", text), ("dropped_by", text), ("why", text),
                       ("duplicate_of", number), ("file_name", text)])  # fmt: skip
    write_bytes(out / HIDDEN / DECISIONS, as_bytes(rows, types))


def reason(filters: Filters, result: Decisions, name: str, row: int) -> str:
    """Why a filter drops an image, with number and threshold; of an edit, or what it was made from, also the other."""
    each = in_order(filters)[name]
    if why := each.explain(result.number(filters, name, row)):
        return why
    source = guilty_source(result.images, result.dropped_by, row)
    if source < 0:
        return "nothing that was made of it stays" if result.images["is_source"][row] else ""
    return f"{result.images['name'][source]}, which it was made from: {reason(filters, result, name, source)}"


def prune(out: Path, wanted: set[str]) -> None:
    """Take away images that do not stay, and files that a killed process left."""
    for folder in sorted((out / IMAGES).glob("*")):
        for path in folder.iterdir():
            if path.relative_to(out).as_posix() not in wanted:
                path.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()
    for path in [*(out / HIDDEN).rglob(".*"), *out.glob(f".{SETTINGS}.*"), *out.glob(f".{CAPTIONS}.*")]:
        path.unlink()
