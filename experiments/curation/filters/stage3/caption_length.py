"""Drops captions by the number of their words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from experiments.curation.filters.rules import REPORT, Between


@dataclass(frozen=True)
class CaptionLength(Between):
    """Captions that say nothing, or more than a text encoder reads."""

    stage: ClassVar[int] = 3
    column: ClassVar[str] = "words"
    unit: ClassVar[str] = "words; a Chinese or Japanese character counts as one"
    reason: ClassVar[str] = "encoders cut at 512 tokens, which is about 400 words; what is cut off was never seen"
    source: ClassVar[str] = f"{REPORT}: Token Length"
    rendered: ClassVar[bool] = True
    of_captions: ClassVar[bool] = True
    least: float = 1.0
    most: float = 400.0
