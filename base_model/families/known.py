"""Which families there are, by the pipeline that model_index.json names. A new one is a file here and a line below."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

from base_model.families.aura_flow import AuraFlow
from base_model.families.family import Family
from base_model.families.flux1 import Flux1, Flux1Kontext
from base_model.families.flux2 import Flux2, Flux2Klein
from base_model.families.lumina2 import Lumina2
from base_model.families.qwen_image_21 import QwenImage21
from base_model.families.sana import Sana
from base_model.families.sd3 import StableDiffusion3
from base_model.families.wan import Wan
from base_model.families.z_image import ZImage
from base_model.files.hub import INDEX, read_json, released_folder

KNOWN: tuple[type[Family], ...] = (
    StableDiffusion3, Flux1, Flux1Kontext, Flux2, Flux2Klein, ZImage, Sana, Lumina2, Wan, QwenImage21, AuraFlow,
)  # fmt: skip
FAMILIES = {kind.pipeline: kind for kind in KNOWN}
"""a family is made from a checkpoint's folder: `FAMILIES[pipeline](folder)`"""
ADD_ONE = "Another one is a file of 35 to 90 lines: docs/how-to/your-own-model.md"
DISTILLED = re.compile(r"turbo|schnell|lightning|hyper|lcm|sprint|distill", re.IGNORECASE)
"""what names of checkpoints that were distilled to a few steps have in common"""


def pipeline_of(name: str | Path) -> str:
    """Return the pipeline of a checkpoint, "" when it names none. Raises ValueError as `released_folder`."""
    return str(read_json(released_folder(name) / INDEX).get("_class_name", ""))


def is_known(name: str | Path) -> bool:
    """Whether a checkpoint is of one of the families here. Raises ValueError when it cannot be reached."""
    return pipeline_of(name) in FAMILIES


def family_of(name: str | Path) -> Family:
    """Return the family of a checkpoint on disk or on the hub; warns when it was distilled to a few steps.

    Raises ValueError for a pipeline that nobody here knows.
    """
    folder, pipeline = released_folder(name), pipeline_of(name)
    if pipeline not in FAMILIES:
        raise ValueError(
            f"{folder} is a {pipeline or 'folder without _class_name'}; known are {', '.join(FAMILIES)}. {ADD_ONE}"
        )
    family = FAMILIES[pipeline](folder)
    named = folder.resolve().name if Path(name).is_dir() else str(name)
    if family.is_distilled or DISTILLED.search(f"{named} {family.index.get('_name_or_path', '')}"):
        family.is_distilled, family.sampler = True, family.distilled_sampler
        warnings.warn(
            f"{name} was distilled to a few steps: training moves it away from what makes them enough, and its images "
            "become generic. Take the checkpoint that it was distilled from, where there is one",
            stacklevel=2,
        )
    return family
