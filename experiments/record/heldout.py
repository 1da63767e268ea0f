"""What a run came to on images of one's own that it did not learn from, as its folder holds it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.record.results import Interval

ERRORS, IMAGE = "errors.json", "{:02}_{}.png"
"""the file of the comparison, and a file of an image by its index and what it is: one of `HeldoutImages.sides`"""
RECONSTRUCTIONS = "reconstructions.json"
"""the file of the comparison of autoencoders"""
BEFORE, AFTER, DECODED = "before", "after", "autoencoder"
ENDS = ("value", "low", "high")
SHOWN = 8
"""images that are shown with samples of their captions"""


@dataclass(frozen=True)
class HeldoutImages:
    """Flow-matching losses on held-out images, means with their intervals."""

    folder: Path
    count: int
    after: Interval
    before: Interval | None
    """of what the run began from; None where that was nothing"""
    difference: Interval | None
    """after - before, paired by image"""
    captions: tuple[str, ...]
    """of the images that are shown"""

    @property
    def verdict(self) -> str:
        """Whether the images became likelier."""
        gap = self.difference
        if gap is None or math.isnan(gap.low):
            return "too few images to tell"
        if not gap.excludes_zero:
            return "which holds 0: no change is shown"
        return "likelier than before" if gap.value < 0 else "less likely than before"

    @property
    def sides(self) -> list[str]:
        """What there is of each image that is shown: itself, what the autoencoder leaves of it, and samples."""
        names = ("image", DECODED, *([BEFORE] if self.before else []), AFTER)
        return [name for name in names if self.image(0, name).exists()]

    def image(self, index: int, what: str) -> Path:
        """The file of an image, or of a sample of its caption before or after."""
        return self.folder / IMAGE.format(index, what)


def heldout_folder(run: Path) -> Path:
    """Where a run's comparison lies."""
    return run / "evaluation" / "heldout_images"


def read_heldout(run: Path) -> HeldoutImages | None:
    """The comparison in a run's folder; None where there is none."""
    folder = heldout_folder(run)
    if not (folder / ERRORS).exists():
        return None
    content: dict[str, Any] = json.loads((folder / ERRORS).read_text(encoding="utf-8"))
    read, rows = intervals(content), content["rows"]
    captions = tuple(row["caption"] for row in rows[:SHOWN])
    return HeldoutImages(folder, len(rows), read[AFTER], read.get(BEFORE), read.get("difference"), captions)


def intervals(content: Mapping[str, Any]) -> dict[str, Interval]:
    """The intervals of a comparison: AFTER, and BEFORE and "difference" where there was something before."""
    return {
        name: Interval(*(math.nan if content[name][end] is None else content[name][end] for end in ENDS))
        for name in (AFTER, BEFORE, "difference") if content.get(name)
    }  # fmt: skip


def read_reconstructions(run: Path) -> dict[str, dict[str, Interval]] | None:
    """PSNR in dB and SSIM, "psnr" and "ssim", of held-out images in an autoencoder's run; None where there is none."""
    path = heldout_folder(run) / RECONSTRUCTIONS
    if not path.exists():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    return {name: intervals(content[name]) for name in ("psnr", "ssim")}
