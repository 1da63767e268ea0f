"""What a run on images of one's own needs beside the stream: opened and checked before any model, and recorded."""

from __future__ import annotations

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
from base_model.qwen.presets import IMAGE_SIZES, VAES
from experiments.experiment import Experiment
from experiments.images.image_sources import BUCKETS, ImageSources, OwnImages, open_images
from experiments.images.own_latents import OwnLatents
from experiments.record.record import RUN, read_run
from experiments.training.ranks import rank_of

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
    quiet = bool(rank_of(experiment))
    images = usable_images(experiment, parent, Listing() if not quiet else lambda done, total: None)
    if not quiet:
        print(f"own images: {images.summary()}", file=sys.stderr)
    require_same_images(folder, images)
    return images


def usable_images(
    experiment: Experiment, parent: Path | None, report: Callable[[int, int], None] = lambda done, total: None
) -> OwnImages:
    """The images and captions that the experiment's model can learn from. Raises as `open_images`."""
    assert isinstance(experiment.data, ImageSources)
    vae = experiment.algorithm.trains == "autoencoder"
    if vae and experiment.data.heldout:
        raise ValueError(
            f"data.heldout={experiment.data.heldout:g}: only models that sample are compared on held-out images; "
            "leave it out, and compare autoencoders with glyphlab evaluate-vae"
        )
    reads_bytes = not vae and not experiment.base and not (parent and is_derived(parent / "model"))
    return open_images(experiment.data, not vae, unreadable if reads_bytes else lambda text: "", report)


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
    if images is None:
        before = recorded(folder).get("own_images")
        return {"own_images": before} if before else {}
    counts = {"images": len(images), "captions": len(images.captions), "left_out": [str(bad) for bad in images.bad]}
    counts |= {"held_out": len(images.heldout)} if images.heldout else {}
    return {"own_images": {"fingerprint": images.fingerprint, **counts}}


def require_same_images(folder: Path, images: OwnImages | None) -> None:
    """Raises ValueError when the run in `folder` began with other images or captions than are there now."""
    run = recorded(folder)
    before = run.get("own_images")
    if images is None or not before or before["fingerprint"] == images.fingerprint or not run["updates"]:
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


def for_autoencoder(images: OwnImages, experiment: Experiment) -> OwnImages:
    """The images in the size of the experiment, or of its preset."""
    size = experiment.size if any(experiment.size) else IMAGE_SIZES[experiment.preset]
    one_size = replace(images, settings=replace(images.settings, aspect=False))
    return one_size.sized(size, VAES[experiment.preset].factor)
