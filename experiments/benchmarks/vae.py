"""Encoding and decoding images: our autoencoder beside diffusers', same weights, same images.

Run:     OMP_NUM_THREADS=1 python -m experiments.benchmarks.vae

`cache` is what filling a latent cache does: a set of images of several sizes, each to its standardised latent.
diffusers' AutoencoderKLQwenImage treats an image as a video of one frame and convolves it with zeros in time; ours
computes the image alone. Both have the released sizes (base 96, 16 latent channels, multipliers 1 2 4 4, two residual
blocks a level) and random weights, under which latents and images are compared too. The sides alternate within one
process, and who goes first alternates. Time is CPU time of the process, which waiting for other work on the machine
does not lengthen; with several threads, whose waiting counts as CPU time, it is the clock's, and on a GPU it is the
clock's until the card is done:

    python -m experiments.benchmarks.vae --device cuda --dtype bfloat16 --size 1024 --images 8

Prints a table, then one JSON line; `encode_ratio`, `decode_ratio` and `cache_ratio` are diffusers' median time
over ours.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from base_model.qwen.vae import QWEN_IMAGE_VAE, QwenImageVAE, image_weights
from experiments.benchmarks.clock import clock_of

SIDES = ("diffusers", "ours")


@dataclass(frozen=True)
class Benchmark:
    """Sizes of the comparison."""

    size: int = 256
    """height and width of the image in pixels"""
    batch: int = 1
    """images at once"""
    images: int = 4
    """of the cached set, in four shapes by turns"""
    repeats: int = 5
    """timed passes of each side, after one that is not"""
    threads: int = 1
    device: str = "cpu"
    """cpu or cuda"""
    dtype: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size < 16 or self.size % (2 * QWEN_IMAGE_VAE.factor):
            raise ValueError(f"size={self.size} must be a multiple of {2 * QWEN_IMAGE_VAE.factor} pixels")
        if min(self.batch, self.images, self.repeats, self.threads) < 1:
            raise ValueError(
                f"batch={self.batch}, pictures={self.images}, repeats={self.repeats}, threads={self.threads}: "
                "all at least 1"
            )


def models(cfg: Benchmark) -> tuple[nn.Module, QwenImageVAE]:
    """diffusers' and ours, with the same random weights, loud enough for the latent to be seen in the image."""
    from diffusers import AutoencoderKLQwenImage

    torch.manual_seed(cfg.seed)
    theirs = AutoencoderKLQwenImage()
    with torch.no_grad():
        for weight in theirs.parameters():
            if weight.ndim == 5:
                weight.normal_(std=1.0 / math.sqrt(weight[0, :, -1].numel()))
    with torch.device("meta"):
        ours = QwenImageVAE(QWEN_IMAGE_VAE)
    ours.to_empty(device="cpu").to(memory_format=torch.channels_last)
    ours.load_state_dict(image_weights(theirs.state_dict()), strict=True)
    shape = (1, QWEN_IMAGE_VAE.z_dim, 1, 1)
    ours.mean.copy_(torch.tensor(QWEN_IMAGE_VAE.latents_mean).view(shape))
    ours.std.copy_(torch.tensor(QWEN_IMAGE_VAE.latents_std).view(shape))
    kind = getattr(torch, cfg.dtype)
    return theirs.eval().to(cfg.device, kind), ours.eval().to(cfg.device, kind)


@torch.no_grad()
def race(
    sides: dict[str, Callable[[], Tensor]], repeats: int, clock: Callable[[], float]
) -> tuple[dict[str, list[float]], float]:
    """Seconds of every repeat of every side, and the largest difference of their answers."""
    answers = {name: run() for name, run in sides.items()}
    difference = float((answers["ours"] - answers["diffusers"]).abs().max())
    times: dict[str, list[float]] = {name: [] for name in SIDES}
    for repeat in range(repeats):
        for name in SIDES if repeat % 2 else SIDES[::-1]:
            start = clock()
            sides[name]()
            times[name].append(clock() - start)
    return times, difference


def measure(cfg: Benchmark) -> dict[str, Any]:
    """The comparison's numbers. Raises ValueError when there is no such device."""
    clock = clock_of(cfg.device, cfg.threads)
    torch.set_num_threads(cfg.threads)
    theirs, ours = models(cfg)

    def noise(images: int, height: int, width: int) -> Tensor:
        samples = torch.rand(images, 3, height, width) * 2.0 - 1.0
        return samples.to(cfg.device, getattr(torch, cfg.dtype))

    pixels = noise(cfg.batch, cfg.size, cfg.size)
    with torch.no_grad():
        latents = ours.encode(pixels)
        raw = latents * ours.std + ours.mean
    shapes = [
        (cfg.size, cfg.size),
        (cfg.size // 2, cfg.size),
        (cfg.size, cfg.size // 2),
        (cfg.size // 2, cfg.size // 2),
    ]
    images = [noise(1, *shapes[i % len(shapes)]) for i in range(cfg.images)]

    def their_latents(x: Tensor) -> Tensor:
        return (theirs.encode(x[:, :, None]).latent_dist.mode()[:, :, 0] - ours.mean) / ours.std

    ways: dict[str, dict[str, Callable[[], Tensor]]] = {
        "cache": {
            "ours": lambda: torch.cat([ours.encode(x).flatten() for x in images]),
            "diffusers": lambda: torch.cat([their_latents(x).flatten() for x in images]),
        },
        "encode": {
            "ours": lambda: ours.moments(pixels)[0],
            "diffusers": lambda: theirs.encode(pixels[:, :, None]).latent_dist.mode()[:, :, 0],
        },
        "decode": {
            "ours": lambda: ours.decode(latents),
            "diffusers": lambda: theirs.decode(raw[:, :, None]).sample[:, :, 0],
        },
    }
    numbers: dict[str, Any] = {}
    for way, sides in ways.items():
        times, difference = race(sides, cfg.repeats, clock)
        median = {name: statistics.median(values) for name, values in times.items()}
        numbers[f"{way}_ratio"] = round(median["diffusers"] / median["ours"], 3)
        numbers[f"{way}_ratio_of_minima"] = round(min(times["diffusers"]) / min(times["ours"]), 3)
        numbers |= {f"{way}_{name}_seconds": round(seconds, 3) for name, seconds in median.items()}
        numbers[f"{way}_difference"] = difference
    on_cpu = cfg.device == "cpu"
    return numbers | {
        "clock": "CPU" if on_cpu and cfg.threads == 1 else "wall",
        "card": "" if on_cpu else torch.cuda.get_device_name(),
        "torch": torch.__version__,
        **asdict(cfg),
    }


def main() -> None:
    import tyro

    numbers = measure(tyro.cli(Benchmark, description=__doc__))
    print(f"{numbers['clock']} seconds{'diffusers':>14}{'ours':>12}{'ratio':>12}{'difference':>14}")
    for way in ("cache", "encode", "decode"):
        theirs, ours, ratio, difference = (
            numbers[f"{way}_{name}"] for name in ("diffusers_seconds", "ours_seconds", "ratio", "difference")
        )
        print(f"{way:11}{theirs:14.3f}{ours:12.3f}{ratio:12.2f}{difference:14.1e}")
    print(json.dumps(numbers))


if __name__ == "__main__":
    main()
