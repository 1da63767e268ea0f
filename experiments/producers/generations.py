"""The images of a run, which may become more, or others, while it goes on.

    RUN/generations/0123456789abcdef.jsonl   a list of images (image_lists.py), named after its SHA-256
    RUN/generations.jsonl                    what holds: {"from_step": 16, "manifest": the SHA-256 of a list, "list":
                                             where it lies, "encoder": the SHA-256 of what encodes the images}
    RUN/images.json                          what is wanted: the manifest and the list of the next generation

A run reads its lists and never looks into its folders again, so what lies there may change at any time: it is taken up
by a new list. Every image of a list must stay where it is, as it is, until no update that shows it can be drawn again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from experiments.images.image_lists import ImageList, changed, missing, packed, unpacked
from experiments.images.image_readers import Entry
from experiments.images.image_sources import SHOWN, Bad, ImageSources, Later, OwnImages, arranged
from experiments.producers.run_logs import FROM, GENERATIONS, Line
from experiments.record.whole_files import write_bytes

LISTS = "generations"


def seal(run: Path, images: ImageList, folders: Sequence[str]) -> dict[str, str]:
    """Write a list into a run's folder; what a line of the log says of it."""
    content = packed(images, folders)
    manifest = sha256(content).hexdigest()
    where = f"{LISTS}/{manifest[:16]}.jsonl"
    write_bytes(run / where, content)
    return {"manifest": manifest, "list": where}


def listed(run: Path, line: Line, settings: ImageSources) -> ImageList:
    """The list that a line of a log names. Raises ValueError when it is not there, or another one."""
    path = run / line["list"]
    if not path.is_file():
        raise ValueError(f"{path}, the list of images from update {line.get(FROM, 0)} on, is not there; put it back")
    return _unpacked(path, path.stat().st_mtime_ns, line["manifest"], settings.folder)


@functools.lru_cache(maxsize=8)
def _unpacked(path: Path, written: int, manifest: str, folders: tuple[str, ...]) -> ImageList:
    content = path.read_bytes()
    if (now := sha256(content).hexdigest()) != manifest:
        raise ValueError(
            f"{path} was changed: its SHA-256 is {now[:16]}..., and {manifest[:16]}... was noted; put back what it was"
        )
    return unpacked(content, str(path), folders)


def first_images(run: Path, settings: ImageSources, bad: Sequence[Bad] = ()) -> OwnImages | None:
    """What the run read at its beginning, by its log; None where it has none."""
    lines = GENERATIONS.lines(run)
    return arranged(settings, listed(run, lines[0], settings).parts, tuple(bad)) if lines else None


def with_generation(images: OwnImages, run: Path, line: Line, samples: int) -> OwnImages:
    """The stream with the images of a line of the log; `samples` is how many an update reads, of all ranks."""
    if not line[FROM]:
        return images
    now = arranged(images.settings, listed(run, line, images.settings).parts)
    start = line[FROM] * samples
    before = (each for each in images.later if each.start < start)
    return replace(images, later=(*before, Later(start, now.sources, line["manifest"])))


def require_there(
    run: Path, settings: ImageSources, step: int, among: Callable[[Entry], bool] = lambda _: True
) -> None:
    """Raises ValueError naming images that an update from `step` on shows, and that are gone or others now."""
    faults: dict[str, None] = {}
    for line in needed(run, step):
        for entries, folder in zip(listed(run, line, settings).parts, settings.folder, strict=True):
            faults |= dict.fromkeys(changed([entry for entry in entries if among(entry)], folder))
    if faults:
        raise ValueError(
            f"{', '.join(settings.folder)} changed since the run in {run} listed its images: {shortened([*faults])}. "
            "Put them back to go on exactly, or train on from a finished model in another folder with --parent"
        )


def needed(run: Path, step: int) -> list[Line]:
    """The lines of the log that say what updates from `step` on read."""
    last = GENERATIONS.in_force(run, step)[-1:]
    return [*last, *(line for line in GENERATIONS.lines(run) if line[FROM] > step)]


def taken(
    run: Path, images: OwnImages, encoder: str, encode: Callable[[Sequence[str]], None], wanted: Any
) -> dict[str, str]:
    """The line of what is wanted. Raises ValueError for what the run cannot read from here on.

    `encode` makes captions ready, or raises ValueError where the model cannot any more.
    """
    if not (isinstance(wanted, Mapping) and {"manifest", "list"} <= {*wanted}):
        raise ValueError(f"a generation is a manifest and a list, which glyphlab mix RUN --grow writes, not {wanted!r}")
    require_encoder(wanted, encoder)
    parts = listed(run, wanted, images.settings)
    now = arranged(images.settings, parts.parts)
    last = listed(run, GENERATIONS.lines(run)[-1], images.settings)
    require_due([*missing([entry for entries in dropped(last, parts) for entry in entries])])
    if gone := [*missing(now.entries)]:
        raise ValueError(f"{shortened(gone)}; put them back, or list again with glyphlab mix {run} --grow")
    encode([text for text in now.captions if text not in {*images.captions}])
    return {"manifest": wanted["manifest"], "list": wanted["list"], "encoder": encoder}


def dropped(before: ImageList, now: ImageList) -> list[list[Entry]]:
    """The images of each part that another list leaves out."""
    stay = {entry.sha256 for entries in now.parts for entry in entries}
    return [[entry for entry in entries if entry.sha256 not in stay] for entries in before.parts]


def require_due(faults: Sequence[str]) -> None:
    """Raises ValueError where images that another list leaves out are gone already: updates until then show them."""
    if faults:
        raise ValueError(
            f"images that are still due are gone: {shortened(faults)}. The run shows them until the new list holds; "
            "put them back until then"
        )


def require_encoder(line: Mapping[str, Any], encoder: str) -> None:
    """Raises ValueError for a line of the log, or what is wanted, that is of another encoder than the run's."""
    if (other := line.get("encoder", encoder)) != encoder:
        raise ValueError(
            f"the images from update {line.get(FROM, 0)} on were encoded by {other[:16] or 'no encoder'}..., and this "
            f"model's encoder is {encoder[:16] or 'none'}...: latents of two encoders are no one training. Go on with "
            "the model that the run began with, or begin another run"
        )


def shortened(faults: Sequence[str]) -> str:
    """The first of what is wrong, and how many there are."""
    more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    return "; ".join(faults[:SHOWN]) + more
