"""All filters with their thresholds as one value, in the order of the seven stages.

A new filter is a file in the folder of its stage and a row of `FILTERS`. Change a threshold by its name, as in
`--set clarity.least=40`; `glyphlab list filters` prints them all.
"""

from __future__ import annotations

from dataclasses import dataclass, field, make_dataclass
from typing import Any

from experiments.curation.balancing.resampling import Resampling
from experiments.curation.balancing.retrieval import Retrieval
from experiments.curation.captioner import Captioner
from experiments.curation.filters.reward_score import Scored
from experiments.curation.filters.rules import Filter
from experiments.curation.filters.stage1.aspect import Aspect
from experiments.curation.filters.stage1.broken import Broken
from experiments.curation.filters.stage1.duplicates import Duplicates
from experiments.curation.filters.stage1.file_size import FileSize
from experiments.curation.filters.stage1.misnamed import Misnamed
from experiments.curation.filters.stage1.near_duplicates import NearDuplicates
from experiments.curation.filters.stage1.nudity import Nudity
from experiments.curation.filters.stage1.repeated_text import RepeatedText
from experiments.curation.filters.stage1.resolution import Resolution
from experiments.curation.filters.stage1.safety_score import Safety
from experiments.curation.filters.stage2.busy_texture import Texture
from experiments.curation.filters.stage2.clarity import Clarity
from experiments.curation.filters.stage2.entropy import Entropy
from experiments.curation.filters.stage2.luma import Luma
from experiments.curation.filters.stage2.rotation import Rotation
from experiments.curation.filters.stage2.saturation import Saturation
from experiments.curation.filters.stage3.alignment_score import Alignment
from experiments.curation.filters.stage3.caption_garbage import CaptionGarbage
from experiments.curation.filters.stage3.caption_length import CaptionLength
from experiments.curation.filters.stage3.caption_script import CaptionScript
from experiments.curation.filters.stage3.captioned import Captioned
from experiments.curation.filters.stage4.dense_text import DenseText
from experiments.curation.filters.stage4.quoted_text import QuotedText
from experiments.curation.filters.stage4.small_text import SmallText
from experiments.curation.filters.stage5.aesthetic_score import Aesthetic
from experiments.curation.filters.stage5.bands import Bands
from experiments.curation.filters.stage5.blockiness import Blockiness
from experiments.curation.filters.stage5.codes import Codes
from experiments.curation.filters.stage5.exposure import Exposure
from experiments.curation.filters.stage5.quality_score import Quality
from experiments.curation.filters.stage5.watermark import Watermark
from experiments.curation.filters.stage6.abnormal import Abnormal
from experiments.curation.filters.stage6.blurred_face import BlurredFace
from experiments.curation.filters.stage6.category import Category
from experiments.curation.filters.stage6.model_marks import ModelMarks
from experiments.curation.filters.stage6.mosaic_face import MosaicFace
from experiments.curation.filters.stage7.balance import Balance

STAGES = {
    1: "files", 2: "image quality", 3: "images and captions", 4: "text rendering", 5: "high resolution",
    6: "categories", 7: "balance",
}  # fmt: skip
"""The seven stages of the report by their numbers."""
FILTERS: dict[str, type[Filter]] = {
    "broken": Broken,
    "misnamed": Misnamed,
    "file_size": FileSize,
    "resolution": Resolution,
    "aspect": Aspect,
    "duplicates": Duplicates,
    "near_duplicates": NearDuplicates,
    "repeated_text": RepeatedText,
    "nudity": Nudity,
    "safety": Safety,
    "rotation": Rotation,
    "luma": Luma,
    "saturation": Saturation,
    "entropy": Entropy,
    "texture": Texture,
    "clarity": Clarity,
    "captioned": Captioned,
    "caption_garbage": CaptionGarbage,
    "caption_length": CaptionLength,
    "caption_script": CaptionScript,
    "alignment": Alignment,
    "dense_text": DenseText,
    "small_text": SmallText,
    "quoted_text": QuotedText,
    "exposure": Exposure,
    "blockiness": Blockiness,
    "bands": Bands,
    "codes": Codes,
    "watermark": Watermark,
    "quality": Quality,
    "aesthetic": Aesthetic,
    "abnormal": Abnormal,
    "model_marks": ModelMarks,
    "blurred_face": BlurredFace,
    "mosaic_face": MosaicFace,
    "category": Category,
    "balance": Balance,
}
"""Every filter by the name of its settings, in the order in which they drop."""
_Thresholds: Any = make_dataclass(
    "_Thresholds", [(name, kind, field(default_factory=kind)) for name, kind in FILTERS.items()], frozen=True
)


@dataclass(frozen=True)
class Filters(_Thresholds):
    """The thresholds, a field for each of `FILTERS`. A filter drops an image that an earlier one has not dropped."""

    captioner: Captioner = field(default_factory=Captioner)
    retrieval: Retrieval = field(default_factory=Retrieval)
    resampling: Resampling = field(default_factory=Resampling)
    reading: bool = True
    """read the text of images that pass stage 3, which takes 0.1 to 0.5 s each; without it stage 4 drops nothing"""


def in_order(filters: Filters) -> dict[str, Filter]:
    """The filters by their names, in the order in which they drop."""
    return {name: getattr(filters, name) for name in FILTERS}


def rewards_of(filters: Filters) -> set[str]:
    """The rewards that images are scored by, as `--set` names them."""
    by_filters = {each.reward for each in in_order(filters).values() if isinstance(each, Scored)}
    return (by_filters | ({filters.retrieval.reward} if filters.retrieval.queries else set())) - {""}
