"""Where an image of a set comes from: source file, licence, seed, every filter's number, and the decision.

An image is named by its file in the set, its file in the source, its sha256 or the beginning of that. A batch is named
by a run and an update: which images it was made of is a function of the run's settings and of the log of its mixture,
so nothing has to be logged. Images that were written or rendered have a seed and an index in place of a source.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from base_model.data.mixture import TaskStream
from base_model.data.stream import TextStream, stream_indices
from experiments.curation.curated_folder import CAPTIONS, DECISIONS, chosen_filters, decided, is_set, recorded
from experiments.curation.shard_files import HIDDEN, read_table
from experiments.curation.thresholds import in_order
from experiments.images.image_readers import Entry
from experiments.images.image_sources import ImageSources, OwnImages
from experiments.images.written_folder import SETTINGS as WRITING
from experiments.producers.changing_images import stream_at
from experiments.producers.run_logs import FROM, GENERATIONS
from experiments.record.record import read_run
from experiments.record.recorded_settings import rebuild
from experiments.training.image_data import SHARDS
from experiments.training.own_images import run_images
from preference_data.line_files import read_json_lines

SHORTEST = 6
"""letters of a sha256 that name an image"""
LICENCES = ("license", "licence")
LONG = 200
"""characters of a fact that are shown"""


def lineage(out: Path, name: str) -> Iterator[str]:
    """Lines about the images that a name is of. Raises ValueError when the set has none, or is not finished."""
    if not is_set(out) or "kept" not in (about := recorded(out)):
        raise ValueError(f"{out} is not a finished set; make one with: glyphlab curate IMAGES -o {out}")
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
        links = result.images["links"]
        for source in links[links[:, 0] == row, 1]:
            yield f"  made from  {result.images['name'][source]}"
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


def batch(run: Path, update: int, sample: int | None, ranks: int) -> Iterator[str]:
    """Lines about the samples that one update of a run learned from: caption, image, source, licence, sha256.

    `sample` counts from 0 over all ranks; with it, everything that is known of that one: of a curated set every
    filter's number. Raises ValueError when there is no such update or sample, or its images changed since.
    """
    recorded_run = read_run(run)
    experiment = rebuild(recorded_run.config.get("experiment", {}))
    if getattr(experiment, "data", None) is None:
        raise ValueError(f"{run} did not learn from images, but from rewards or from pairs")
    cfg = experiment.algorithm
    samples = cfg.batch * ranks
    if not 0 <= update < cfg.steps:
        raise ValueError(f"update={update} must be from 0 to {cfg.steps - 1}, the last one of {run}")
    if sample is not None and not 0 <= sample < samples:
        raise ValueError(f"sample={sample} must be from 0 to {samples - 1}, the last one of an update")
    stream = stream_at(run, opened(run, recorded_run.config, experiment), update, samples)
    yield from generation(run, update)
    for number in range(samples) if sample is None else (sample,):
        if isinstance(stream, OwnImages):
            yield from of_own_image(stream, update * samples + number, number, sample is not None)
        else:
            yield from of_rendered(stream, update, cfg.batch, number, ranks)


def opened(run: Path, config: dict[str, Any], experiment: Any) -> Any:
    """The stream that a run began with. Raises ValueError where there is no list of its images, and they are others."""
    if not isinstance(experiment.data, ImageSources):
        return experiment.data
    return run_images(experiment, run, run / config["parent"] if config.get("parent") else None)


def generation(run: Path, update: int) -> Iterator[str]:
    """Lines about the list of images of an update, and about its shard, where producers made it."""
    for line in GENERATIONS.in_force(run, update)[-1:]:
        yield f"images of {line['list']}, listed from update {line[FROM]} on, encoder {line['encoder'][:12] or 'none'}"
    files = [run / name for name in (GENERATIONS.name, SHARDS)]  # the first one as older versions called it
    lines = [line for path in files if path.exists() for _, line in read_json_lines(path) if "data" in line]
    if now := [line for line in lines if line[FROM] <= update][-1:]:
        line, number = now[0], update // now[0]["batches"]
        yield f"shard {number}, made ahead of data {line['data'][:12]} by encoder {line['encoder'][:12] or 'none'}"


def of_own_image(images: OwnImages, index: int, number: int, in_full: bool) -> Iterator[str]:
    """Lines about one sample of one's own images."""
    entry = next(images.candidates(index))
    yield f"sample {number}: {images.caption(index, entry)!r}"
    folder = next((each for each in entry.file.parents if is_set(each) or (each / WRITING).is_file()), None)
    line: dict[str, Any] = {}
    if folder is not None:
        name = entry.file.relative_to(folder).as_posix()
        line = next((row for _, row in read_json_lines(folder / CAPTIONS) if row["file_name"] == name), {})
    if folder is not None and in_full and is_set(folder):
        yield from lineage(folder, str(entry.file))
        return
    identity = line.get("id") or identity_of(entry)
    licence = next((line[key] for key in LICENCES if key in line), "unknown")
    yield f"  {entry.name}, from {(line.get('origins') or [entry.name])[-1]}, licence {licence}, sha256 {identity}"
    if "seed" in line:
        yield f"  written by seed {line['seed']}, index {line['index']}: {line['kind']}, {line['language']}"
    if in_full and folder is not None:
        for key, value in line.items():
            if key not in ("lines", "id", "text"):
                yield f"  {key:<10} {shortened(value)}"
        yield f"  settings   {folder / WRITING}"


def identity_of(entry: Entry) -> str:
    """The SHA-256 of an image, and what became of its file since it was listed."""
    try:
        now = sha256(entry.content()).hexdigest()
    except (OSError, ValueError):
        return f"{entry.sha256} (its file is gone)"
    is_other = entry.sha256 not in ("", now) and not entry.sources
    return f"{entry.sha256} (its file holds another image now)" if is_other else now


def of_rendered(stream: Any, update: int, size: int, number: int, ranks: int) -> Iterator[str]:
    """Lines about one sample of a stream that is rendered: all of it follows from the seed and the index."""
    rank, row = divmod(number, size)
    if isinstance(stream, TaskStream):
        example = stream.examples(update, size, rank, ranks)[row]
        yield f"sample {number}: {example.text!r}"
        yield f"  rendered by seed {stream.scenes.seed}: {shortened(str(example.target))}"
        return
    index = stream_indices(update, size, rank, ranks)[row]
    if isinstance(stream, TextStream):
        index = stream.indices(update, size, rank, ranks)[row][1]
        scene, caption = stream.one(update, index)
        yield f"sample {number}: {caption!r}"
        yield f"  {scene.caption}"
    else:
        yield f"sample {number}: a page of text"
    yield f"  rendered by seed {stream.seed}, index {index}, update {update}; no source and no licence but Glyphlab's"


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
