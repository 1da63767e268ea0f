"""Released checkpoints at the command line: sampling and editing with them, and giving back what was trained."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from base_model.devices import best_device
from base_model.families.diffusers_model import DiffusersModel
from base_model.families.family import Family
from base_model.families.lora_names import translated
from base_model.families.open_checkpoint import export_checkpoint
from base_model.files.checkpoint import save_atomically
from base_model.files.delta import ADAPTER, base_of, is_derived, load_derived, save_derived
from base_model.files.family_vae import export_with_vae, holds_family_vae
from base_model.files.lora_files import as_they_are
from base_model.files.open_base import open_base, read_any
from base_model.files.released import Base, Released, export, load_base, new_folder
from base_model.frozen_linear import AS_IT_IS
from base_model.lora import check_adapter, linear_layers, put_adapter, read_adapter
from base_model.qwen.mmdit import MMDiT
from base_model.sample import Sampler
from experiments.evaluation.found_model import find_model
from experiments.evaluation.sample_run import model_folder, requested_sampler, require_png, sample_prompt, write_images
from experiments.record.leftovers import removed_on_error
from experiments.record.record import RUN, RunRecord
from preference_data.image_files import read_image
from preference_data.spelling import not_there

LORA_FILE = "pytorch_lora_weights.safetensors"
"""the name that diffusers looks for in a folder"""


def open_for_edits(name: str, instruction: str, images: int, device: str) -> Released:
    """The editing model of a checkpoint (folder or name on the hub), or of a run that began from one.

    Raises ValueError, before any weight is read, where it does not edit so many images.
    """
    derived = derived_folder(Path(name)) if (Path(name) / RUN).exists() else None
    base = base_of(derived) if derived else read_any(name)
    if not isinstance(base, Base):
        raise ValueError(f"{name} is for {base.pipeline}, and `edit` takes Qwen-Image-Edit checkpoints")
    base.task.prompt(instruction, images)
    model = load_derived(derived, device) if derived else load_base(base, device=device)
    assert isinstance(model, Released)
    return model


def derived_folder(run: Path) -> Path:
    """The model of a run that began from a released checkpoint. Raises ValueError when it is of another kind."""
    folder = model_folder(run)
    if not is_derived(folder):
        raise ValueError(
            f"{run} was not trained from a released checkpoint, so there is no such format for it; train with "
            "--base DIR_OR_HUB_NAME"
        )
    return folder


def sample_released(
    name: str, prompt: str, seed: int, out: Path, guidance: float | None, steps: int | None, count: int,
    size: tuple[int, int] | None, device: str,
) -> Path:  # fmt: skip
    """Write images of a prompt as one PNG, below one another, and return its path.

    Guidance, steps and size of None are what the checkpoint's authors sample with.
    """
    if count < 1:
        raise ValueError(f"count={count}: ask for at least one image")
    require_png(out)
    if (Path(name) / RUN).exists():
        derived_folder(Path(name))
    checkpoint = find_model(name, "", size, prompt)  # complains before 20 billion weights are read
    usual = checkpoint.sampler
    sampler = requested_sampler(usual, steps, guidance)
    return write_images(sample_prompt(checkpoint.load(device, size), prompt, count, seed, sampler), out)


def edit_to_file(
    name: str, images: Sequence[Path], instruction: str, seed: int, out: Path, sampler: Sampler, side: int, device: str
) -> Path:
    """Write the edit of one to three images, in the shape of the last and of `side` squared pixels; its path."""
    require_png(out)
    sources = [read_condition_image(path) for path in images]
    if side < 32:
        raise ValueError(f"side={side}: an edit needs at least 32 pixels on each side")
    model = open_for_edits(name, instruction, len(sources), best_device(device)).for_area(side * side)
    made = model.sized(model.base.task.made_size(sources))
    return write_images(sample_prompt(made, instruction, 1, seed, sampler, sources), out)


def read_condition_image(path: Path) -> Tensor:
    """float32 [3, H, W] in [0, 1], as `read_image` shows it. Raises ValueError when it cannot be read."""
    try:
        pixels = read_image(path)
    except FileNotFoundError:
        raise ValueError(not_there("image", path)) from None
    except ValueError as error:
        raise ValueError(f"cannot read the image {path}: {error}") from error
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255.0


def export_run(run: Path, folder: Path) -> Path:
    """Write a run's model as a released folder; the folder. An adapter is merged into the checkpoint's own weights.

    Of a run that trained the checkpoint's autoencoder that one takes the place of the checkpoint's own.
    """
    if holds_family_vae(run / "model"):
        export_with_vae(run / "model", folder)
        return folder
    model = load_derived(derived_folder(run), storage=AS_IT_IS)
    if isinstance(model, DiffusersModel):
        export_checkpoint(model, folder)
    else:
        assert isinstance(model, Released)
        export(model.network, model.base, folder)
    return folder


def export_lora(run: Path, folder: Path) -> Path:
    """Write the adapter that a run learned as a LoRA file; the file. Raises ValueError when it learned all weights."""
    path = derived_folder(run)
    if not (path / ADAPTER).exists():
        raise ValueError(f"{run} trained all weights and has no adapter; export it whole, without --only-lora")
    with new_folder(folder) as new:
        (new / LORA_FILE).write_bytes((path / ADAPTER).read_bytes())
    return folder / LORA_FILE


def hollow_network(base: Base | Family) -> nn.Module:
    """A checkpoint's network without values."""
    if isinstance(base, Base):
        with torch.device("meta"):
            return MMDiT(base.transformer)
    return base.hollow_network()


def import_lora(file: Path, name: str, run: Path) -> Path:
    """Make a run of a checkpoint with somebody's LoRA, to sample, edit with, or train on; its folder."""
    base = read_any(name)
    hollow = hollow_network(base)
    translate = partial(translated, base, linear_layers(hollow)) if isinstance(base, Family) else as_they_are
    adapter = read_adapter(file, translate)
    check_adapter(hollow, adapter[1])  # complains before 20 billion weights are read
    model = open_base(name)
    put_adapter(model.network, *adapter)
    with removed_on_error(run):
        record = RunRecord.open(run, {"imported": str(file), "base": name})
        if record.finished:
            raise ValueError(f"{run} holds this import already")
        with record.running():
            save_atomically(run / "model", lambda unfinished: save_derived(model, unfinished))
    return run
