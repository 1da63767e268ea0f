"""Evaluating and exchanging autoencoders: PSNR and SSIM on photographs and on small text, and the released layout.

The photographs are those that scikit-image's distribution holds, standing in for ImageNet; the text is
`base_model.data.rendered_pages` with words and characters that no training of ours shows. Every number is of float32
passes through the posterior's mode, images clamped and rounded to 8 bits as they would be saved.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from base_model import train_vae
from base_model.data.rendered_pages import LANGUAGES, PageStream
from base_model.families.known import is_known
from base_model.files.family_vae import FamilyVae, holds_family_vae, open_family_vae, open_saved_vae
from base_model.files.hub import INDEX
from base_model.files.released import image_slice, new_folder, vae_config
from base_model.files.shards import load_into, read_all, write_shards
from base_model.files.weights import NANO_VAE, load_vae
from base_model.qwen.vae import QwenImageVAE, released_weights
from base_model.train_vae import Autoencoder
from experiments.record.intervals import bootstrap_ci, in_brackets, paired_ci
from experiments.record.whole_files import write_json
from preference_data.image_files import read_image

PHOTOGRAPHS = ("astronaut.png", "camera.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
HEIGHTS = (8, 12, 16, 24)
"""em sizes of the text, in pixels"""
SEED = 71


@dataclass(frozen=True)
class Judged:
    """One autoencoder on one set; a number an image."""

    set: str
    psnr_P: np.ndarray
    """dB"""
    ssim_P: np.ndarray
    """of RGB, windows of 7 pixels (Wang et al. 2004), at most 1"""


def open_autoencoder(source: Path) -> Autoencoder:
    """From a file of ours, a run's folder, a released checkpoint's, or Qwen-Image's `vae` folder alone.

    Raises ValueError when it is none of these.
    """
    if source.is_file():
        return load_vae(source)
    if holds_family_vae(source / "model"):
        return open_saved_vae(source / "model")
    if (source / "model" / "vae.safetensors").exists():
        return load_vae(source / "model" / "vae.safetensors")
    if (source / INDEX).exists() and is_known(source):
        return open_family_vae(source)
    folder = released_folder(source)
    vae = QwenImageVAE(vae_config(folder))
    load_into(vae, folder, translate=image_slice)
    return vae.eval()


def released_folder(source: Path) -> Path:
    """The folder that holds an autoencoder in the released layout. Raises ValueError when there is none."""
    for folder in (source / "vae", source):
        if (folder / "config.json").exists():
            return folder
    raise ValueError(
        f"{source} holds no autoencoder: name a vae.safetensors, a run's folder, or a released checkpoint's folder"
    )


def export_autoencoder(source: Path, base: Path, folder: Path) -> Path:
    """Write `source` as a released `vae` folder whose video path is that of `base`; the folder.

    Raises ValueError when they are not of one architecture, or when there is something at `folder`.
    """
    vae, original = open_autoencoder(source), released_folder(base)
    if isinstance(vae, FamilyVae):
        raise ValueError(
            f"{source} is in its checkpoint's own layout already; with the rest of it: glyphlab export {source} FOLDER"
        )
    if (theirs := vae_config(original)) != vae.cfg:
        raise ValueError(f"{source} has the sizes {vae.cfg}, {original} {theirs}: give the base it was trained from")
    tensors = released_weights(vae.state_dict(), dict(read_all(original)))
    with new_folder(folder) as unfinished:
        shutil.copy(original / "config.json", unfinished)
        write_shards(tensors, unfinished)
    return folder


def photographs(side: int) -> np.ndarray:
    """uint8 [N, 3, side, side]: four squares of each photograph, at half its size when it is large enough."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise ValueError("the photographs are missing: pip install scikit-image")
    squares = []
    for name in PHOTOGRAPHS:
        image = Image.fromarray(read_image(Path(spec.origin).parent / "data" / name))
        if min(image.size) >= 4 * side:
            image = image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)
        pixels = np.asarray(image).transpose(2, 0, 1)
        height, width = pixels.shape[1] // 2, pixels.shape[2] // 2
        for top, left in (
            (height - side, width - side),
            (height - side, width),
            (height, width - side),
            (height, width),
        ):
            squares.append(pixels[:, top : top + side, left : left + side])
    return np.stack(squares)


def sets(pages: int, side: int) -> Iterator[tuple[str, np.ndarray]]:
    """(name, uint8 [N, 3, H, W]) of everything that is evaluated."""
    yield "photographs", photographs(side)
    for language in LANGUAGES:
        for em in HEIGHTS:
            stream = PageStream(SEED, heights=(em,), languages=(language,), heldout=True)
            yield f"{language} {em} px", stream.images(0, pages).numpy()


@torch.no_grad()
def reconstruct(vae: Autoencoder, images: np.ndarray, batch: int = 4) -> np.ndarray:
    """Encodes and decodes images; uint8 as they are."""
    made = []
    for i in range(0, len(images), batch):
        pixels = train_vae.to_signed(torch.from_numpy(images[i : i + batch])).to(next(vae.parameters()).device)
        decoded = vae.decode(vae.encode(pixels)).clamp(-1.0, 1.0)
        made.append(((decoded + 1.0) * 127.5).round().byte().cpu().numpy())
    return np.concatenate(made)


def evaluate_vae(vae: Autoencoder, pages: int, side: int) -> list[Judged]:
    """Evaluates an autoencoder on every set of images."""
    return [judged(name, images, reconstruct(vae, images)) for name, images in sets(pages, side)]


def judged(name: str, images: np.ndarray, decoded: np.ndarray) -> Judged:
    """Compares images, uint8 [N, 3, H, W], with what an autoencoder leaves of them."""
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    pairs = list(zip(images, decoded, strict=True))
    psnr = [peak_signal_noise_ratio(a, b) for a, b in pairs]
    ssim = [structural_similarity(a, b, channel_axis=0) for a, b in pairs]
    return Judged(name, np.array(psnr), np.array(ssim))


def evaluate(sources: Sequence[Path], pages: int, side: int, out: Path | None) -> list[str]:
    """Evaluate autoencoders on the same images: a table, and what the last has over the first, with intervals."""
    sources = sources or (NANO_VAE,)
    results = [evaluate_vae(open_autoencoder(source), pages, side) for source in sources]
    if out:
        write_json(out, [
            {"vae": str(source), "sets": {j.set: {"psnr": list(j.psnr_P), "ssim": list(j.ssim_P)} for j in one}}
            for source, one in zip(sources, results, strict=True)
        ])  # fmt: skip
    lines = [f"{chr(65 + i)}: {source}" for i, source in enumerate(sources)]
    heads = "".join(f" {f'PSNR {chr(65 + i)}':>9} {f'SSIM {chr(65 + i)}':>9}" for i in range(len(sources)))
    last = chr(64 + len(sources))
    more = f"  PSNR {last} - A (95 %)" if len(sources) > 1 else "  95 % of PSNR A"
    lines.append(f"{'set':14}{'pictures':>9}{heads}{more}")
    for row in zip(*results, strict=True):
        cells = "".join(f" {one.psnr_P.mean():9.2f} {one.ssim_P.mean():9.4f}" for one in row)
        if len(row) > 1:
            delta, low, high = paired_ci(row[0].psnr_P, row[-1].psnr_P, SEED)
            end = f"  {delta:+.2f} {in_brackets(low, high, '+.2f')}"
        else:
            low, high = bootstrap_ci(row[0].psnr_P, SEED)
            end = f"  {in_brackets(low, high, '.2f')}"
        lines.append(f"{row[0].set:14}{len(row[0].psnr_P):9}{cells}{end}")
    return lines
