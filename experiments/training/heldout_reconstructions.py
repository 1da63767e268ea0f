"""What a trained autoencoder leaves of images that it did not learn from, beside what it began from.

PSNR and SSIM of 8-bit images in the run's size, encoded to the posterior's mode and decoded; differences are paired by
image, with Student's interval.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from base_model.devices import best_device
from base_model.train_vae import Autoencoder
from experiments.evaluation.autoencoders import Judged, judged, open_autoencoder, reconstruct
from experiments.experiment import Experiment
from experiments.images.image_sources import OwnImages
from experiments.record.heldout import (
    AFTER,
    BEFORE,
    IMAGE,
    RECONSTRUCTIONS,
    SHOWN,
    heldout_folder,
    read_reconstructions,
)
from experiments.record.results import Interval
from experiments.record.whole_files import write_json, write_png
from experiments.training.heldout_images import MOST, summary
from experiments.training.own_images import for_autoencoder, require_same_images, usable_images
from experiments.training.start_from import starting_vae


def compare_reconstructions(folder: Path, experiment: Experiment, parent: str) -> dict[str, dict[str, Interval]] | None:
    """Compare the finished autoencoder in `folder` with what it began from; None where no images are held out.

    A comparison that is there is read. Raises ValueError where images are gone or others than the run's.
    """
    if not getattr(experiment.data, "heldout", 0.0):
        return None
    if known := read_reconstructions(folder):
        return known
    origin = (folder / parent) if parent else None
    images = usable_images(experiment, origin)
    require_same_images(folder, images)
    target = heldout_folder(folder)
    target.mkdir(parents=True, exist_ok=True)
    print(f"comparing on {len(images.heldout[:MOST])} held-out images; --no-evaluate leaves it out", file=sys.stderr)
    results = {AFTER: measured(open_autoencoder(folder), images, experiment, target, AFTER)}
    if before := starting_vae(experiment, origin):
        results[BEFORE] = measured(before, images, experiment, target, BEFORE)
    rows = [
        {"image": entry.name}
        | {f"psnr_{name}": float(one.psnr_P[i]) for name, one in results.items()}
        | {f"ssim_{name}": float(one.ssim_P[i]) for name, one in results.items()}
        for i, entry in enumerate(images.heldout[:MOST])
    ]
    write_json(target / RECONSTRUCTIONS, {
        "rows": rows, "psnr": summary({name: one.psnr_P for name, one in results.items()}),
        "ssim": summary({name: one.ssim_P for name, one in results.items()}),
    })  # fmt: skip
    return read_reconstructions(folder)


def measured(vae: Autoencoder, images: OwnImages, experiment: Experiment, target: Path, name: str) -> Judged:
    """What an autoencoder leaves of the held-out images; the first of them are put into `target`."""
    sized = for_autoencoder(images, experiment, vae.multiple)
    pixels = np.stack([sized.pixels(entry) for entry in sized.heldout[:MOST]])
    decoded = reconstruct(vae.eval().to(best_device()), pixels)
    for i in range(min(len(pixels), SHOWN)):
        write_png(target / IMAGE.format(i, "image"), pixels[i])
        write_png(target / IMAGE.format(i, name), decoded[i])
    return judged("held out", pixels, decoded)
