"""Drops images by the codes in them that can be decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from experiments.curation.filters.rules import REPORT, AtMost


@dataclass(frozen=True)
class Codes(AtMost):
    """Images with a QR code or a barcode."""

    stage: ClassVar[int] = 5
    column: ClassVar[str] = "codes"
    unit: ClassVar[str] = "codes that can be decoded"
    group: ClassVar[str] = "codes"
    reason: ClassVar[str] = "no caption says what is in a code, and a painted one leads nowhere"
    source: ClassVar[str] = f"{REPORT}: Abnormal Element, QR and barcode"
    most: float = 0.0
