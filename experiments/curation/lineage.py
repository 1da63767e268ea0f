"""Where an image of a set comes from: source file, licence, seed, every filter's number, and the decision.

An image is named by its file in the set, its file in the source, its sha256 or the beginning of that. A batch is named
by a run and an update: which images it was made of is a function of the run's settings, so nothing has to be logged.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from experiments.curation.curated_folder import CAPTIONS, DECISIONS, chosen_filters, decided, is_set, recorded
from experiments.curation.shard_files import HIDDEN, read_table
from experiments.curation.thresholds import in_order
from experiments.record.record import read_run
from experiments.record.recorded_settings import rebuild
from preference_data.line_files import read_json_lines

SHORTEST = 6
"""letters of a sha256 that name an image"""
LICENCES = ("license", "licence")
LONG = 200
"""characters of a fact that are shown"""


def lineage(out: Path, name: str) -> Iterator[str]:
    """Lines about the images that a name is of. Raises ValueError when the set has none, or is not finished."""
    if not is_set(out) or "kept" not in (about := recorded(out)):
        raise ValueError(f"{out} is no finished set; make one with: glyphlab curate IMAGES -o {out}")
    decisions = read_table(out / HIDDEN / DECISIONS).to_pylist()
    rows = [line for line in decisions if is_named(line, name, out)]
    if not rows:
        raise ValueError(
            f"{out} and its sources have no image {name!r}; name a file of {out}/images, a file of the source, or a "
            f"sha256 of at least {SHORTEST} letters"
        )
    filters = chosen_filters(out, ())
    result = decided(out, about["shards"], filters)
    for line in rows:
        row = line["row"]
        yield f"{line['file_name'] or line['name']}: " + (
            "stays" if not line["dropped_by"] else f"dropped by {line['dropped_by']}: {line['why']}"
        )
        yield f"  from       {line['name']}"
        yield f"  sha256     {line['id'] or 'unknown: it cannot be read'}"
        facts = json.loads(result.images["facts"][row] or "{}")
        licence = next((facts.pop(key) for key in LICENCES if key in facts), "unknown: the source names none")
        yield f"  licence    {licence}"
        for key, value in facts.items():
            yield f"  {key:<10} {shortened(value)}"
        if line["duplicate_of"] >= 0:
            yield f"  like       {result.images['name'][line['duplicate_of']]}"
        own = np.flatnonzero(result.captions["row"] == row)
        for index in own:
            by = result.caption_dropped_by[index]
            yield f"  caption    {result.captions['text'][index]!r}" + (f", dropped by {by}" if by else "")
        for filter_name, each in in_order(filters).items():
            value = result.number(filters, filter_name, row)
            bounds = ", ".join(f"{key} {bound:g}" for key, bound in each.bounds().items()) or "no threshold"
            shown = "not measured" if math.isnan(value) else f"{value:.6g}"
            yield f"  {each.stage} {filter_name:<16} {each.column} = {shown} ({bounds}; {each.unit})"


def batch(out: Path, run: Path, update: int, ranks: int) -> Iterator[str]:
    """Lines about the samples of one update of a run: caption, file, source, licence, sha256.

    Raises ValueError when the run did not learn from this set, the set changed since, or there is no such update.
    """
    from base_model.data.stream import stream_indices
    from experiments.training.own_images import usable_images

    recorded_run = read_run(run)
    experiment = rebuild(recorded_run.config.get("experiment", {}))
    folders = getattr(getattr(experiment, "data", None), "folder", ())
    if out.resolve() not in [Path(folder).resolve() for folder in folders]:
        raise ValueError(f"{run} did not learn from {out}, but from {', '.join(folders) or 'images of its own making'}")
    if not 0 <= update < experiment.algorithm.steps:
        raise ValueError(f"update={update} must be from 0 to {experiment.algorithm.steps - 1}, the last one of {run}")
    parent = recorded_run.config.get("parent")
    images = usable_images(experiment, run / parent if parent else None)
    if images.fingerprint != recorded_run.config["own_images"]["fingerprint"]:
        raise ValueError(f"{', '.join(folders)} changed since {run} began; cut the set again with its thresholds")
    lines = {str((out / line["file_name"]).resolve()): line for line in set_rows(out)}
    for rank in range(ranks):
        for index in stream_indices(update, experiment.algorithm.batch, rank, ranks):
            entry = next(images.candidates(index))
            line = lines.get(str(entry.file.resolve()), {})
            licence = next((line[key] for key in LICENCES if key in line), "unknown")
            source = (line.get("origins") or [entry.name])[-1]
            yield f"sample {index}: {images.caption(index, entry)!r}"
            yield f"  {entry.name}, from {source}, licence {licence}, sha256 {line.get('id', 'unknown')}"


def set_rows(out: Path) -> Iterator[dict[str, Any]]:
    """The lines of a set's captions."""
    return (line for _, line in read_json_lines(out / CAPTIONS))


def is_named(line: dict[str, Any], name: str, out: Path) -> bool:
    """Whether a line of the decisions is about the image of that name."""
    if len(name) >= SHORTEST and line["id"].startswith(name.lower()):
        return True
    in_set = line["file_name"] and Path(name) in (Path(line["file_name"]), out / line["file_name"])
    return bool(in_set) or Path(name).absolute() == Path(line["name"]).absolute() or name == Path(line["name"]).name


def shortened(value: Any) -> str:
    """A fact as one line."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONG else f"{text[:LONG]} ..."
