"""Images that a run did not learn from: how likely the finished model finds them, beside what it began from.

    (H1)  E_i = mean over sigma of || v_theta(x_sigma, sigma, text_i) - (eps_i - x0_i) ||^2    pretraining's loss (P3)

The loss bounds the negative log-likelihood up to weights of the noise levels (Kingma & Gao 2023, arXiv:2303.00848), so
less of it means likelier. Noise levels are fixed, noise follows from the image's index, and both models see the same of
both: differences are paired by image, with Student's interval.

Samples of the first captions, from the same noise before and after, stand beside the images in the run's report, and
beside what the autoencoder leaves of these, which no sample can be better than.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from base_model.flow import add_noise
from base_model.generate import generate
from base_model.policy_model import PolicyModel
from base_model.seeding import generator
from experiments.evaluation.evaluate import fixed_noise
from experiments.evaluation.found_model import find_model
from experiments.experiment import Experiment
from experiments.images.image_sources import OwnImages
from experiments.record.heldout import (
    AFTER,
    BEFORE,
    DECODED,
    ERRORS,
    IMAGE,
    SHOWN,
    HeldoutImages,
    heldout_folder,
    read_heldout,
)
from experiments.record.whole_files import write_json, write_png
from experiments.training.own_images import run_images, sized_for
from preference_data.statistics.score_intervals import student

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""sigma of (H1)"""
MOST = 512
"""images that are compared; of more, the first ones"""
SEED = 71
"""of the noise"""


def compare_heldout(folder: Path, experiment: Experiment, parent: str) -> HeldoutImages | None:
    """Compare the finished run in `folder` with what it began from on its held-out images; None where it has none.

    A comparison that is there is read. Raises ValueError where images are gone or others than the run's.
    """
    if not getattr(experiment.data, "heldout", 0.0):
        return None
    if (known := read_heldout(folder)) is not None:
        return known
    images = run_images(experiment, folder, (folder / parent) if parent else None, heldout=True)
    compared = images.heldout[:MOST]
    print(f"comparing on {len(compared)} held-out images; --no-evaluate leaves it out", file=sys.stderr)
    target = heldout_folder(folder)
    target.mkdir(parents=True, exist_ok=True)
    model = find_model(str(folder)).load()
    size, errors = model.picture, {AFTER: measured(model, images, target, AFTER)}
    del model  # before the other one is loaded
    if before := experiment.base or (str(folder / parent) if parent else ""):
        errors[BEFORE] = measured(find_model(before).load(size=size), images, target, BEFORE)
    rows = [
        {"image": entry.name, "caption": images.caption(i, entry), **{name: float(e[i]) for name, e in errors.items()}}
        for i, entry in enumerate(compared)
    ]
    write_json(target / ERRORS, {"levels": LEVELS, "seed": SEED, "rows": rows, **summary(errors)})
    return read_heldout(folder)


def summary(errors: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Means and the paired difference with their intervals."""
    values = dict(errors)
    if BEFORE in errors:
        values["difference"] = errors[AFTER] - errors[BEFORE]
    named = {name: (float(each.mean()), *student(each, 0.95)) for name, each in values.items()}
    return {name: {"value": value, "low": low, "high": high} for name, (value, low, high) in named.items()}


def measured(model: PolicyModel, images: OwnImages, target: Path, name: str) -> np.ndarray:
    """[N] errors of the held-out images under a model; the first of them and its samples are put into `target`."""
    sized = sized_for(images, model)
    errors = np.array([flow_error(model, sized, i) for i in range(min(len(images.heldout), MOST))])
    for i in range(min(len(images.heldout), SHOWN)):
        entry = sized.heldout[i]
        write_png(target / IMAGE.format(i, "image"), sized.pixels(entry))
        if name == AFTER:
            write_png(target / IMAGE.format(i, DECODED), decoded_again(model, sized, i))
        noise = fixed_noise(model, 1, SEED + i)
        shown = [[torch.from_numpy(each).float() / 255.0 for each in sized.pixels_of_sources(entry)]]
        sources = shown if entry.sources else ()
        write_png(
            target / IMAGE.format(i, name), generate(model, [sized.caption(i, entry)], noise, model.sampler, sources)[0]
        )
    return errors


@torch.no_grad()
def decoded_again(model: PolicyModel, images: OwnImages, index: int) -> np.ndarray:
    """[3, H, W] in [0, 1]: the middle of a held-out image in the run's size, encoded and decoded."""
    cut = replace(images, settings=replace(images.settings, aspect=False), size=model.picture)
    pixels = torch.from_numpy(cut.pixels(images.heldout[index])).float() / 255.0
    return model.decode(model.encode_pixels(pixels[None]))[0].float().clamp(0.0, 1.0).cpu().numpy()


@torch.no_grad()
def flow_error(model: PolicyModel, images: OwnImages, index: int) -> float:
    """(H1) of one held-out image."""
    entry = images.heldout[index]
    pixels = torch.from_numpy(images.pixels(entry)).float() / 255.0
    x0 = model.encode_pixels(pixels[None]).float().to(model.device)
    sources = [[torch.from_numpy(each).float() / 255.0 for each in images.pixels_of_sources(entry)]]
    cond = model.encode_text([images.caption(index, entry)], sources if entry.sources else ())
    if images.settings.aspect:
        cond = replace(cond, grids=((pixels.shape[1] // model.side, pixels.shape[2] // model.side),))
    cond, sigma = cond.repeat(len(LEVELS)), torch.tensor(LEVELS, device=model.device)
    eps = torch.randn(x0.shape, generator=generator(SEED, index, 0, "held out")).to(model.device)
    x0, eps = x0.expand(len(LEVELS), -1, -1), eps.expand(len(LEVELS), -1, -1)
    velocity = model.velocity(add_noise(x0, eps, sigma), sigma, cond).float()
    return float((velocity - (eps - x0)).square().mean())
