"""A checkpoint's own autoencoder as something to train: diffusers' network, asked as the family's pipeline asks it.

    FOLDER/vae/                config.json and weights in float32, as diffusers' from_pretrained reads them
    FOLDER/autoencoder.json    the checkpoint that it is of, without which nobody knows how it is asked

Some of these networks clamp what they decode to [-1, 1], where a clamped pixel has no gradient: it would never come
back. Here the clamp passes the gradient on (Bengio et al. 2013, arXiv:1308.3432), and pixels are those of the pipeline.

Shapes: B3HW pixels in [-1, 1], Chw raw latents, BSC tokens.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from base_model.families.family import Family, class_of_diffusers
from base_model.families.known import family_of
from base_model.families.open_checkpoint import (
    naming,
    plain_weights,
    require_readable,
    require_sound,
    without_progress_bars,
)
from base_model.files.hub import read_json
from base_model.files.released import new_folder
from base_model.files.shards import write_shards
from base_model.qwen.model import require_multiple

FOLDER, ABOUT = "vae", "autoencoder.json"


class PassingClamps(TorchFunctionMode):
    """Inside, torch.clamp gives its values and the gradient of what it was given."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        return args[0] + (result - args[0]).detach() if func is torch.clamp else result


class FamilyVae(nn.Module):
    """pixels [-1, 1] <-> latents of one family. `checkpoint` is the folder or name on the hub that it is of."""

    def __init__(self, family: Family, vae: nn.Module, checkpoint: str) -> None:
        super().__init__()
        self.family, self.vae, self.checkpoint = family, vae.eval(), checkpoint
        for name, p in vae.named_parameters():
            p.requires_grad_(".time_conv." not in name)  # which only further frames of a video go through

    @property
    def multiple(self) -> int:
        """Height and width of an image are multiples of so many pixels."""
        return self.family.multiple

    @property
    def encoder_parts(self) -> list[nn.Module]:
        """What makes latents of pixels."""
        parts = (getattr(self.vae, name, None) for name in ("encoder", "quant_conv"))
        return [part for part in parts if part is not None]

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Return [C, h, w] of the raw latents of an image."""
        factor = self.family.factor
        return self.family.channels // self.family.patch**2, height // factor, width // factor

    def hollow(self) -> FamilyVae:
        """Build one of the same kind, whose weights have no values yet."""
        with torch.device("meta"):
            vae = class_of_diffusers(self.family.vae_config["_class_name"]).from_config(self.family.vae_config)
        return FamilyVae(self.family, vae, self.checkpoint)

    def forward(self, pixels_B3HW: Tensor, noise_BChw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruct from z = mean + std * noise; the posterior's mean and logarithm of the variance behind it.

        Raises ValueError for a size that is no multiple of `multiple`.
        """
        require_multiple((pixels_B3HW.shape[2], pixels_B3HW.shape[3]), self.multiple)
        mean, logvar = self.family.posterior(self.vae, pixels_B3HW)
        return self.decode(mean + torch.exp(0.5 * logvar) * noise_BChw), mean, logvar

    def encode(self, pixels_B3HW: Tensor) -> Tensor:
        """Return the posterior's mode, raw latents [B, C, h, w]."""
        return self.family.posterior(self.vae, pixels_B3HW)[0]

    def decode(self, latent_BChw: Tensor) -> Tensor:
        """Return the pixels of raw latents, by way of the tokens that the network knows."""
        rows, columns = (side // self.family.patch for side in latent_BChw.shape[2:])
        tokens = self.family.latent_tokens(self.vae, latent_BChw)
        with PassingClamps():
            return self.family.pixels(self.vae, tokens, (rows, columns))


def open_family_vae(name: str | Path, saved: Path | None = None) -> FamilyVae:
    """The autoencoder of a checkpoint on disk or on the hub, in float32; `saved` holds other weights of it.

    Raises ValueError as `family_of`, and where its files are missing, cut off, or hold numbers that are not finite.
    """
    family = family_of(name)
    folder = (saved or family.folder) / FOLDER
    require_vae(folder)
    with without_progress_bars(), naming(folder):
        vae = class_of_diffusers(family.vae_config["_class_name"]).from_pretrained(
            folder, torch_dtype=torch.float32, local_files_only=True
        )
    require_sound(vae, folder)
    return FamilyVae(family, vae, str(name))


def require_vae(folder: Path) -> None:
    """Raises ValueError for an autoencoder whose files are missing or cut off, before anything is loaded."""
    for path in plain_weights(folder):
        require_readable(path)


def save_family_vae(model: FamilyVae, folder: Path) -> None:
    """Write what `open_saved_vae` opens, and diffusers in `FOLDER`."""
    target = folder / FOLDER
    target.mkdir(parents=True)
    shutil.copy(model.family.folder / FOLDER / "config.json", target)
    write_shards(model.vae.state_dict(), target)
    # An absolute path, because the run may be read from another folder than it was started in.
    name = str(Path(model.checkpoint).resolve()) if Path(model.checkpoint).is_dir() else model.checkpoint
    (folder / ABOUT).write_text(json.dumps({"base": name}, indent=1) + "\n", encoding="utf-8")


def holds_family_vae(folder: Path) -> bool:
    """Whether the folder was written by `save_family_vae`."""
    return (folder / ABOUT).is_file()


def base_of_vae(folder: Path) -> str:
    """The checkpoint that a saved autoencoder is of."""
    return str(read_json(folder / ABOUT).get("base", ""))


def open_saved_vae(folder: Path) -> FamilyVae:
    """The autoencoder that `save_family_vae` wrote. Raises ValueError when it or its checkpoint is gone or damaged."""
    return open_family_vae(base_of_vae(folder), folder)


def export_with_vae(saved: Path, folder: Path) -> None:
    """Write the checkpoint of a saved autoencoder with it in place of its own, and everything else as it was.

    `folder` appears whole or not at all. Raises ValueError when there is something at `folder`.
    """
    origin = family_of(base_of_vae(saved)).folder
    with new_folder(folder) as unfinished:
        shutil.copytree(origin, unfinished, ignore=shutil.ignore_patterns(FOLDER, ".*"), dirs_exist_ok=True)
        shutil.copytree(saved / FOLDER, unfinished / FOLDER)
