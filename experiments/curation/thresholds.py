"""All filters with their thresholds as one value, in the order of the seven stages, and the measures that they read.

Change a threshold by its name, as in `--set clarity.least=40`; `glyphlab list filters` prints them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.curation.captioner import Captioner, answer_key, described
from experiments.curation.filters import nudity
from experiments.curation.filters.nudity import Nudity
from experiments.curation.filters.rules import Filter
from experiments.curation.filters.scored import Aesthetic, Alignment, Quality, Safety, Scored, score, version_of_reward
from experiments.curation.filters.stage1_files import (
    Aspect,
    Broken,
    Duplicates,
    FileSize,
    Misnamed,
    NearDuplicates,
    RepeatedText,
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
from experiments.curation.filters.stage4_text_rendering import (
    GROUP,
    DenseText,
    QuotedText,
    SmallText,
    Watermark,
    read_text,
)
from experiments.curation.filters.stage5_high_resolution import Bands, Blockiness, Codes, Exposure, codes, details
from experiments.curation.filters.stage6_categories import Abnormal, Balance, Category, ModelMarks
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
    repeated_text: RepeatedText = field(default_factory=RepeatedText)
    nudity: Nudity = field(default_factory=Nudity)
    safety: Safety = field(default_factory=Safety)
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
    alignment: Alignment = field(default_factory=Alignment)
    dense_text: DenseText = field(default_factory=DenseText)
    small_text: SmallText = field(default_factory=SmallText)
    quoted_text: QuotedText = field(default_factory=QuotedText)
    exposure: Exposure = field(default_factory=Exposure)
    blockiness: Blockiness = field(default_factory=Blockiness)
    bands: Bands = field(default_factory=Bands)
    codes: Codes = field(default_factory=Codes)
    watermark: Watermark = field(default_factory=Watermark)
    quality: Quality = field(default_factory=Quality)
    aesthetic: Aesthetic = field(default_factory=Aesthetic)
    abnormal: Abnormal = field(default_factory=Abnormal)
    model_marks: ModelMarks = field(default_factory=ModelMarks)
    category: Category = field(default_factory=Category)
    balance: Balance = field(default_factory=Balance)
    captioner: Captioner = field(default_factory=Captioner)
    reading: bool = True
    """read the text of images that pass stage 3, which takes 0.1 to 0.5 s each; without it stage 4 drops nothing"""


def in_order(filters: Filters) -> dict[str, Filter]:
    """The filters by their names, in the order in which they drop."""
    return {name: each for name, each in vars(filters).items() if isinstance(each, Filter)}


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
    settings: tuple[Any, ...] = ()
    """what else changes them"""
    stage: int = 0
    """of a costly group: it looks only at images that no filter before this stage dropped"""
    reads_captions: bool = False
    lacking: Callable[[], str] = str
    """what is missing to measure it, "" where nothing is; the group is left out then, and its filter drops nothing"""


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
DETAILS = Measures(
    "details", 1, dict.fromkeys(("clipped", "blockiness", "bands"), "number"),
    lambda image: details(image.reduced_grey, image.grey),
)  # fmt: skip
CHEAP = (FILES, HASHES, QUALITY, DETAILS)
"""Measured of every image, all in one pass that decodes it once."""
CODES = Measures("codes", 1, {"codes": "number"}, lambda image: {"codes": float(codes(image.reduced_grey))}, stage=5)
NUDITY = Measures(
    nudity.GROUP, 1, nudity.COLUMNS, lambda image: nudity.describe_bodies(image.reduced),
    ("cv2", "numpy", "PIL", "onnxruntime"), nudity.SOURCE, stage=3, lacking=nudity.lacking,
)  # fmt: skip
TEXT = Measures(
    GROUP, 1,
    {"text_area": "number", "line_height": "number", "quoted_read": "number", "marks": "number", "read_text": "text"},
    lambda image: read_text(image.reduced, image.entry.captions), ("cv2", "numpy", "PIL", "onnxruntime"), stage=4,
    reads_captions=True,
)  # fmt: skip


def sizes(image: OpenedImage) -> dict[str, Any]:
    """What stage 1 knows of a file that can be decoded."""
    height, width = image.rgb.shape[:2]
    sides = sorted((height, width))
    return {
        "id": image.identity, "bytes": float(len(image.content)), "height": float(height), "width": float(width),
        "short_side": float(sides[0]), "aspect": sides[1] / sides[0], "broken": 0.0, "problem": "",
    }  # fmt: skip


def measures_of(filters: Filters, folder: Path = Path()) -> tuple[Measures, ...]:
    """All groups of measures that the filters read; answers of a caption model are kept in a folder."""
    scored = [scores(each) for each in in_order(filters).values() if isinstance(each, Scored) and each.reward]
    descriptions_of = [descriptions(filters.captioner, folder)] if filters.captioner.url else []
    bodies = [NUDITY] if filters.nudity.bounds() else []
    texts = [TEXT] if filters.reading else []
    return (*CHEAP, *bodies, *texts, CODES, *scored, *descriptions_of)


def descriptions(captioner: Captioner, folder: Path) -> Measures:
    """What a caption model says of images that passed the first five stages."""
    texts = dict.fromkeys(("model_caption", "image_type", "image_style"), "text")
    numbers = dict.fromkeys(("model_marks", "abnormal", "caption_read"), "number")
    return Measures(
        "described", 1, {**texts, **numbers}, lambda image: described(captioner, folder, image),
        settings=(answer_key(captioner),), stage=6,
    )  # fmt: skip


def scores(each: Scored) -> Measures:
    """The measures of a filter by a reward, of images that no cheaper filter dropped."""
    reward = each.reward
    return Measures(
        each.group, 1, {each.column: "number"},
        lambda image: {each.column: score(reward, image.rgb, image.entry.captions)},
        settings=tuple(version_of_reward(reward)), stage=max(each.stage, 2), reads_captions=True,
    )  # fmt: skip
