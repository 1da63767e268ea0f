"""What a run on images of one's own needs beside the stream: opened and checked before any model, and recorded."""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from base_model.files.delta import is_derived
from base_model.policy_model import PolicyModel
from base_model.qwen.byte_encoder import token_vectors
from base_model.qwen.presets import IMAGE_SIZES
from experiments.experiment import Experiment
from experiments.images.canvases import BUCKETS
from experiments.images.image_lists import ImageList
from experiments.images.image_sources import ImageSources, OwnImages, arranged, open_images
from experiments.images.own_latents import OwnLatents
from experiments.producers.generations import first_images, listed, require_encoder, require_there, seal
from experiments.producers.run_logs import FROM, GENERATIONS
from experiments.record.record import RUN, read_run
from experiments.training.ranks import barrier, rank_of
from preference_data.line_files import read_json

EVERY = 1.0
"""seconds between lines that say how far listing is"""
MOST_TEXTS = 20_000
"""captions that are encoded before training begins; of more, each is encoded when it is needed"""


def opened(experiment: Experiment, folder: Path, parent: Path | None) -> OwnImages | None:
    """The experiment's own images, listed and checked; None where it has none, or the run in `folder` is finished.

    Raises as `open_images`, and ValueError when they are others than those that the run began with.
    """
    if experiment.data is None and experiment.algorithm.learns_from == "images":
        raise ValueError(f"{experiment.name} learns from images and has none of its own: name yours with --data.folder")
    if not isinstance(experiment.data, ImageSources) or recorded(folder).get("status") == "finished":
        return None
    quiet, lines = bool(rank_of(experiment)), GENERATIONS.lines(folder)
    has_begun = bool(recorded(folder).get("updates"))
    images = (
        first_images(folder, experiment.data) if has_begun or len(lines) > 1 or not (folder / RUN).exists() else None
    )
    if images:
        require_there(folder, experiment.data, first_checkpoint(folder))
    else:
        images = usable_images(experiment, parent, Listing() if not quiet else lambda done, total: None)
        if has_begun:
            require_same_images(folder, images)
    if not quiet:
        print(f"own images: {images.summary()}", file=sys.stderr)
    return images


def first_checkpoint(folder: Path) -> int:
    """The update that the oldest checkpoint goes on with; 0 without any."""
    return min(
        (int(each.name.removeprefix("update_")) for each in (folder / "checkpoints").glob("update_*")), default=0
    )


def run_images(experiment: Experiment, folder: Path, parent: Path | None, heldout: bool = False) -> OwnImages:
    """What the run in `folder` began with.

    Raises ValueError where it has no list and its images are others now, or where one of the `heldout` ones is gone.
    """
    assert isinstance(experiment.data, ImageSources)
    images = first_images(folder, experiment.data)
    if images is None:
        images = usable_images(experiment, parent)
        require_same_images(folder, images)
    elif heldout:
        among = {entry.sha256 for entry in images.heldout}
        require_there(folder, experiment.data, 0, lambda entry: entry.sha256 in among)
    return images


def as_logged(images: OwnImages, experiment: Experiment, folder: Path, encoder: str) -> OwnImages:
    """The images that a run begins with, the same on all ranks: of the log, which rank 0 begins.

    Raises ValueError where the log is of another encoder than the model's.
    """
    lines = GENERATIONS.lines(folder)
    begins = len(lines) <= 1 and not recorded(folder).get("updates")
    if not rank_of(experiment) and (begins or not lines):
        if lines:  # of a run that was stopped before it learned anything
            (folder / GENERATIONS.name).unlink()
        listed_now = ImageList([*map(list, images.listed)], [[""]] * len(images.listed))
        GENERATIONS.note(folder, {FROM: 0, **seal(folder, listed_now, images.settings.folder), "encoder": encoder})
    barrier(experiment)
    for line in GENERATIONS.lines(folder):
        require_encoder(line, encoder)
    first = first_images(folder, images.settings, images.bad)
    assert first is not None
    return first.sized(images.size, images.side, images.aspects)


