"""What a run of a checkpoint of another family has on the card beside what learns: counted by running its own parts.

Text encoders encode as many prompts as a run does at once, the network answers and the autoencoder decodes, on
`card.Card`, without numbers; the most bytes that are alive are what a plan needs.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from base_model.families.encoded_prompts import AT_ONCE
from base_model.families.family import Family, class_of_diffusers
from base_model.families.open_checkpoint import plain_weights
from base_model.generate import at_once
from base_model.interface import Grid
from base_model.sample import Sampler
from experiments.experiment import Experiment
from experiments.planning.dry_run import Pass, storing
from experiments.planning.estimate import CHECKPOINT_SAMPLES, GB, Extras
from experiments.planning.family_plan import Forward, hollow
from experiments.planning.hollow_pipeline import make_pipeline
from experiments.planning.torch_patches import opened


@lru_cache(maxsize=16)
def sampling_bytes(family: Family, rank: int, micro: Pass, bf16: bool) -> int:
    """Most bytes that a forward pass without gradients holds beside the weights."""
    dtype = torch.bfloat16 if bf16 else torch.float32
    with opened(strict=False) as card, storing(dtype), torch.no_grad():
        network = hollow(family, rank, dtype)
        before = card.now
        with card.phase("sampling"):
            Forward(family, network, micro, dtype).velocity()
    return card.peaks["sampling"] - before


@lru_cache(maxsize=16)
def decoding_bytes(family: Family, grid: Grid, images: int) -> int:
    """Most bytes that decoding so many images at once holds beside the autoencoder, which takes them one by one."""
    with opened(strict=False) as card, torch.no_grad():
        with torch.device("meta"):
            vae = class_of_diffusers(family.vae_config["_class_name"]).from_config(family.vae_config).eval()
        if hasattr(vae, "enable_slicing"):
            vae.enable_slicing()
        with card.phase("decoding"):
            before = card.now
            x = torch.empty(images, grid[0] * grid[1], family.channels, device="meta")
            (family.pixels(vae, x, grid).float() * 0.5 + 0.5).clamp(0.0, 1.0)
    return card.peaks["decoding"] - before


@lru_cache(maxsize=16)
def encoding_bytes(family: Family, letters: int) -> int:
    """Most bytes that encoding prompts of so many letters holds beside the encoders."""
    with opened(strict=False) as card, torch.no_grad():
        pipe = make_pipeline(family, None, {"transformer": None, "vae": None})
        with card.phase("encoding"):
            before = card.now
            family.encode(pipe, ["x" * letters] * AT_ONCE)
    return card.peaks["encoding"] - before


def family_extras(family: Family, experiment: Experiment | None, micro: Pass, rank: int, bf16: bool) -> Extras:
    """What a run of a checkpoint has on the card beside what learns. `micro` says how large and how long."""
    sizes = sizes_of(family.folder)
    vae, encoding = 2 * sizes["vae"] / GB, (sizes["text_encoders"] + encoding_bytes(family, micro.text)) / GB
    if experiment is None:
        return Extras(vae, encoding)
    tokens = micro.grid[0] * micro.grid[1]
    shown = at_once(tokens, CHECKPOINT_SAMPLES)
    looked = max(
        decoding_bytes(family, micro.grid, shown),
        sampling_bytes(family, rank, replace(micro, samples=shown * answers(family, family.sampler)), bf16),
    )
    cfg: Any = experiment.algorithm
    source: Any = experiment.pairs or (cfg if cfg.learns_from == "rollouts" else None)
    if source is None:
        return Extras(vae, encoding, samples=looked / GB)
    online = cfg.learns_from == "rollouts"
    rows = (cfg.micro if online else source.group) * answers(family, source.sampler)
    width = family.network_config[family.text_width]
    prompts = rows * micro.text * width * (2.0 if bf16 else 4.0) / GB if online else 0.0
    sampling = sampling_bytes(family, rank, replace(micro, samples=rows), bf16) / GB
    decoding = decoding_bytes(family, micro.grid, at_once(tokens, source.group)) / GB
    return Extras(
        vae, encoding, sampling + prompts, decoding, looked / GB, before=experiment.pairs is not None,
        texts=prompts * cfg.prompts * cfg.group / cfg.micro if online else 0.0,
    )  # fmt: skip


def answers(family: Family, sampler: Sampler) -> int:
    """How often the network is asked for one velocity of a sample."""
    return 2 if sampler.guidance != 1.0 and family.guidance_embedded is None else 1


def sizes_of(folder: Path) -> dict[str, float]:
    """Bytes of the text encoders as they are stored, and of the autoencoder in 16 bits."""
    named = folder / "sizes.json"
    if named.is_file():
        return dict(json.loads(named.read_text(encoding="utf-8")))
    text = sum(file.stat().st_size for part in folder.glob("text_encoder*") for file in plain_weights(part))
    return {
        "text_encoders": float(text),
        "vae": float(sum(file.stat().st_size for file in plain_weights(folder / "vae"))),
    }
