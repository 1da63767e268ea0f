"""Samples images with the model of a run."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

import numpy as np
from torch import Tensor

from base_model.data.rendered_text import complete
from base_model.devices import best_device
from base_model.engine.bounds import require_at_least, require_finite
from base_model.files.family_vae import holds_family_vae
from base_model.files.weights import holds_model, load_model
from base_model.generate import generate_chunks
from base_model.interface import without_prompt
from base_model.policy_model import PolicyModel
from base_model.sample import Sampler
from experiments.evaluation.evaluate import fixed_noise
from experiments.record.leftovers import not_a_run
from experiments.record.record import RUN, write_png
from experiments.record.whole_files import require_folder

STAGES = ("nft", "grpo", "dpo", "control", "sft", "pretrain")
"""Of a run with several stages, the model that is meant when none is named: the first of these that is finished."""

ALONE = (
    "trained the autoencoder of a released checkpoint and no network: `glyphlab export {} FOLDER` writes the "
    "checkpoint with it, to sample from and to start from by --base FOLDER"
)
"""Why a run of an autoencoder alone has no network to sample from or to start from."""

CAPTION = re.compile(r"\bthe word [A-Z]+\b")
"""What every caption that the small presets are trained on says."""
UNLIKE = "the prompt is unlike the captions of training, which name a word in capitals: the word GLYPH in red on white"


def model_folder(run: Path, stage: str = "") -> Path:
    """The folder with the weights of a run or of one of its stages. Raises ValueError saying where it looked."""
    candidates = [run / stage] if stage else [run, *(run / name for name in STAGES)]
    for candidate in candidates:
        if holds_model(candidate / "model"):
            return candidate / "model"
        if holds_family_vae(candidate / "model"):
            raise ValueError(f"{candidate} {ALONE.format(quote(str(candidate)))}")
    looked = ", ".join(str(candidate / "model") for candidate in candidates)
    if not (run / RUN).exists():
        raise ValueError(not_a_run(run))
    if stage and not (run / stage / RUN).exists():
        stages = ", ".join(name for name in STAGES if (run / name / RUN).exists()) or "none"
        raise ValueError(f"{run} has no stage {stage!r}; it has {stages}")
    raise ValueError(f"no finished model in {looked}; finish the run with `glyphlab resume {quote(str(run))}`")


def sample_prompt(
    model: PolicyModel, prompt: str, count: int, seed: int, sampler: Sampler, sources: Sequence[Tensor] = ()
) -> np.ndarray:
    """uint8 [count, 3, H, W]: `count` images of a prompt, or edits of images, from different noise."""
    shown = [sources] if sources else []
    one = model.encode_text([prompt], shown)
    cond, uncond = one.repeat(count), without_prompt(model, one, sampler.guidance, shown).repeat(count)
    noise = fixed_noise(model, count, seed)
    chunks = generate_chunks(model, lambda rows: (cond.take(rows), uncond.take(rows)), noise, sampler)
    return np.concatenate([images for _, _, images in chunks])


def requested_sampler(usual: Sampler, steps: int | None, guidance: float | None) -> Sampler:
    """The usual sampler with what was asked for. Raises ValueError for what makes no image."""
    sampler = Sampler(usual.steps if steps is None else steps, usual.guidance if guidance is None else guidance)
    require_at_least(sampler, 1, "steps")
    require_finite(sampler)
    return sampler


def sample_to_file(
    run: Path, prompt: str, seed: int, out: Path, guidance: float | None, steps: int | None, count: int, stage: str = ""
) -> Path:
    """Write the images as one PNG, below one another, and return its path.

    Guidance and steps of None are what suits the model. A short prompt for a small preset is completed, and the
    caption told on stderr.
    """
    if count < 1:
        raise ValueError(f"count={count}: ask for at least one image")
    if not prompt.strip():
        raise ValueError("the prompt is empty; say what the image should show, such as 'the word GLYPH in red'")
    require_png(out)
    model = load_model(model_folder(run, stage), best_device())
    usual = model.sampler
    sampler = requested_sampler(usual, steps, guidance)
    caption = prompt if model.keeps_base else complete(prompt)
    images = sample_prompt(model, caption, count, seed, sampler)  # which may refuse the prompt: nothing is told before
    if caption != prompt:
        print(f"drawn as: {caption}", file=sys.stderr)
    elif not model.keeps_base and not CAPTION.search(prompt):
        print(f"drawn as: {prompt}\n{UNLIKE}", file=sys.stderr)
    return write_images(images, out)


def require_png(out: Path) -> None:
    """Raises ValueError for a file that cannot be written, or whose name promises another format than PNG."""
    if out.is_dir():
        raise ValueError(f"{out} is a folder; name the image's file, such as {out / 'sample.png'}")
    require_folder(out.parent)
    if out.suffix.lower() not in ("", ".png"):
        raise ValueError(f"{out} would hold a PNG under the name of another format; name a .png file")


def write_images(images_B3HW: np.ndarray, out: Path) -> Path:
    """One PNG, the images below one another."""
    out.parent.mkdir(parents=True, exist_ok=True)
    write_png(out, np.concatenate(list(images_B3HW), axis=1))
    return out