def captions_ahead(images: OwnImages, folder: Path) -> list[str] | None:
    """Every caption of a run by its logs, also of what is only wanted; None where they are not encoded ahead."""
    lines = [*GENERATIONS.lines(folder)]
    with contextlib.suppress(FileNotFoundError, ValueError, TypeError, KeyError):
        listed(folder, wanted := read_json(folder / GENERATIONS.wanted), images.settings)
        lines.append(wanted)
    texts = dict.fromkeys(images.captions)
    for line in lines:
        texts |= dict.fromkeys(arranged(images.settings, listed(folder, line, images.settings).parts).captions)
    at_once = len(images.captions) <= MOST_TEXTS and not images.edits  # an instruction is encoded with its images
    return [*texts] if at_once else None


def usable_images(
    experiment: Experiment, parent: Path | None, report: Callable[[int, int], None] = lambda done, total: None,
    instead: ImageSources | None = None,
) -> OwnImages:  # fmt: skip
    """The images and captions that the experiment's model can learn from, of its own sources or of others `instead`.

    Raises as `open_images`.
    """
    assert isinstance(experiment.data, ImageSources)
    vae = experiment.algorithm.trains == "autoencoder"
    reads_bytes = not vae and not experiment.base and not (parent and is_derived(parent / "model"))
    return open_images(instead or experiment.data, not vae, unreadable if reads_bytes else lambda text: "", report)


def recorded(folder: Path) -> Mapping[str, Any]:
    """Status, settings and number of updates of the run in `folder`; nothing where there is none."""
    if not (folder / RUN).exists():
        return {}
    run = read_run(folder)
    return {"status": run.status, "own_images": run.config.get("own_images"), "updates": len(run.metrics)}


class Listing:
    """A line on stderr every so often, for folders that take long."""

    def __init__(self) -> None:
        self._next = time.monotonic() + EVERY

    def __call__(self, done: int, total: int) -> None:
        if (now := time.monotonic()) >= self._next:
            self._next = now + EVERY
            print(f"listing own images: {done:,} of {total:,}", file=sys.stderr)


@functools.lru_cache(maxsize=100_000)
def unreadable(text: str) -> str:
    """Why a preset with the byte-level encoder cannot read a caption; "" when it can."""
    try:
        token_vectors(text)
    except ValueError as error:
        return str(error)
    return ""


def facts(images: OwnImages | None, folder: Path) -> Mapping[str, Any]:
    """What run.json says of own images, or said of them in a finished run; nothing where there are none."""
    before = recorded(folder).get("own_images")
    if images is None or (before and before["fingerprint"] == images.fingerprint):
        return {"own_images": before} if before else {}
    counts = {"images": len(images), "captions": len(images.captions), "left_out": [str(bad) for bad in images.bad]}
    counts |= {"held_out": len(images.heldout)} if images.heldout else {}
    return {"own_images": {"fingerprint": images.fingerprint, **counts}}


def require_same_images(folder: Path, images: OwnImages) -> None:
    """Raises ValueError when the run in `folder` began with other images or captions than are there now."""
    run = recorded(folder)
    before = run.get("own_images")
    if not before or before["fingerprint"] == images.fingerprint:
        return
    raise ValueError(
        f"{', '.join(images.settings.folder)} changed since the run in {folder} began: it had {before['images']} "
        f"images with {before['captions']} captions, and now {len(images)} with {len(images.captions)}, or others. "
        f"Put them back to go on exactly, or train on from a finished model in another folder with --parent"
    )


def latents(images: OwnImages, model: PolicyModel) -> OwnLatents:
    """The images as the model's latents, in the size that it is set to."""
    return OwnLatents(sized_for(images, model), model.encode_pixels, model.side)


def sized_for(images: OwnImages, model: PolicyModel) -> OwnImages:
    """The images on the canvases that the model takes, in the size that it is set to."""
    return images.sized(model.picture, model.multiple, BUCKETS if model.one_size_a_call else ())


def for_autoencoder(images: OwnImages, experiment: Experiment, multiple: int) -> OwnImages:
    """The images in the size of the experiment, or of its preset. Raises ValueError when it is none of `multiple`."""
    size = experiment.size if any(experiment.size) else IMAGE_SIZES[experiment.preset]
    one_size = replace(images, settings=replace(images.settings, aspect=False))
    return one_size.sized(size, multiple)
