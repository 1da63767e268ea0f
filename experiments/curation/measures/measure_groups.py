"""The groups of measures that the filters read: what makes each, under which version, and when it is made.

Measuring opens images and knows no threshold, so another threshold measures nothing again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.curation.balancing.retrieval import Retrieval
from experiments.curation.captioner import Captioner, answer_key, answered, described
from experiments.curation.filters.reward_score import Scored
from experiments.curation.measures import body_detector, text_reading
from experiments.curation.measures.image_defects import codes, details
from experiments.curation.measures.image_hashes import hashes
from experiments.curation.measures.image_statistics import quality
from experiments.curation.measures.reward_scores import score, version_of_reward
from experiments.curation.opened_image import OpenedImage
from experiments.curation.thresholds import Filters, in_order


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
    ahead: Callable[[Sequence[OpenedImage]], Sequence[Exception | None]] | None = None
    """does for `batch` images together what `measure` then finds done; what went wrong with each. It holds a large
    model, so the calling process alone measures such a group"""
    batch: int = 1


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
    body_detector.GROUP, 2, body_detector.COLUMNS, lambda image: body_detector.describe_bodies(image.reduced),
    ("cv2", "numpy", "PIL", "onnxruntime"), body_detector.SOURCE, stage=3, lacking=body_detector.lacking,
)  # fmt: skip
TEXT = Measures(
    text_reading.GROUP, 1,
    {"text_area": "number", "line_height": "number", "quoted_read": "number", "marks": "number", "read_text": "text"},
    lambda image: text_reading.read_text(image.reduced, image.entry.captions),
    ("cv2", "numpy", "PIL", "onnxruntime"), stage=4, reads_captions=True,
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
    descriptions_of = [descriptions(filters.captioner, folder)] if filters.captioner.writes else []
    bodies = [NUDITY] if filters.nudity.bounds() else []
    texts = [TEXT] if filters.reading else []
    likeness = [likenesses(filters.retrieval)] if filters.retrieval.queries and filters.retrieval.reward else []
    return (*CHEAP, *bodies, *texts, CODES, *scored, *descriptions_of, *likeness)


def likenesses(retrieval: Retrieval) -> Measures:
    """How like an image is to the query that it is most like, of images that passed the first five stages."""
    reward, queries = retrieval.reward, retrieval.queries
    return Measures(
        "likeness", 1, {"likeness": "number"},
        lambda image: {"likeness": max(score(reward, image.rgb, [query]) for query in queries)},
        settings=(*version_of_reward(reward), *queries), stage=6,
    )  # fmt: skip


def descriptions(captioner: Captioner, folder: Path) -> Measures:
    """What a caption model says of images that passed the first five stages."""
    texts = dict.fromkeys(("model_caption", "image_type", "image_style"), "text")
    numbers = dict.fromkeys(("model_marks", "abnormal", "caption_read"), "number")
    return Measures(
        "described", 1, {**texts, **numbers}, lambda image: described(captioner, folder, image),
        settings=(answer_key(captioner),), stage=6, batch=captioner.batch,
        ahead=(lambda images: answered(captioner, folder, images)) if captioner.weights else None,
    )  # fmt: skip


def scores(each: Scored) -> Measures:
    """The measures of a filter by a reward, of images that no cheaper filter dropped."""
    reward = each.reward
    return Measures(
        each.group, 1, {each.column: "number"},
        lambda image: {each.column: score(reward, image.rgb, image.entry.captions)},
        settings=tuple(version_of_reward(reward)), stage=max(each.stage, 2), reads_captions=True,
    )  # fmt: skip
