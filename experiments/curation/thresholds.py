"""All filters with their thresholds as one value, in the order of the seven stages, and the measures that they read.

Change a threshold by its name, as in `--set clarity.least=40`; `glyphlab list filters` prints them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from experiments.curation.filters.rules import Filter
from experiments.curation.filters.stage1_files import (
    Aspect,
    Broken,
    Duplicates,
    FileSize,
    Misnamed,
    NearDuplicates,
    Resolution,
    hashes,
)
from experiments.curation.filters.stage2_image_quality import (
    Clarity,
    Entropy,
    Luma,
    Rotation,
    Saturation,
    Texture,
    quality,
)
from experiments.curation.filters.stage3_captions import (
    Captioned,
    CaptionGarbage,
    CaptionLength,
    CaptionScript,
)
from experiments.curation.opened_image import OpenedImage

STAGES = {
    1: "files", 2: "image quality", 3: "images and captions", 4: "text rendering", 5: "high resolution",
    6: "categories", 7: "balance",
}  # fmt: skip
"""The seven stages of the report by their numbers."""


@dataclass(frozen=True)
class Filters:
    """The thresholds. A filter drops an image that an earlier one has not dropped."""

    broken: Broken = field(default_factory=Broken)
    misnamed: Misnamed = field(default_factory=Misnamed)
    file_size: FileSize = field(default_factory=FileSize)
    resolution: Resolution = field(default_factory=Resolution)
    aspect: Aspect = field(default_factory=Aspect)
    duplicates: Duplicates = field(default_factory=Duplicates)
    near_duplicates: NearDuplicates = field(default_factory=NearDuplicates)
    rotation: Rotation = field(default_factory=Rotation)
    luma: Luma = field(default_factory=Luma)
    saturation: Saturation = field(default_factory=Saturation)
    entropy: Entropy = field(default_factory=Entropy)
    texture: Texture = field(default_factory=Texture)
    clarity: Clarity = field(default_factory=Clarity)
    captioned: Captioned = field(default_factory=Captioned)
    caption_garbage: CaptionGarbage = field(default_factory=CaptionGarbage)
    caption_length: CaptionLength = field(default_factory=CaptionLength)
    caption_script: CaptionScript = field(default_factory=CaptionScript)


def in_order(filters: Filters) -> dict[str, Filter]:
    """The filters by their names, in the order in which they drop."""
    return {
        "broken": filters.broken,
        "misnamed": filters.misnamed,
        "file_size": filters.file_size,
        "resolution": filters.resolution,
        "aspect": filters.aspect,
        "duplicates": filters.duplicates,
        "near_duplicates": filters.near_duplicates,
        "rotation": filters.rotation,
        "luma": filters.luma,
        "saturation": filters.saturation,
        "entropy": filters.entropy,
        "texture": filters.texture,
        "clarity": filters.clarity,
        "captioned": filters.captioned,
        "caption_garbage": filters.caption_garbage,
        "caption_length": filters.caption_length,
        "caption_script": filters.caption_script,
    }


@dataclass(frozen=True)
class Measures:
    """A function from an opened image to numbers, under one version. Raise it when the same image gives others."""

    name: str
    version: int
    columns: Mapping[str, str]
    """name of a column -> number, bits, flag or text"""
    measure: Callable[[OpenedImage], Mapping[str, Any]]
    libraries: tuple[str, ...] = ("cv2", "numpy", "PIL")
    """modules whose versions change the numbers"""
    stage: int = 0
    """of a costly group: it looks only at images that no filter before this stage dropped"""
    reads_captions: bool = False


FILES = Measures(
    "files", 1,
    {"id": "text", "bytes": "number", "height": "number", "width": "number", "short_side": "number",
     "aspect": "number", "broken": "number", "problem": "text", "ending": "text", "misnamed": "number",
     "turned": "number"},
    lambda image: {**sizes(image), **image.head()}, ("PIL",),
)  # fmt: skip
HASHES = Measures(
    "hashes",
    1,
    {"phash": "bits", "dhash": "bits", "colours": "text", "hashed": "flag"},
    lambda image: hashes(image.reduced, image.reduced_grey),
)
QUALITY = Measures(
    "quality", 1, dict.fromkeys(("luma", "saturation", "entropy", "clarity", "texture"), "number"),
    lambda image: quality(image.reduced, image.reduced_grey),
)  # fmt: skip
CHEAP = (FILES, HASHES, QUALITY)
"""Measured of every image, all in one pass that decodes it once."""


def sizes(image: OpenedImage) -> dict[str, Any]:
    """What stage 1 knows of a file that can be decoded."""
    height, width = image.rgb.shape[:2]
    sides = sorted((height, width))
    return {
        "id": image.identity, "bytes": float(len(image.content)), "height": float(height), "width": float(width),
        "short_side": float(sides[0]), "aspect": sides[1] / sides[0], "broken": 0.0, "problem": "",
    }  # fmt: skip


def measures_of(filters: Filters) -> tuple[Measures, ...]:
    """All groups of measures that the filters read."""
    return CHEAP
