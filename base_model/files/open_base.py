"""Opens any released checkpoint: of Qwen-Image in our own code, of other families through diffusers."""

from __future__ import annotations

from pathlib import Path

import torch

from base_model.families.family import Family
from base_model.families.known import ADD_ONE, FAMILIES, family_of, pipeline_of
from base_model.families.open_checkpoint import open_checkpoint
from base_model.files.released import DEFAULT_SIZE, Base, Released, load_base, read_base
from base_model.frozen_linear import AS_IT_IS, BaseStorage
from base_model.policy_model import PolicyModel
from base_model.qwen.prompt_templates import TASKS
from base_model.sample import Sampler


def read_any(name: str | Path) -> Base | Family:
    """Settings of a checkpoint on disk or on the hub, before any weight is read.

    Raises ValueError for a pipeline that is not known, naming those that are, and for what cannot be read.
    """
    pipeline = pipeline_of(name)
    if pipeline in FAMILIES:
        return family_of(name)
    if pipeline not in TASKS:
        raise ValueError(
            f"{name} is for {pipeline or 'no pipeline that its model_index.json names'}; Glyphlab reads "
            f"{', '.join([*TASKS, *FAMILIES])}. {ADD_ONE}"
        )
    return read_base(name)


def open_base(
    name: str | Path, image: tuple[int, int] | None = None, device: str = "cpu", dtype: torch.dtype | None = None,
    cache: Path | None = None, storage: BaseStorage = AS_IT_IS,
) -> PolicyModel:  # fmt: skip
    """The model of a checkpoint on disk or on the hub, its network in `dtype` (None: as stored).

    `image` is the (height, width) of what is made (None: what the checkpoint is for), `cache` a folder of encoded
    prompts, `storage` how the network's layers are stored where they stay as they are. Raises ValueError as `read_any`.
    """
    base = read_any(name)
    if isinstance(base, Base):
        return load_base(base, image or DEFAULT_SIZE, device, dtype, cache, storage)
    return open_checkpoint(name, image, device, dtype, cache, storage=storage)


def usual_sampler(base: Base | Family) -> Sampler:
    """As the checkpoint's authors sample."""
    return Released.sampler if isinstance(base, Base) else base.sampler


def require_prompt(base: Base | Family, prompt: str, images: int = 0) -> None:
    """Raises ValueError for a prompt about so many images that the checkpoint cannot sample from."""
    if isinstance(base, Base):
        base.task.prompt(prompt, images)
    elif images > base.most_images:
        most = f"at most {base.most_images}" if base.most_images else "none: it samples from text alone"
        raise ValueError(f"{images} source images given, but a {base.pipeline} checkpoint takes {most}")
