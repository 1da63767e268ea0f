"""Other weights and other images for a run, while it goes on or before it is resumed: what `glyphlab mix` does.

Nothing of the run is touched but the files of what is wanted (run_logs.py), and a new list of its images beside those
that it has. The run takes it from there.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import Any

from experiments.experiment import Experiment
from experiments.images.image_lists import ImageList, changed
from experiments.images.image_readers import Entry
from experiments.images.image_sources import ImageSources, OwnImages, arranged
from experiments.producers.generations import dropped, listed, require_due, seal, shortened
from experiments.producers.mix import listed as weights_listed
from experiments.producers.mix import parts_of, weights_of_texts
from experiments.producers.ring import BATCHES
from experiments.producers.run_logs import FROM, GENERATIONS, MIX, Line, require_undrawn
from experiments.record.record import Run, read_run
from experiments.record.recorded_settings import rebuild
from experiments.record.whole_files import write_json
from experiments.training.own_images import usable_images
from experiments.training.ranks import rank_of
from experiments.training.run_prompts import check_sources
from preference_data.line_files import read_json
from preference_data.spelling import unknown


@dataclass(frozen=True)
class Wanted:
    """What a run is asked for. Nothing of it: to say what it reads."""

    weights: Sequence[str] = ()
    """texts such as photographs=3"""
    grow: Sequence[str] | None = None
    """folders, each as FOLDER or PART=FOLDER, that are added; () lists again what the run has"""
    instead: Sequence[str] = ()
    """folders that take the place of all images of their part"""
    from_step: int | None = None
    """the update from which it holds; None: as soon as it can"""


def ask_for(run: Path, wanted: Wanted) -> list[str]:
    """Ask a run for other weights or images; what it reads, and what it will, as lines.

    Raises ValueError as `weights_of` and `grown`, where there is nothing to change, for an update that was read, and
    where the run is finished.
    """
    recorded = read_run(run)
    experiment = rebuild(recorded.config.get("experiment", {}))
    data = getattr(experiment, "data", None)
    parts = parts_of(data)
    if not parts and not isinstance(data, ImageSources):
        raise ValueError(f"{run} learns from one kind of images, or from none: there is nothing to mix")
    others = wanted.grow is not None or bool(wanted.instead)
    if not wanted.weights and not others:
        return [*([f"parts: {', '.join(parts)}"] if parts else []), *noted(run, data)]
    if recorded.status == "finished":
        raise ValueError(f"{run} is finished, and learns no more; start another run from it with --parent {run}")
    if wanted.weights and not parts:
        raise ValueError(f"{run} learns from one folder: there is nothing to mix; --grow adds images to it")
    if others and not isinstance(data, ImageSources):
        raise ValueError(f"{run} learns from rendered images, which no folder can be added to")
    start = start_of(wanted, recorded, run, experiment.algorithm.steps)
    when = f"from update {start[FROM]} on" if start else "within 16 updates"
    when = when if recorded.status == "running" or start else "when it is resumed"
    weights = weights_of_texts(wanted.weights, parts) if wanted.weights else {}
    images, what = grown(run, recorded, experiment, wanted) if others else (None, "")
    lines = [what] if others and images is None else []
    if images is not None:
        write_json(run / GENERATIONS.wanted, {**seal(run, images, data.folder), **start})
        lines.append(f"{what}: the run takes it up {when} and notes it in {run / GENERATIONS.name}")
    if weights:
        write_json(run / MIX.wanted, {**weights, **start})
        lines.append(f"{weights_listed(weights)}: the run takes it up {when} and notes it in {run / MIX.name}")
    return lines


def noted(run: Path, data: Any) -> list[str]:
    """The logs of a run as lines, in the order of the updates from which they hold."""
    mixed = [(line[FROM], weights_listed(line["weights"])) for line in MIX.lines(run)]
    images = []
    for line in GENERATIONS.lines(run):
        now = arranged(data, listed(run, line, data).parts)
        images.append((line[FROM], f"{now.count} images with {len(now.captions)} captions, {line['list']}"))
    return [f"from update {start}: {what}" for start, what in (*images, *mixed)]


def start_of(wanted: Wanted, recorded: Run, run: Path, steps: int) -> dict[str, int]:
    """The update from which it is to hold, where one is named. Raises ValueError for one that was read, or never is."""
    if recorded.status == "running":
        earliest = (int((recorded.metrics[-1]["step"] or 0) if recorded.metrics else -1) // BATCHES + 2) * BATCHES
    else:
        checkpoints = [int(each.name.removeprefix("update_")) for each in (run / "checkpoints").glob("update_*")]
        earliest = (max(checkpoints, default=0) // BATCHES + 1) * BATCHES
    if wanted.from_step is not None:
        require_undrawn(wanted.from_step, earliest)
    if (wanted.from_step or earliest) >= steps:
        raise ValueError(
            f"{run} ends with update {steps - 1}, before update {wanted.from_step or earliest}, from which on it could "
            "read anything else; raise algorithm.steps, or start another run from it with --parent"
        )
    return {} if wanted.from_step is None else {FROM: wanted.from_step}


# --- other images


def grown(run: Path, recorded: Run, experiment: Experiment, wanted: Wanted) -> tuple[ImageList | None, str]:
    """The next list of a run's images, or None where it would be what the last one is; and words about it.

    Raises ValueError as `open_images`, for images that are gone or others and still due, and for what the model that
    learns from them cannot read.
    """
    data = experiment.data
    assert isinstance(data, ImageSources)
    last = next(reversed(GENERATIONS.lines(run)), None)
    if last is None:
        raise ValueError(
            f"{run} has no list of its images yet: go on with it (glyphlab resume {quote(str(run))}), then ask again"
        )
    before = listed(run, last, data)
    request = pending_line(run) or last
    pending = listed(run, request, data)
    added, instead = by_part(wanted.grow or (), data), by_part(wanted.instead, data)
    folders = [
        instead.get(part) or list(dict.fromkeys([*own, *added.get(part, ())]))
        for part, own in enumerate(pending.folders)
    ]
    parent = run / recorded.config["parent"] if recorded.config.get("parent") else None
    now, images = relisted(experiment, parent, folders)
    for part, gone in enumerate(dropped(before, now)):
        if gone and part not in instead:
            raise ValueError(about_dropped(gone, data.folder[part], images, run))
        require_due([*changed(gone, data.folder[part])])
    was, is_now = arranged(data, before.parts), arranged(data, now.parts)
    if is_now.edits and not was.edits:
        raise ValueError(f"{run} learns images from captions, and the new ones are edits of others: begin another run")
    if experiment.algorithm.trains == "transformer":
        check_sources(is_now, experiment, parent)
    at_another = wanted.from_step not in (None, request.get(FROM)) and request["manifest"] != last["manifest"]
    if contents(now) == contents(pending) and not at_another:
        return None, f"nothing is new: the run reads {is_now.count} images with {len(is_now.captions)} captions already"
    return now, f"{difference(before, now)}, {is_now.count} images with {len(is_now.captions)} captions in all"


def pending_line(run: Path) -> Line | None:
    """What was asked for before, and the run did not take up yet."""
    try:
        wanted = read_json(run / GENERATIONS.wanted)
    except (FileNotFoundError, ValueError):
        return None
    return wanted if isinstance(wanted, Mapping) and GENERATIONS.field in wanted else None


def by_part(texts: Sequence[str], data: ImageSources) -> dict[int, list[str]]:
    """Absolute folders of texts such as PART=FOLDER, by part; of a run with one part, such as FOLDER.

    Raises ValueError for a part that there is not, or none where there are several.
    """
    chosen: dict[int, list[str]] = {}
    for text in texts:
        name, is_named, folder = text.partition("=")
        parts = [i for i, part in enumerate(data.folder) if is_named and name in (part, Path(part).name)]
        if not parts and len(data.folder) == 1 and (not is_named or Path(text).exists()):
            parts, folder = [0], text
        if len(parts) != 1:
            raise ValueError(f"{unknown('part of the run', name, data.folder)}; write PART=FOLDER")
        chosen.setdefault(parts[0], []).append(str(Path(folder).absolute()))
    return chosen


def relisted(
    experiment: Experiment, parent: Path | None, folders: Sequence[Sequence[str]]
) -> tuple[ImageList, OwnImages]:
    """What lies in the folders of each part now, and as one stream of all folders. Raises as `open_images`."""
    data = experiment.data
    assert isinstance(data, ImageSources)
    flat = [folder or data.folder[part] for part, own in enumerate(folders) for folder in own]
    images = usable_images(
        experiment, parent, instead=replace(data, folder=tuple(flat), weights=(), repeats=(), heldout=0.0)
    )
    sources, parts = iter(images.listed), []
    for own in folders:
        entries: dict[str, Entry] = {}
        for entry in (entry for _ in own for entry in next(sources)):
            entries.setdefault(entry.sha256, entry)
        parts.append([*entries.values()])
    return ImageList(parts, [*map(list, folders)]), images


def about_dropped(gone: Sequence[Entry], folder: str, images: OwnImages, run: Path) -> str:
    """The words about images that a list has no more, although nothing takes their place."""
    faults = [*changed(gone, folder)] or [f"{entry.name} is left out" for entry in gone]
    bad = [str(each) for each in images.bad if each.name in {entry.name for entry in gone}]
    return (
        f"{len(gone)} images of {folder} that the run still shows are not there as they were listed: "
        f"{shortened(bad or faults)}. Put them back: a list grows. To leave images out, name a folder that takes the "
        f"place of all: glyphlab mix {quote(str(run))} --replace {quote(Path(folder).name)}=FOLDER"
    )


def contents(images: ImageList) -> list[dict[str, tuple[tuple[str, ...], int]]]:
    """Which images of each part, wherever they lie, with which captions, and how often in a pass."""
    return [{entry.sha256: (entry.captions, entry.repeats) for entry in entries} for entries in images.parts]


def difference(before: ImageList, now: ImageList) -> str:
    """How many images come and go between two lists, and how many get other captions."""
    was, is_now = (dict(row for own in contents(each) for row in own.items()) for each in (before, now))
    others = sum(is_now[name] != row for name, row in was.items() if name in is_now)
    words = [f"{len(is_now.keys() - was.keys())} new images", f"{len(was.keys() - is_now.keys())} left out"]
    return ", ".join(
        [
            *words[: 1 + bool(was.keys() - is_now.keys())],
            *([f"{others} with other captions or repeats"] if others else []),
        ]
    )


def tell_changes(experiment: Experiment, run: Path, parent: Path | None) -> None:
    """Say on stderr what lies in the folders of a run that goes on and is not in its last list."""
    lines = GENERATIONS.lines(run)
    if rank_of(experiment) or not lines or not isinstance(experiment.data, ImageSources):
        return
    before = listed(run, lines[-1], experiment.data)
    try:
        now, _ = relisted(experiment, parent, before.folders)
    except (ValueError, OSError):
        return  # its own lists are whole: the run goes on with these
    if contents(now) != contents(before):
        print(
            f"the folders of {run} have {difference(before, now)} beside what it reads; take them up with: "
            f"glyphlab mix {quote(str(run))} --grow",
            file=sys.stderr,
        )
